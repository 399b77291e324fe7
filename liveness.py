"""Is a silent stream dead, or is its market quiet? Judged by data, never by pings.

A symbol from which nothing has come for SILENCE_S is held against what REST knows. Where REST has
newer trades, the stream is dead: they are fetched at once, and for as long as it lasts, and the
connection is opened anew — beside the present one, if that still brings other symbols.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from feeds.binance_rest import PROBE_TIMEOUT_S, BinanceRest, RestError
from feeds.binance_stream import TradeStream
from market import Trade
from repair import Repair
from storage.errors import DATABASE_ERRORS

log = logging.getLogger("liveness")

SILENCE_S = 5.0  # a stream this quiet is held against what REST knows
BLIND_S = 20.0  # silent this long while REST does not answer either: connect anew
NEVER = 2**63  # no frame is fresh while there is no connection
LONGEST_S = 60.0  # between two looks at a quiet market, and between two new connections


@dataclass
class Watched:
    """What the daemon knows of one symbol's stream. Times are monotonic seconds."""

    last_data: float = 0.0
    fresh_from: int = 0  # frames before this one came through a connection that is gone
    high_id: int = -1
    last_us: int = 0  # the newest trade's time
    lead_us: int | None = None  # what its clock is ahead of ours at least, by when trades came
    state: str = "starting"
    detail: str = ""
    probed: float = 0.0
    probe_every: float = SILENCE_S
    probing: bool = False
    renewed: float = 0.0
    renew_every: float = SILENCE_S

    def heard(self, trade: Trade, frame: int, now: float) -> None:
        """A trade has come in the `frame`-th frame received. One that waited in the queue while
        its connection ended proves nothing about the present one."""
        self.high_id = max(self.high_id, trade.trade_id)
        self.last_us = max(self.last_us, trade.ts_us)
        if frame >= self.fresh_from:
            lead_us = trade.ts_us - trade.received_us
            self.lead_us = lead_us if self.lead_us is None else max(self.lead_us, lead_us)
            self.last_data = now
            self.probe_every = self.renew_every = SILENCE_S
            self.state, self.detail = "live", ""


class Liveness:
    """Watches the symbols of some connections. `stalled_s` tells how long the database has kept
    the writer waiting: what has arrived meanwhile is not yet known, and no stream is judged."""

    def __init__(
        self,
        watched: Mapping[str, Watched],
        streams: Sequence[TradeStream],
        rest: BinanceRest,
        repair: Repair,
        stalled_s: Callable[[], float],
    ) -> None:
        self._watched = watched
        self._streams = streams
        self._rest = rest
        self._repair = repair
        self._stalled_s = stalled_s
        self._began_ms = time.time_ns() // 60_000_000_000 * 60_000

    async def run(self) -> None:
        """Look at every silent stream, until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                await asyncio.sleep(0.5)
                if self._stalled_s() > 1.0:
                    continue
                now = time.monotonic()
                for connection in self._streams:
                    for symbol in connection.symbols:
                        if self._due(connection, symbol, now):
                            probes.create_task(self._probe(connection, symbol))

    def _silent_s(self, connection: TradeStream, symbol: str) -> float:
        """Seconds without data, of those that the connection has been there."""
        if not connection.connected_at:
            return 0.0
        last = max(self._watched[symbol].last_data, connection.connected_at)
        return time.monotonic() - last

    def _due(self, connection: TradeStream, symbol: str, now: float) -> bool:
        stream = self._watched[symbol]
        if stream.probing or self._silent_s(connection, symbol) <= SILENCE_S:
            return False
        if now - stream.probed <= stream.probe_every:
            return False
        stream.probed, stream.probing = now, True
        return True

    async def _probe(self, connection: TradeStream, symbol: str) -> None:
        stream = self._watched[symbol]
        heard, silent = stream.last_data, self._silent_s(connection, symbol)
        try:
            try:
                # The time-out holds for a pause of REST as well: what is unknown is told in time.
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    latest = await self._rest.latest_id(symbol)
            except (RestError, TimeoutError) as error:
                if stream.last_data == heard:
                    why = str(error) or "no answer in time"
                    await self._blind(connection, stream, f"silent for {silent:.0f} s; REST: {why}")
                return
            if stream.last_data != heard:
                return
            if latest is None or latest <= stream.high_id:
                stream.state, stream.detail = "quiet", f"no trade for {silent:.0f} s"
                stream.probe_every = min(LONGEST_S, stream.probe_every * 2)
                return
            await self._dead(connection, symbol, silent, latest)
        except (RestError, *DATABASE_ERRORS) as error:
            log.warning('catch_up_failed symbol=%s reason="%s"', symbol, error)
        finally:
            stream.probing = False

    async def _blind(self, connection: TradeStream, stream: Watched, why: str) -> None:
        """Neither the stream nor REST says anything: it may be the connection."""
        stream.state, stream.detail = "stale", why
        if self._all_silent(connection, BLIND_S):
            await self._renew(connection, stream, why)

    async def _dead(self, connection: TradeStream, symbol: str, silent: float, latest: int) -> None:
        stream = self._watched[symbol]
        stream.state = "stale"
        stream.detail = f"silent for {silent:.0f} s while the exchange has newer trades"
        stream.probe_every = SILENCE_S
        log.warning('stale symbol=%s detail="%s"', symbol, stream.detail)
        await self._renew(connection, stream, stream.detail)
        if stream.high_id < 0:  # not one trade so far: the record begins with REST's
            first = await self._rest.first_id_since(symbol, self._began_ms)
            stream.high_id = await self._repair.begin(symbol, latest if first is None else first)
        newest = await self._repair.catch_up(symbol, stream.high_id)
        stream.high_id = max(stream.high_id, newest)

    def _all_silent(self, connection: TradeStream, seconds: float) -> bool:
        return all(self._silent_s(connection, symbol) > seconds for symbol in connection.symbols)

    async def _renew(self, connection: TradeStream, stream: Watched, why: str) -> None:
        """A new connection: instead of one that is silent altogether, beside one that is not.
        More and more rarely where it does not help."""
        now = time.monotonic()
        if now - stream.renewed < stream.renew_every:
            return
        stream.renewed, stream.renew_every = now, min(LONGEST_S, stream.renew_every * 2)
        if self._all_silent(connection, SILENCE_S):
            await connection.reconnect(why)
        else:
            connection.renew()
