"""The ingestion daemon: exchange → bounded queue → batch → store, losing no trade.

python ingest_websocket.py [--symbols BTCUSDT,ETHUSDT] [--market spot|usdm]
                           [--feed auto|binance|local]

One task reads frames and only stamps and queues them; one writes them in batches. Whatever is
missed in between — a lost connection, a full queue, a killed process — shows as a jump of the
trade ids, becomes a row in the gap table and is repaired by id over REST. Startup is the
recovery path.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg2
from sqlalchemy.exc import SQLAlchemyError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from database_utils import Database, StoreError, one_line, open_database, open_store
from feeds.backoff import backoff
from feeds.binance import MAX_FRAME_BYTES, Control, parse, stream_url
from feeds.binance_rest import BinanceRest, RestError
from feeds.local import LocalExchange, LocalExchangeError
from history import begin_records, fetch_history
from market import Rejected, Trade, Venue
from repair import DATABASE_ERRORS, Repair
from settings import Settings, SettingsError, load_settings, read_environment
from storage.maintenance import prune
from storage.ownership import Ownership
from storage.postgres import PostgresStore

log = logging.getLogger("ingest")

QUEUE_FRAMES = 200_000  # two minutes of the busiest market; at most some 100 MB
BATCH_FRAMES = 20_000
SILENCE_S = 5.0  # a stream this quiet is held against what REST knows
SETTLED_S = 30.0  # a connection that lived this long starts with short waits again
PRUNE_EVERY_S = 3600.0
DRAIN_S = 15.0


@dataclass
class Stream:
    """What the daemon knows of one symbol's stream. Times are monotonic seconds."""

    last_data: float = 0.0
    high_id: int = -1
    probed: float = 0.0
    probe_every: float = SILENCE_S
    state: str = "starting"
    detail: str = ""

    def heard(self, trade_id: int) -> None:
        self.last_data = time.monotonic()
        self.high_id = max(self.high_id, trade_id)
        self.probe_every = SILENCE_S
        self.state, self.detail = "live", ""


@dataclass
class Feed:
    """Where the trades come from: addresses, the venue they are stored under, and the reason."""

    venue: Venue
    ws_url: str
    rest_url: str
    note: str = ""
    local: LocalExchange | None = None


@dataclass
class Daemon:
    """The tasks of one feed. `run` returns after `stop` is set and the queue is written."""

    feed: Feed
    store: PostgresStore
    settings: Settings
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.streams = {symbol: Stream() for symbol in self.settings.symbols}
        self._queue: deque[tuple[int, str | bytes]] = deque()
        self._arrived = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._connected_at = 0.0
        self._reading = True
        self._rng = random.Random()  # noqa: S311 - jitter, not cryptography
        self.rest = BinanceRest(self.feed.rest_url)
        self.repair = Repair(self.store, self.rest, self.feed.venue)

    async def run(self) -> None:
        """Own the symbols, ingest until `stop`, then write what is queued."""
        async with self.rest:
            ownership = await self._own()
            if ownership is None:
                return
            try:
                await self._begin()
                await self._ingest(ownership)
            finally:
                await asyncio.to_thread(ownership.close)

    async def _ingest(self, ownership: Ownership) -> None:
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        others = [
            asyncio.create_task(task)
            for task in (
                self._heartbeat(ownership), self._watch(), self._retention(),
                fetch_history(self.store, self.rest, self.feed.venue, list(self.streams),
                              self.settings.history_hours),
                *(self.repair.watch(symbol) for symbol in self.streams),
            )
        ]  # fmt: skip
        stopped = asyncio.create_task(self.stop.wait())
        done, _ = await asyncio.wait(
            {stopped, reader, writer, *others[:2]}, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (reader, stopped, *others):
            task.cancel()
        await asyncio.gather(reader, stopped, *others, return_exceptions=True)
        self._reading = False
        self._arrived.set()
        await asyncio.wait({writer}, timeout=DRAIN_S)
        if not writer.done():
            writer.cancel()
            log.error(
                "the database did not take the last %d frames within %.0f s; the next start "
                "repairs them by id", len(self._queue), DRAIN_S,
            )  # fmt: skip
        await asyncio.gather(writer, return_exceptions=True)
        await self._say_stopped(ownership)
        for task in done - {stopped}:
            task.result()  # a task that ended by itself ended by an error: let it out

    # -- start

    async def _own(self) -> Ownership | None:
        """Wait until no other daemon ingests these symbols; None when told to stop first."""
        told = False
        while not self.stop.is_set():
            ownership = await asyncio.to_thread(Ownership, self.store.connect, self.feed.venue)
            taken = await asyncio.to_thread(ownership.claim, list(self.streams))
            if not taken:
                return ownership
            await asyncio.to_thread(ownership.close)
            if not told:
                names = ", ".join(taken)
                log.warning("another daemon ingests %s of %s: waiting", names, self.feed.venue)
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), 1.0)
        return None

    async def _begin(self) -> None:
        known = await begin_records(self.store, self.rest, self.feed.venue, self.streams)
        if not known:
            raise StoreError(
                f"the exchange knows none of {', '.join(self.streams)}: correct SYMBOLS"
            )
        for symbol, stream in self.streams.items():
            if symbol not in known:
                stream.state, stream.detail = "stale", "the exchange does not know this symbol"
            stream.high_id = known.get(symbol) or -1

    # -- the path of a trade

    async def _read(self) -> None:
        """Keep a connection and queue every frame with the time of its arrival."""
        waits = backoff(self._rng)
        while True:
            why = "the exchange closed the connection"
            try:
                if self.feed.local is not None:
                    await self.feed.local.ensure()
                async with self._connect() as self._socket:
                    log.info("connected to %s", self.feed.ws_url)
                    self._connected_at = time.monotonic()
                    why = await self._receive(self._socket) or why
            except (OSError, TimeoutError, WebSocketException, LocalExchangeError) as error:
                why = describe(error)
            finally:
                self._socket = None
            if self._connected_at and time.monotonic() - self._connected_at > SETTLED_S:
                waits = backoff(self._rng)
            self._connected_at = 0.0
            wait = next(waits)
            log.warning("disconnected: %s; next attempt in %.1f s", why, wait)
            for stream in self.streams.values():
                stream.state, stream.detail = "disconnected", why
            await asyncio.sleep(wait)
            while len(self._queue) > QUEUE_FRAMES // 2:  # noqa: ASYNC110 - rare, and no hurry
                await asyncio.sleep(0.1)

    def _connect(self) -> connect:
        loopback = any(host in self.feed.ws_url for host in ("//127.", "//localhost", "//[::1]"))
        return connect(
            stream_url(self.feed.ws_url, self.streams),
            compression=None,
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,  # liveness is judged by data, in _watch
            max_size=MAX_FRAME_BYTES,
            proxy=None if loopback else True,
        )

    async def _receive(self, socket: ClientConnection) -> str | None:
        async for frame in socket:
            self._queue.append((time.time_ns() // 1000, frame))
            self._arrived.set()
            if len(self._queue) >= QUEUE_FRAMES:
                return f"{QUEUE_FRAMES} frames wait for the database; repairing by id later"
        return None

    async def _write(self) -> None:
        """Write the queued frames every FLUSH_MS, until reading has ended and all is written."""
        while self._reading or self._queue:
            await self._arrived.wait()
            if self._reading:
                await asyncio.sleep(self.settings.flush_ms / 1000)
            self._arrived.clear()
            while self._queue:
                count = min(BATCH_FRAMES, len(self._queue))
                trades, rejected = self._parsed(self._queue.popleft() for _ in range(count))
                await self._store_all(trades, rejected)

    def _parsed(
        self, frames: Iterator[tuple[int, str | bytes]]
    ) -> tuple[list[Trade], list[Rejected]]:
        trades: list[Trade] = []
        rejected: list[Rejected] = []
        for received_us, frame in frames:
            message = parse(frame, received_us)
            if isinstance(message, Trade):
                stream = self.streams.get(message.symbol)
                if stream is None:
                    rejected.append(Rejected("not subscribed to", str(message), message.symbol))
                    continue
                trades.append(message)
                stream.heard(message.trade_id)
            elif isinstance(message, Rejected):
                log.warning("not storable: %s", message.reason)
                rejected.append(message)
            elif isinstance(message, Control) and message.kind != "ack":
                log.warning("the exchange says: %s", message.text)
        return trades, rejected

    async def _store_all(self, trades: list[Trade], rejected: list[Rejected]) -> None:
        """Write until it is written: a database that is away is waited for."""
        waits = backoff(self._rng, 0.2, 5.0)
        while True:
            try:
                if rejected:
                    await asyncio.to_thread(self.store.quarantine, self.feed.venue, rejected)
                    rejected = []
                written = await asyncio.to_thread(self.store.write, self.feed.venue, trades)
            except DATABASE_ERRORS as error:
                wait = next(waits)
                log.error("cannot write: %s; next attempt in %.1f s", one_line(error), wait)
                await asyncio.sleep(wait)
                continue
            if written.conflicts:
                log.error(
                    "%d trades differ from the stored ones: see quarantine", written.conflicts
                )
            for symbol in {gap.symbol for gap in written.gaps}:
                self.repair.wake(symbol)
            return

    # -- beside it

    async def _heartbeat(self, ownership: Ownership) -> None:
        """Write each stream's state every second. Losing the connection is losing the
        ownership: the error ends the daemon's run, and `main` starts it anew."""
        while True:
            states = {s: (stream.state, stream.detail) for s, stream in self.streams.items()}
            await asyncio.to_thread(ownership.heartbeat, states)
            await asyncio.sleep(1.0)

    async def _say_stopped(self, ownership: Ownership) -> None:
        try:
            states = dict.fromkeys(self.streams, ("stopped", ""))
            await asyncio.to_thread(ownership.heartbeat, states)
        except psycopg2.Error as error:
            log.warning("could not write the state: %s", one_line(error))

    async def _watch(self) -> None:
        """Hold every silent stream against REST: is the market quiet, or is the stream dead?"""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if not self._connected_at:
                continue
            for symbol, stream in self.streams.items():
                silent = now - max(stream.last_data, self._connected_at)
                if silent > SILENCE_S and now - stream.probed > stream.probe_every:
                    stream.probed = now
                    await self._probe(symbol, stream, silent)

    async def _probe(self, symbol: str, stream: Stream, silent_s: float) -> None:
        heard = stream.last_data
        try:
            latest = await self.rest.latest_id(symbol)
            if stream.last_data != heard:
                return
            if latest is None or latest <= stream.high_id:
                stream.state, stream.detail = "quiet", f"no trade for {silent_s:.0f} s"
                stream.probe_every = min(60.0, stream.probe_every * 2)
                return
            stream.state = "stale"
            stream.detail = f"silent for {silent_s:.0f} s while the exchange has newer trades"
            log.warning("%s: %s", symbol, stream.detail)
            if stream.high_id >= 0:
                stream.high_id = await self.repair.catch_up(symbol, stream.high_id)
            if self._socket is not None:
                await self._socket.close()
        except (RestError, *DATABASE_ERRORS) as error:
            stream.state = "stale"
            stream.detail = f"silent for {silent_s:.0f} s; REST: {one_line(error)}"

    async def _retention(self) -> None:
        days = self.settings.tick_retention_days
        while days is not None:
            try:
                gone = await asyncio.to_thread(prune, self.store, days)
                log.info("retention: %s", gone)
            except DATABASE_ERRORS as error:
                log.error("retention failed: %s", one_line(error))
            await asyncio.sleep(PRUNE_EVERY_S)


def describe(error: Exception) -> str:
    """A connection error in plain words."""
    if isinstance(error, InvalidStatus):
        code = error.response.status_code
        meaning = {451: " (restricted location)", 403: " (firewall)", 429: " (too many requests)"}
        return f"HTTP {code}{meaning.get(code, '')}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return one_line(error)


# -- the door


async def choose_feed(settings: Settings) -> Feed:
    """Binance, or the local exchange: by FEED, and for `auto` by one attempt."""
    if settings.market != "spot":
        raise SettingsError("MARKET='usdm' cannot be ingested yet: allowed is spot")
    real = Feed(settings.exchange_venue, settings.binance_ws_url, settings.binance_rest_url)
    if settings.feed == "binance":
        return real
    if settings.feed == "local" and settings.own_addresses:
        return replace(real, venue="local", note="FEED=local at the addresses given")
    note = "FEED=local"
    if settings.feed == "auto":
        try:
            async with asyncio.timeout(5), BinanceRest(real.rest_url) as rest:
                await rest.get("/api/v3/ping")
                async with connect(stream_url(real.ws_url, settings.symbols), open_timeout=4):
                    log.info("Binance is reachable: venue %s", real.venue)
                    return real
        except (OSError, TimeoutError, WebSocketException, RestError) as error:
            note = f"Binance cannot be reached ({describe(error)})"
    local = LocalExchange(settings.symbols)
    await local.ensure()
    log.warning("%s: using the local exchange, SIMULATED data under venue local", note)
    return Feed("local", local.ws_url, local.rest_url, note, local)


async def serve(settings: Settings, database: Database) -> None:
    """Run until SIGTERM or SIGINT; a lost database connection starts the daemon anew."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = open_store(database)
    feed = await choose_feed(settings)
    waits = backoff(random.Random(), 0.5, 5.0)  # noqa: S311
    try:
        while not stop.is_set():
            try:
                await Daemon(feed, store, settings, stop).run()
            except (psycopg2.Error, SQLAlchemyError) as error:
                wait = next(waits)
                log.error("database: %s; starting anew in %.1f s", one_line(error), wait)
                await asyncio.sleep(wait)
    finally:
        if feed.local is not None:
            await feed.local.stop()
        store.close()
    log.info("stopped: everything received is stored")


def main(argv: Sequence[str] | None = None) -> int:
    """The daemon's command line; the exit code."""
    parser = argparse.ArgumentParser(description="Take trades from the exchange into PostgreSQL.")
    parser.add_argument("--symbols", help="comma-separated, overrides SYMBOLS")
    parser.add_argument("--market", help="spot or usdm, overrides MARKET")
    parser.add_argument("--feed", help="auto, binance or local, overrides FEED")
    arguments = parser.parse_args(argv)
    given = {key.upper(): value for key, value in vars(arguments).items() if value is not None}
    try:
        settings = load_settings({**read_environment(), **given})
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("websockets").setLevel(logging.WARNING)
        database = open_database(settings)
        try:
            asyncio.run(serve(settings, database))
        finally:
            database.leave()
    except (SettingsError, StoreError, LocalExchangeError) as error:
        print(f"ingest_websocket: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
