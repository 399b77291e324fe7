"""Is a silent stream dead, or is its market quiet? Judged by data, never by pings.

A symbol from which nothing has come for a while is held against what REST knows. Where REST has
newer trades, the stream is dead: they are fetched at once, and for as long as it lasts, and the
connection is opened anew — beside the present one, if that still brings other symbols.

How long a silence is normal is learned per symbol. A look costs little: the newest minutes that
REST tells have to hold the trades that came, and only where they do not is the newest id asked
for. Looks have a small share of the weight; where more symbols are silent than it allows, all are
looked at less often, the most unusual silence first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pairs.feeds.binance.budget import FIRST, PROBE, Kind
from pairs.feeds.binance.rest import (
    NEWEST_BARS,
    PROBE_TIMEOUT_S,
    SIDE_BY_SIDE,
    BinanceRest,
    NoRoomError,
    RestError,
)
from pairs.feeds.binance.stream import TradeStream
from pairs.ingest.renumbered import counts_anew, reason
from pairs.ingest.repair import Repair
from pairs.market import Trade
from pairs.messages import one_line
from pairs.storage.errors import DATABASE_ERRORS

log = logging.getLogger("liveness")

SILENCE_S = 5.0  # a stream this quiet is held against what REST knows, whatever is usual
FIRST_S = 2.0  # of a new connection: what REST knows now is where its silence begins
USUAL = 20  # a stream usually heard much more often is looked at this many pauses later
LOOK_S = 4.0  # between two looks at a silent one, at least
LOOKED = 0.8  # of the probes' share, for looks at the bars of silent ones; the rest asks by id
GRACE_S = 1.0  # what REST tells already may still be on its way here, or in the queue
BLIND_S = 20.0  # silent this long while REST does not answer either: connect anew
MINUTE_US = 60_000_000
KEPT_BARS = 10  # minutes; a look tells fewer
NEVER = 2**63  # no frame is fresh while there is no connection
CONFLICTS = 20  # known ids in a row that are told as other trades
LONGEST_S = 60.0  # between two new connections


@dataclass
class StreamState:
    """What the daemon knows of one symbol's stream. Times are monotonic seconds."""

    last_data: float = 0.0
    pause_s: float = SILENCE_S  # usual between two batches with a trade of it
    first_us: int | None = None  # the exchange's time of the first trade heard
    since_ms: int | None = None  # where a new record begins, by the exchange's time
    fresh_from: int = 0  # frames before this one came through a connection that is gone
    high_id: int = -1
    last_us: int = 0  # the newest trade's time
    lead_us: int | None = None  # what its clock is ahead of ours at least, by when trades came
    state: str = "starting"
    detail: str = ""
    conflicts: set[int] = field(default_factory=set)  # known ids told otherwise, and none else
    halted: str = ""  # why nothing of it is taken any more
    halt_noted: bool = False  # and that stands in the database
    asked_anew: float = 0.0  # whether its ids have begun anew
    settled: bool = False  # it is known where the silence of this connection begins
    probed: float = 0.0
    probing: bool = False
    quiet_s: float = 0.0  # the longest silence since its last trade that REST has confirmed
    bars: dict[int, int] | None = None  # the newest minutes and their trades, as far as known
    dead_at: float = 0.0  # when its stream was last found dead; 0: it has been heard since
    renewed: float = 0.0
    renew_every: float = SILENCE_S

    def heard(self, trade: Trade, frame: int, now: float) -> None:
        """A trade has come in the `frame`-th frame received. One that waited in the queue while
        its connection ended proves nothing about the present one."""
        self.last_us = max(self.last_us, trade.ts_us)
        if self.first_us is None:
            self.first_us = trade.ts_us
        if frame >= self.fresh_from:
            lead_us = trade.ts_us - trade.received_us
            self.lead_us = lead_us if self.lead_us is None else max(self.lead_us, lead_us)
            if self.bars is not None and trade.trade_id > self.high_id:
                minute = trade.ts_us // MINUTE_US * MINUTE_US
                self.bars[minute] = self.bars.get(minute, 0) + trade.trades
                if len(self.bars) > KEPT_BARS:
                    del self.bars[min(self.bars)]
        self.record_trade(trade.trade_id, frame, now)

    def record_trade(self, trade_id: int, frame: int, now: float) -> None:
        """An id has come, of a trade or of none: the stream lives."""
        self.high_id = max(self.high_id, trade_id)
        if frame < self.fresh_from:
            return
        if now > self.last_data:
            self.pause_s += 0.1 * (min(now - self.last_data, 60.0) - self.pause_s)
            self.last_data, self.renew_every, self.dead_at = now, SILENCE_S, 0.0
            self.settled, self.quiet_s = True, 0.0
            self.state, self.detail = "live", ""

    def connected(self, frame: int) -> None:
        """Frames from here on come through a new connection."""
        self.fresh_from, self.settled, self.bars = frame, False, None
        self.probed = 0.0
        if self.state == "disconnected":
            self.state, self.detail = "starting", "connected, no trade yet"

    def halt(self, symbol: str, why: str) -> None:
        """Take nothing more of the symbol: its record and what comes now do not belong together."""
        if not self.halted:
            self.halted = why
            log.error('ids_began_anew symbol=%s detail="%s"', symbol, why)

    def differed(self, symbol: str, ids: set[int], others: bool) -> None:
        """Of a batch these ids are stored as other trades, and `others` are new or as they are
        stored: a run of nothing but the former is another count of ids."""
        self.conflicts = ids if others else self.conflicts | ids
        if len(self.conflicts) >= CONFLICTS:
            what = f"ids {min(self.conflicts)} to {max(self.conflicts)} are other trades now"
            self.halt(symbol, reason(symbol, what))

    def unusual(self, silent_s: float) -> float:
        """How unusual a silence is by what was learned of this market: its pauses, and silences
        that REST has confirmed."""
        return silent_s / max(self.pause_s, self.quiet_s)

    @property
    def kind(self) -> Kind:
        """How a look at it is counted: what was missed before a connection comes first."""
        return PROBE if self.settled else FIRST

    def patience_s(self) -> float:
        """How long it may be silent before it is looked at."""
        if not self.settled:
            return FIRST_S
        return min(SILENCE_S, max(FIRST_S, USUAL * self.pause_s))


class Liveness:
    """Watches the symbols of some connections. `stalled_s` tells how long the database has kept
    the writer waiting: what has arrived meanwhile is not yet known, and no stream is judged."""

    def __init__(
        self,
        watched: Mapping[str, StreamState],
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
        self._mute_at = self._heard_at = -LOOK_S  # when REST did not answer last, and when it did
        self._mute_why = ""
        share = LOOKED * PROBE.own * rest.protocol.weight_per_minute
        self._each_s = 60.0 * rest.protocol.weight("klines", NEWEST_BARS) / share
        self._look_s = LOOK_S

    async def run(self) -> None:
        """Look at every silent stream, until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                await asyncio.sleep(0.5)
                if self._stalled_s() > 1.0:
                    continue
                now = time.monotonic()
                # No more than REST is asked side by side and the weight allows: a probe's time
                # must not run out while it waits for its turn.
                free = SIDE_BY_SIDE[PROBE] - sum(s.probing for s in self._watched.values())
                under_way = Counter(s.kind for s in self._watched.values() if s.probing)
                for connection, symbol in self._due(now):
                    stream = self._watched[symbol]
                    if free > 0 and self._rest.has_room(stream.kind, under_way[stream.kind] + 1):
                        free -= 1
                        under_way[stream.kind] += 1
                        stream.probed, stream.probing = now, True
                        probes.create_task(self._probe(connection, symbol))
                    elif self._heard_at < self._mute_at and now - self._mute_at < LOOK_S:
                        # It would not answer for this one either.
                        stream.probed = now
                        await self._blind(connection, symbol, self._mute_why)

    def _due(self, now: float) -> list[tuple[TradeStream, str]]:
        """What is to be looked at now, the most unusual silence first."""
        silent = [
            (self._watched[symbol].unusual(silent_s), connection, symbol)
            for connection in self._streams
            for symbol in connection.symbols
            if not self._watched[symbol].halted
            and (silent_s := self._silent_s(connection, symbol))
            > self._watched[symbol].patience_s()
        ]
        # All of them within the share, evenly: none waits for a minute's end that others used up.
        self._look_s = max(LOOK_S, self._each_s * len(silent))
        due = [one for one in silent if self._is_due(self._watched[one[2]], now)]
        due.sort(key=lambda one: -one[0])
        return [(connection, symbol) for _, connection, symbol in due]

    def _is_due(self, stream: StreamState, now: float) -> bool:
        pause_s = LOOK_S if stream.bars is None else self._look_s
        return not stream.probing and now - stream.probed >= pause_s

    def _silent_s(self, connection: TradeStream, symbol: str) -> float:
        """Seconds without data, of those that the connection has been there."""
        if not connection.connected_at:
            return 0.0
        last = max(self._watched[symbol].last_data, connection.connected_at)
        return time.monotonic() - last

    async def _probe(self, connection: TradeStream, symbol: str) -> None:
        stream = self._watched[symbol]
        heard, silent = stream.last_data, self._silent_s(connection, symbol)
        try:
            try:
                # The time-out holds for a pause of REST as well: what is unknown is told in time.
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    told = await self._told_bars(symbol)
                    if told is not None and agree(stream.bars, told):
                        if stream.last_data == heard:
                            self._confirmed(connection, stream, silent)
                        return
                    latest = await self._rest.latest_id(symbol, stream.kind)
                self._heard_at = time.monotonic()
            except NoRoomError:
                return  # its turn comes: nothing is known, and nothing said
            except (RestError, TimeoutError) as error:
                self._mute_at = time.monotonic()
                late = isinstance(error, TimeoutError)
                self._mute_why = "no answer in time" if late else one_line(error)
                if stream.last_data == heard:
                    await self._blind(connection, symbol, self._mute_why)
                return
            stream.bars = None
            if latest is not None and latest > stream.high_id:
                await asyncio.sleep(GRACE_S)
            if stream.last_data == heard:
                if stream.high_id == (-1 if latest is None else latest):
                    stream.bars = told  # what they hold is all there was
                await self._judge(connection, symbol, silent, latest)
        except (RestError, *DATABASE_ERRORS) as error:
            log.warning('catch_up_failed symbol=%s reason="%s"', symbol, error)
        finally:
            stream.probing = False

    async def _told_bars(self, symbol: str) -> dict[int, int] | None:
        """The newest minutes and their trades by REST: a fraction of the weight of asking for ids.
        None where klines are not to be had."""
        try:
            newest = await self._rest.newest_klines(symbol, 60, self._watched[symbol].kind)
        except NoRoomError:
            raise
        except RestError as error:
            log.debug('no_bars symbol=%s reason="%s"', symbol, error)
            return None
        self._heard_at = time.monotonic()
        return {kline.ts_us: kline.trades for kline in newest}

    def _confirmed(self, connection: TradeStream, stream: StreamState, silent: float) -> None:
        """REST knows nothing that has not come."""
        stream.settled = True
        stream.quiet_s = max(stream.quiet_s, silent)
        if stream.dead_at > connection.connected_at:
            return  # fetched over REST; nothing has shown that the stream lives again
        if silent > SILENCE_S or stream.state != "live":
            stream.state, stream.detail = "quiet", f"no trade for {silent:.0f} s"

    async def _judge(
        self, connection: TradeStream, symbol: str, silent: float, latest: int | None
    ) -> None:
        """What it means that `latest` is the newest id that REST tells."""
        stream = self._watched[symbol]
        if latest is not None and latest < stream.high_id:
            _, why = await counts_anew(self._rest, symbol, stream.high_id, stream.last_us)
            if why:
                stream.halt(symbol, why)
                return
        if latest is not None and latest > stream.high_id:
            if stream.settled:
                await self._dead(connection, symbol, silent, latest)
                return
            # Printed before this connection was there, perhaps: no verdict, but no hole either.
            await self._catch_up(symbol, latest)
        self._confirmed(connection, stream, silent)

    async def _catch_up(self, symbol: str, latest: int) -> None:
        stream = self._watched[symbol]
        if stream.high_id < 0:  # no record yet
            first = None
            if stream.since_ms is not None:
                first = await self._rest.first_id_since(symbol, stream.since_ms)
            if first is None:
                stream.high_id = latest  # it begins with the next trade
                return
            stream.high_id = await self._repair.begin(symbol, first)
        newest = await self._repair.catch_up(symbol, stream.high_id, latest)
        stream.high_id = max(stream.high_id, newest)

    async def _blind(self, connection: TradeStream, symbol: str, why: str) -> None:
        """Neither the stream nor REST says anything: it may be the connection."""
        stream, silent = self._watched[symbol], self._silent_s(connection, symbol)
        if silent <= SILENCE_S:
            return
        stream.state = "stale"
        stream.detail = f"silent for {silent:.0f} s; REST: {why}"
        if self._all_silent(connection, BLIND_S):
            await self._renew(connection, stream, stream.detail)

    async def _dead(self, connection: TradeStream, symbol: str, silent: float, latest: int) -> None:
        stream = self._watched[symbol]
        stream.state, stream.dead_at = "stale", time.monotonic()
        stream.detail = f"silent for {silent:.0f} s while the exchange has newer trades"
        log.warning('stale symbol=%s detail="%s"', symbol, stream.detail)
        await self._renew(connection, stream, stream.detail)
        await self._catch_up(symbol, latest)

    def _all_silent(self, connection: TradeStream, seconds: float) -> bool:
        return all(self._silent_s(connection, symbol) > seconds for symbol in connection.symbols)

    async def _renew(self, connection: TradeStream, stream: StreamState, why: str) -> None:
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


def agree(known: Mapping[int, int] | None, told: Mapping[int, int]) -> bool:
    """Whether the minutes that REST tells hold the trades that are known, no more and no less. None
    is known: no. What began before the first known minute says nothing."""
    if known is None or bool(known) != bool(told):
        return False
    if not told:
        return True
    if min(told) > max(known):
        return False  # what lies between is not known
    since = max(min(known), min(told))
    minutes = {minute for minute in (*known, *told) if minute >= since}
    return all(known.get(minute, 0) == told.get(minute, 0) for minute in minutes)
