"""The ingestion daemon: exchange → bounded queue → batch → store, losing no trade.

python ingest_websocket.py [--symbols BTCUSDT,ETHUSDT] [--market spot|usdm]
                           [--feed auto|binance|local]

One task reads frames and only stamps and queues them; one writes them in batches. Whatever is
missed in between — a lost connection, a full queue, a killed process — shows as a jump of the
trade ids, becomes a row in the gap table and is repaired by id over REST. Startup is the
recovery path.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C while the modules load: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import contextlib
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pairs.clock import steady_us
from pairs.feeds.binance.rest import PROBE_TIMEOUT_S, BinanceRest, RestError
from pairs.feeds.binance.stream import LIFE_S, TradeStream, WrongExchangeError, shards
from pairs.feeds.choice import Feed, choose_feed
from pairs.feeds.local import LocalExchangeError
from pairs.ingest import metrics
from pairs.ingest.asking_again import AskingAgain
from pairs.ingest.backfill import History
from pairs.ingest.beginning import begin_records
from pairs.ingest.closing import Closing
from pairs.ingest.covering import cover_partitions
from pairs.ingest.inbox import Batch, Inbox
from pairs.ingest.liveness import NEVER, Liveness, StreamState
from pairs.ingest.renumbered import counts_anew
from pairs.ingest.repair import Repair
from pairs.ingest.supervision import Supervisor, end, reported
from pairs.market import US_PER_S, Rejected, Trade
from pairs.messages import exit_code, failed, noted, one_line, start_logging, watch_uncaught
from pairs.retry import backoff
from pairs.settings import Parser, Settings, SettingsError, load_settings, read_environment
from pairs.storage.database import StoreError, open_database, open_patiently
from pairs.storage.errors import BATCH_REFUSED, DATABASE_ERRORS, LOCK_HELD
from pairs.storage.ownership import Ownership, OwnershipLostError, identity
from pairs.storage.postgres import PostgresStore, Written
from pairs.storage.records import halt, halted
from pairs.storage.retention import prune

log = logging.getLogger("ingest")

BATCH_FRAMES = 20_000
PRUNE_EVERY_S = 3600.0
PRUNE_AGAIN_S = 60.0  # where something was in use
DRAIN_S = 14.0
STOP_S = 18.0  # after this a stop no longer waits for a database that does not answer
THREADS = 32
STALLED_S = 5.0  # a batch that waits this long makes the picture stale
GATHER_S = 0.005  # a burst after silence goes into one batch


class RecordBegunError(RuntimeError):
    """A new record was begun for a symbol that was halted."""


class NotDrainedError(RuntimeError):
    """The database did not take what was received before the stop."""

    exit_code = 1


@dataclass
class Daemon:
    """The tasks of one feed. `run` returns after `stop` is set and the queue is written."""

    feed: Feed
    store: PostgresStore
    settings: Settings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    life_s: float = LIFE_S
    owner: str = field(default_factory=identity)

    def __post_init__(self) -> None:
        suffix = self.feed.protocol.suffix
        self.watched = {symbol + suffix: StreamState() for symbol in self.settings.symbols}
        self._writing = 0  # frames taken from the queue and not yet committed
        self._write_began = 0.0
        self._reading = True
        self._rng = random.Random()  # noqa: S311 - jitter, not cryptography
        self.rest = BinanceRest(self.feed.rest_url, self.feed.protocol, self.feed.simulated)
        self.inbox = Inbox(self.feed.protocol, self.watched, self.rest.clock)
        self.history = History(
            self.store,
            self.rest,
            self.feed.venue,
            self.watched,
            self.settings.history_hours,
            self._paused,
        )
        self.repair = Repair(
            self.store,
            self.rest,
            self.feed.venue,
            self.settings.repaired_hours,
            self.history.wake,
            anew=lambda symbol, why: self.watched[symbol].halt(symbol, why),
            paused=self._paused,
        )
        self.asking_again = AskingAgain(
            self.store,
            self.rest,
            self.feed.venue,
            list(self.watched),
            self.settings.repaired_hours,
            self.repair.wake,
            paused=self._paused,
        )
        self.parts = Supervisor(
            fatal=(OwnershipLostError, RecordBegunError, StoreError, WrongExchangeError)
        )
        self.streams = [
            TradeStream(
                lambda: self.feed.ws_url,
                self.feed.protocol,
                symbols,
                receive=self.inbox.put,
                prepare=self._prepare,
                up=self._up,
                down=self._down,
                life_s=self.life_s,
                simulated=self.feed.simulated,
            )
            for symbols in shards(tuple(self.watched))
        ]
        self.liveness = Liveness(self.watched, self.streams, self.rest, self.repair, self.stalled_s)
        self.closing = Closing(self.watched, self.rest, self.store, self.feed.venue, self.stalled_s)

    async def run(self) -> None:
        """Own the symbols, ingest until `stop`, then write what is queued."""
        async with self.rest:
            ownership = Ownership(self.store.connect, self.feed.venue, steady_us, self.owner)
            self.store.owner = self.owner
            try:
                if await self._own(ownership):
                    await self._ingest(ownership, await self._known())
            finally:
                await asyncio.to_thread(ownership.close)

    async def _ingest(self, ownership: Ownership, new: dict[str, StreamState]) -> None:
        writer = asyncio.create_task(self._write(), name="writer")
        beside = [
            asyncio.create_task(self.stop.wait(), name="stop"),
            *(asyncio.create_task(part) for part in self._parts(ownership, new)),
        ]
        done, _ = await asyncio.wait({writer, *beside}, return_when=asyncio.FIRST_COMPLETED)
        await end(task for task in beside if task not in done)
        drained = await self._drain(writer)
        await self._say_stopped(ownership)
        for task in done:
            task.result()  # a task that ended by itself ended by an error: let it out
        if not drained:
            raise NotDrainedError(
                "the database did not take everything before the stop; the next start repairs by id"
            )

    def _parts(
        self, ownership: Ownership, new: dict[str, StreamState]
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Everything beside the writer, each begun again where it ends."""
        run = self.parts.run
        yield run("heartbeat", lambda: self._heartbeat(ownership), vital=True)
        yield run("liveness", self.liveness.run, vital=True)
        yield run("closing", self.closing.run)
        for number, stream in enumerate(self.streams, 1):
            yield run(f"stream {number}", stream.run, symbols=stream.symbols, vital=True)
        for symbol in self.watched:
            watch = partial(self.repair.watch, symbol)
            yield run(f"repair {symbol}", watch, symbols=(symbol,), vital=True)
        yield run("asking again", self.asking_again.run)
        yield run("begin", lambda: self._begin(new), symbols=new)
        yield run("history", self.history.run)
        yield run("digests", self._digests)
        if self.settings.tick_retention_days is not None:
            yield run("retention", self._retention)

    async def _drain(self, writer: asyncio.Task[None]) -> bool:
        """Write what is queued, for at most DRAIN_S; whether all of it was written."""
        self._reading = False
        self.inbox.arrived.set()
        await asyncio.wait({writer}, timeout=DRAIN_S)
        drained = writer.done() and not len(self.inbox)
        if not writer.done():
            writer.cancel()
            log.error(
                "drain_failed frames=%d after_s=%.0f: the next start repairs them by id",
                len(self.inbox) + self._writing,
                DRAIN_S,
            )
        await end([writer])
        return drained

    # -- start

    async def _own(self, ownership: Ownership) -> bool:
        """Wait until no other daemon ingests these symbols; False when told to stop first."""
        told = False
        while not self.stop.is_set():
            taken = await asyncio.to_thread(ownership.claim, list(self.watched))
            if not taken:
                return True
            if not told:
                names = ", ".join(taken)
                log.warning("another daemon ingests %s of %s: waiting", names, self.feed.venue)
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), 1.0)
        return False

    async def _known(self) -> dict[str, StreamState]:
        """Note how far each record goes; the symbols that have none yet."""
        known = await asyncio.to_thread(self.store.records, self.feed.venue, list(self.watched))
        for symbol, high in known.items():
            self.watched[symbol].high_id = -1 if high is None else high
        venue = self.feed.venue
        for feed in await asyncio.to_thread(self.store.reads.feeds, venue):
            if feed.symbol in self.watched and feed.last_trade is not None:
                newest_us = round(feed.last_trade.timestamp() * US_PER_S)
                self.watched[feed.symbol].last_us = newest_us
        stopped = await asyncio.to_thread(halted, self.store, venue, list(self.watched))
        for symbol, why in stopped.items():
            self.watched[symbol].halt(symbol, why)
            self.watched[symbol].halt_noted = True
        return {symbol: self.watched[symbol] for symbol, high in known.items() if high is None}

    async def _begin(self, new: dict[str, StreamState]) -> None:
        """Begin the records of new symbols, beside the streams; then there is nothing to do."""
        unknown = await begin_records(self.store, self.rest, self.repair, self.feed.venue, new)
        if len(unknown) == len(self.watched):
            raise StoreError(
                f"the exchange knows none of {', '.join(self.settings.symbols)}: correct SYMBOLS"
            )
        await asyncio.Event().wait()

    # -- the path of a trade

    async def _prepare(self) -> None:
        """Before a connection: the local exchange runs, and the queue has room again."""
        if self.feed.local is not None:
            await self.feed.local.ensure()
        while not self.inbox.half_empty:  # noqa: ASYNC110 - rare, and no hurry
            await asyncio.sleep(0.1)

    def _up(self, symbols: tuple[str, ...]) -> None:
        for symbol in symbols:
            self.watched[symbol].connected(self.inbox.received)

    def _down(self, symbols: tuple[str, ...], why: str) -> None:
        metrics.RECONNECTS.labels(self.feed.venue).inc()
        for symbol in symbols:
            self.watched[symbol].fresh_from, self.watched[symbol].lead_us = NEVER, None
            self.watched[symbol].state, self.watched[symbol].detail = "disconnected", why

    async def _write(self) -> None:
        """Write what is queued until reading has ended and all is written: so often that a trade
        is committed FLUSH_MS after it came, the time that writing takes included."""
        flush = self.settings.flush_ms / 1000
        due = took = 0.0
        while self._reading or len(self.inbox):
            await self.inbox.arrived.wait()
            if self._reading:
                await asyncio.sleep(max(GATHER_S, due - time.monotonic()))
            began = time.monotonic()
            due = began + max(flush / 2, flush - took)
            self.inbox.arrived.clear()
            waiting = len(self.inbox)  # what comes meanwhile is the next batch's
            while waiting > 0:
                self._writing = min(BATCH_FRAMES, waiting)
                self._write_began = time.monotonic()
                waiting -= self._writing
                batch = self.inbox.take(self._writing)
                if batch.doubtful:
                    await self._judge(batch)
                await self._store_all(batch.trades, batch.rejected, batch.seen)
                self._writing = 0
            took = 0.8 * took + 0.2 * (time.monotonic() - began)
            metrics.QUEUE.labels(self.feed.venue).set(len(self.inbox))
            metrics.QUEUE_BYTES.labels(self.feed.venue).set(self.inbox.bytes)

    async def _judge(self, batch: Batch) -> None:
        """Ask REST about ids that leap: after a long absence they are right, else nonsense. And
        for its time, where it is not what ours lets one expect."""
        if self.rest.clock.due:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self.rest.time_ms()
            except (RestError, TimeoutError) as error:
                log.debug('time_unknown reason="%s"', error)
        newest: dict[str, int | None] = {}
        for symbol, stream in self.inbox.to_ask(batch).items():
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    newest[symbol], why = await counts_anew(
                        self.rest, symbol, stream.high_id, stream.last_us
                    )
                if why:
                    stream.halt(symbol, why)
            except (RestError, TimeoutError) as error:
                log.warning('leap_unconfirmed symbol=%s reason="%s"', symbol, error)
        self.inbox.judge(batch, newest)

    def stalled_s(self) -> float:
        """How long the batch at hand has been waiting for the database."""
        return time.monotonic() - self._write_began if self._writing else 0.0

    async def _store_all(
        self, trades: list[Trade], rejected: list[Rejected], seen: Sequence[Rejected] = ()
    ) -> None:
        """Write until it is written: a database that is away is waited for."""
        waits = backoff(self._rng, 0.2, 5.0)
        while True:
            try:
                if rejected:
                    await asyncio.to_thread(self.store.quarantine, self.feed.venue, rejected)
                    metrics.QUARANTINED.labels(self.feed.venue).inc(len(rejected))
                    rejected = []
                if trades or seen:
                    began = time.monotonic()
                    written = await asyncio.to_thread(
                        self.store.write, self.feed.venue, trades, steady_us, seen=seen
                    )
                    metrics.QUARANTINED.labels(self.feed.venue).inc(len(seen))
                    self._note(written, trades, time.monotonic() - began)
                return
            except BATCH_REFUSED as error:
                # The batch itself is refused: find the trade that is, keep it aside, go on.
                if len(trades) > 1:
                    middle = len(trades) // 2
                    await self._store_all(trades[:middle], rejected, seen)
                    trades, rejected, seen = trades[middle:], [], ()
                elif not trades:
                    log.error('refused ids=%d error="%s"', len(seen), one_line(error))
                    rejected, seen = [*rejected, *seen], ()
                else:
                    log.error('refused trade="%s" error="%s"', trades[0], one_line(error))
                    rejected = [Rejected(one_line(error), str(trades[0]), trades[0].symbol)]
                    trades = []
            except DATABASE_ERRORS as error:
                wait = next(waits)
                log.error('write_failed error="%s" next_attempt_s=%.1f', one_line(error), wait)
                await asyncio.sleep(wait)

    def _note(self, written: Written, trades: list[Trade], seconds: float) -> None:
        """Metrics of one batch, and the repair of what it left open."""
        venue = self.feed.venue
        metrics.COMMIT.labels(venue).observe(seconds)
        if trades:
            oldest = min(trade.ts_us for trade in trades)
            metrics.LAG.labels(venue).observe(max(0.0, time.time() - oldest / 1e6))
        metrics.note_stored(venue, written)
        if written.conflicts:
            log.error("conflict trades=%d: the first stays, see quarantine", written.conflicts)
        for symbol in written.by_symbol:
            stream = self.watched[symbol]
            if written.conflicting or stream.conflicts:
                ids = {i for name, i in written.conflicting if name == symbol}
                others = {trade.trade_id for trade in trades if trade.symbol == symbol} - ids
                stream.differed(symbol, ids, bool(others))
        for gap in written.gaps:
            metrics.GAPS_OPENED.labels(venue, gap.symbol).inc()
            self.repair.wake(gap.symbol)

    # -- beside it

    async def _heartbeat(self, ownership: Ownership) -> None:
        """Write each stream's state every second, and renew the leases. What is lost, by a
        failover perhaps, is claimed anew; where another daemon was faster, this one steps back."""
        while True:
            states = self._states()
            for symbol, (state, _) in states.items():
                metrics.LIVE.labels(self.feed.venue, symbol).set(state in ("live", "quiet"))
            try:
                await self._note_halts()
                await asyncio.to_thread(ownership.heartbeat, states)
                if aside := list(self.rest.aside):
                    await asyncio.to_thread(self.store.quarantine, self.feed.venue, aside)
                    del self.rest.aside[: len(aside)]
                    metrics.QUARANTINED.labels(self.feed.venue).inc(len(aside))
            except LOCK_HELD:
                log.warning("heartbeat_waits: a long transaction holds the feeds' rows")
            except (OwnershipLostError, *DATABASE_ERRORS) as error:
                log.error('heartbeat_failed error="%s"', one_line(error))
                with contextlib.suppress(*DATABASE_ERRORS):
                    if await asyncio.to_thread(ownership.claim, list(self.watched)):
                        raise OwnershipLostError("another daemon has taken over") from None
            await asyncio.sleep(1.0)

    def _paused(self, symbol: str) -> bool:
        return bool(self.watched[symbol].halted)

    async def _note_halts(self) -> None:
        """Let it be known for good what has been halted, and see where a new record was begun."""
        venue = self.feed.venue
        stopped = {symbol: s for symbol, s in self.watched.items() if s.halted}
        for symbol, stream in stopped.items():
            if not stream.halt_noted:
                await asyncio.to_thread(halt, self.store, venue, symbol, stream.halted)
                stream.halt_noted = True
        if stopped:
            still = await asyncio.to_thread(halted, self.store, venue, list(stopped))
            if gone := ", ".join(sorted(stopped.keys() - still.keys())):
                raise RecordBegunError(f"a new record was begun for {gone}")

    def _states(self) -> dict[str, tuple[str, str]]:
        stalled = self.stalled_s()
        if stalled > STALLED_S:
            why = f"the database has not taken trades for {stalled:.0f} s"
            return dict.fromkeys(self.watched, ("stale", why))
        return {symbol: self._state(symbol, stream) for symbol, stream in self.watched.items()}

    def _state(self, symbol: str, stream: StreamState) -> tuple[str, str]:
        """Its stream's, unless a part without which that is not to be relied on is down."""
        if stream.halted:
            return "halted", stream.halted
        down, why = self.parts.about(symbol)
        state = "stale" if down and stream.state in ("live", "quiet") else stream.state
        return state, "; ".join(text for text in (why, stream.detail) if text)

    async def _say_stopped(self, ownership: Ownership) -> None:
        try:
            states = dict.fromkeys(self.watched, ("stopped", ""))
            await asyncio.to_thread(ownership.heartbeat, states)
        except (OwnershipLostError, *DATABASE_ERRORS) as error:
            log.warning('state_not_written error="%s"', one_line(error))

    async def _digests(self) -> None:
        await cover_partitions(self.store, self.feed.venue, self.watched)

    async def _retention(self) -> None:
        days = self.settings.tick_retention_days
        while days is not None:
            wait = PRUNE_EVERY_S
            try:
                gone = await asyncio.to_thread(prune, self.store, days, await self._prune_now())
                log.info("pruned partitions=%d trades=%d", gone["partitions"], gone["trades"])
                if gone["blocked"]:
                    wait = PRUNE_AGAIN_S
                    log.warning(
                        'prune_waits next_attempt_s=%.0f in_use="%s"',
                        wait,
                        ", ".join(gone["blocked"]),
                    )
            except DATABASE_ERRORS as error:
                log.error('prune_failed error="%s"', one_line(error))
            await asyncio.sleep(wait)

    async def _prune_now(self) -> datetime:
        """The time that trades are old by: this machine's, and not beyond the exchange's. A clock
        set years ahead must not drop what there is."""
        clock = self.rest.clock
        while not clock.known:
            with contextlib.suppress(RestError):
                await self.rest.time_ms()
                break
            log.warning('prune_waits reason="the exchange has not told its time"')
            await asyncio.sleep(PRUNE_AGAIN_S)
        return datetime.fromtimestamp(min(time.time(), clock.now_us() / 1e6), UTC)


# -- the door


async def serve(settings: Settings, store: PostgresStore) -> None:
    """Run until SIGTERM or SIGINT; a lost database or ownership starts the daemon anew."""
    # Calls that wait for a stalled database must not keep the heartbeat or a name lookup waiting.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    stop = asyncio.Event()
    # A thread that waits for a silent database cannot be ended, and would keep the process alive.
    last_word = threading.Timer(STOP_S, _give_up)
    last_word.daemon = True

    def asked() -> None:
        if not stop.is_set():
            log.info("stopping")
            stop.set()
            last_word.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    feed = await choose_feed(settings)
    waits = backoff(random.Random(), 0.5, 5.0)  # noqa: S311
    owner = identity()
    try:
        while not stop.is_set():
            try:
                await Daemon(feed, store, settings, stop, owner=owner).run()
            except (StoreError, NotDrainedError):
                raise
            except Exception as error:
                expected = isinstance(
                    error, (*DATABASE_ERRORS, OwnershipLostError, RecordBegunError)
                )
                why, wait = one_line(error) if expected else reported(error), next(waits)
                log.error('starting_anew error="%s" in_s=%.1f', why, wait)
                log.debug("starting_anew", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait)
                if isinstance(error, WrongExchangeError):
                    feed = await choose_feed(settings)  # nobody answered when it was chosen
    finally:
        if feed.local is not None:
            await feed.local.stop()
        store.close()
    last_word.cancel()
    log.info("stopped: everything received is stored")


def _give_up() -> None:
    log.error("the database does not answer: ending without it; the next start repairs by id")
    logging.shutdown()
    os._exit(1)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """The daemon's command line; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)  # until the loop takes signals over
    parser = Parser(description="Take trades from the exchange into PostgreSQL.")
    parser.add_argument("--symbols", help="comma-separated, overrides SYMBOLS")
    parser.add_argument("--market", help="spot or usdm, overrides MARKET")
    parser.add_argument("--feed", help="auto, binance or local, overrides FEED")
    arguments = parser.parse_args(argv)
    given = {key.upper(): value for key, value in vars(arguments).items() if value is not None}
    try:
        return run(load_settings({**read_environment(), **given}))
    except KeyboardInterrupt:
        return 0  # told to stop before it had begun
    except (SettingsError, StoreError, LocalExchangeError, NotDrainedError, OSError) as error:
        failed("ingest_websocket", error)
        return exit_code(error)


def run(settings: Settings) -> int:
    """Find or start the database and serve; 0 after a clean stop."""
    start_logging(settings.log_level)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
    database = open_database(settings)
    try:
        store = open_patiently(database, partial(noted, "ingest_websocket"))
        asyncio.run(serve(settings, store))
    finally:
        database.leave()
    return 0


if __name__ == "__main__":
    watch_uncaught()
    sys.exit(main())
