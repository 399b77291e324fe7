"""The bounded queue between the sockets and the store: frames in, parsed batches out.

`put` only stamps and keeps, so that no database slows a socket. At the bound it raises: the
connection is closed and what is missed is repaired by id, rather than grow or drop in silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pairs.clock import ExchangeClock, impossible_time, steady_us
from pairs.feeds.binance.protocol import BinanceMarket, Control, parse
from pairs.feeds.binance.stream import QueueFull
from pairs.ingest.liveness import StreamState
from pairs.ingest.renumbered import LEAP
from pairs.market import Rejected, Trade

log = logging.getLogger("inbox")

QUEUE_FRAMES = 200_000  # two minutes of the busiest market
QUEUE_BYTES = 128 * 2**20
FINER_US = 1000  # one trade in ms and in µs
ASK_ANEW_S = 5.0  # between two questions whether a symbol's ids have begun anew
LOGGED_FRAMES = 5  # of a batch, one by one; the rest as a number


@dataclass
class Batch:
    """Some frames as what they mean. `doubtful` trades leap, or fall, further than ids do, or are
    of a time that ours does not allow; beside each the time of the trade before it by id.
    `seen` are ids that are no trades."""

    trades: list[Trade] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    seen: list[Rejected] = field(default_factory=list)
    doubtful: list[tuple[Trade, int | None]] = field(default_factory=list)


class Inbox:
    """The frames of all connections of one daemon, in the order of their arrival."""

    def __init__(
        self, protocol: BinanceMarket, watched: Mapping[str, StreamState], clock: ExchangeClock
    ) -> None:
        self._protocol = protocol
        self._watched = watched
        self._clock = clock
        self._frames: deque[tuple[int, bytes]] = deque()
        self.bytes = 0
        self.received = 0  # frames put in so far
        self.arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> None:
        """Keep a frame with the time of its arrival. Raises QueueFull at the bound."""
        if len(self._frames) >= QUEUE_FRAMES or self.bytes >= QUEUE_BYTES:
            raise QueueFull(f"{len(self)} frames wait for the database: repairing by id later")
        self._frames.append((steady_us(), frame))
        self.bytes += len(frame)
        self.received += 1
        self.arrived.set()

    @property
    def half_empty(self) -> bool:
        """Whether a new connection is worth while."""
        return len(self._frames) <= QUEUE_FRAMES // 2 and self.bytes <= QUEUE_BYTES // 2

    def take(self, count: int) -> Batch:
        """Parse the oldest `count` frames, and note which streams have been heard."""
        batch = Batch()
        now = time.monotonic()
        oldest = self.received - len(self._frames)
        for number in range(oldest, oldest + count):
            received_us, frame = self._frames.popleft()
            self.bytes -= len(frame)
            message = parse(frame, received_us, self._protocol)
            if isinstance(message, Trade):
                self._sort(message, number, batch, now)
            elif isinstance(message, Rejected):
                self._keep_aside(message, number, batch, now)
            elif isinstance(message, Control) and message.kind != "ack":
                log.warning('exchange_says kind=%s text="%s"', message.kind, plain(message.text))
        tell(batch.rejected)
        return batch

    def _sort(self, trade: Trade, number: int, batch: Batch, now: float) -> None:
        stream = self._watched.get(trade.symbol)
        if stream is None:
            batch.rejected.append(Rejected("not subscribed to", str(trade), trade.symbol))
            return
        if stream.halted:
            return
        self._clock.heard(trade.ts_us - trade.received_us)
        leaps = stream.high_id >= 0 and abs(trade.trade_id - stream.high_id) > LEAP
        before = stream.last_us if stream.last_us and trade.trade_id > stream.high_id else None
        # A known id with a later time than the newest: of another count, perhaps.
        turned = before is None and 0 < stream.last_us < trade.ts_us - FINER_US
        if leaps or turned or self._impossible(trade, before):
            batch.doubtful.append((trade, before))
        else:
            batch.trades.append(trade)
            stream.heard(trade, number, now)

    def _keep_aside(self, what: Rejected, number: int, batch: Batch, now: float) -> None:
        """A frame that holds no trade to be stored. One whose id is known to be none settles it;
        any other is asked for over REST."""
        stream = self._watched.get(what.symbol or "")
        if stream is not None and stream.halted:
            return
        if (
            stream is None
            or what.trade_id is None
            or not what.no_trade
            or (stream.high_id >= 0 and abs(what.trade_id - stream.high_id) > LEAP)
        ):
            batch.rejected.append(what)
            return
        batch.seen.append(what)
        stream.record_trade(what.trade_id, number, now)

    def _impossible(self, trade: Trade, before: int | None) -> str:
        """Why the trade cannot be of its time; empty where it can."""
        return impossible_time(trade.ts_us, self._clock.reached_us(trade.received_us), before)

    def to_ask(self, batch: Batch) -> dict[str, StreamState]:
        """The symbols of whose newest trade the exchange is to be asked."""
        now, found = time.monotonic(), {}
        for trade, _ in batch.doubtful:
            stream = self._watched[trade.symbol]
            leaps = abs(trade.trade_id - stream.high_id) > LEAP
            if leaps or now - stream.asked_anew >= ASK_ANEW_S:
                found[trade.symbol] = stream
        for stream in found.values():
            stream.asked_anew = now
        return found

    def judge(self, batch: Batch, newest: Mapping[str, int | None]) -> None:
        """Put the doubtful trades where they belong. `newest`: symbol → the newest id that REST
        tells, None where it does not answer; then ids that leap ahead are believed. What is kept
        aside is asked for by id later."""
        now = time.monotonic()
        for trade, before in batch.doubtful:
            stream, known = self._watched[trade.symbol], newest.get(trade.symbol)
            if stream.halted:
                continue
            if why := self._impossible(trade, before) or _misplaced(trade, stream.high_id, known):
                batch.rejected.append(Rejected(why, str(trade), trade.symbol, trade.trade_id))
                tell(batch.rejected[-1:])
                continue
            batch.trades.append(trade)
            stream.heard(trade, self.received, now)
        batch.doubtful.clear()


def _misplaced(trade: Trade, high_id: int, known: int | None) -> str:
    """Why a trade's id is not believed beside the record's highest and the newest that the
    exchange tells; empty where it is."""
    low = 0 <= trade.trade_id < high_id - LEAP
    if known is None:
        return "its id is far below the newest one, and the exchange does not answer" if low else ""
    if low or trade.trade_id > known + LEAP:
        where = "below" if low else "beyond"
        return f"its id is far {where} {known}, the newest that the exchange tells"
    return ""


def tell(rejected: list[Rejected]) -> None:
    """Log what is kept aside."""
    for one in rejected[:LOGGED_FRAMES]:
        log.warning('quarantined symbol=%s reason="%s"', one.symbol, plain(one.reason))
    if len(rejected) > LOGGED_FRAMES:
        log.warning("quarantined more=%d", len(rejected) - LOGGED_FRAMES)


def plain(text: str) -> str:
    """Text of the exchange for one line of the log."""
    return " ".join(text[:300].split())
