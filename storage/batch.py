"""The steps of one batch's transaction, inside the caller's cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values

from market import Trade
from storage.copying import copy_trades
from storage.gaps import close_filled, holes
from storage.partitions import TRADES_PER_PARTITION, Partition, of_bars, of_trades
from storage.statements import (
    FOLD,
    FRESH_BY_KEY,
    FRESH_IN_RANGE,
    LOCK_FEEDS,
    MOVE_CURSORS,
    RECORD_CONFLICTS,
    STAGE,
)

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

HOUR_US = 3_600_000_000
Known = dict[int, tuple[int | None, int | None]]  # instrument → first and highest known id


@dataclass(frozen=True, slots=True)
class Part:
    """One instrument's share of a batch."""

    number: int
    symbol: str
    ids: set[int]
    low: int
    high: int
    offered: int
    newest_us: int
    received_us: int
    hours: set[int]


def parts_of(trades: Sequence[Trade], number_of: Callable[[str], int]) -> list[Part]:
    """The batch by instrument, in the order of their numbers (which is the locks' order)."""
    by_symbol: dict[str, list[Trade]] = defaultdict(list)
    for trade in trades:
        by_symbol[trade.symbol].append(trade)
    parts = []
    for symbol, share in by_symbol.items():
        ids = {trade.trade_id for trade in share}
        parts.append(
            Part(
                number_of(symbol), symbol, ids, min(ids), max(ids), len(share),
                max([trade.ts_us for trade in share]), max([t.received_us for t in share]),
                {trade.ts_us // HOUR_US for trade in share},
            )
        )  # fmt: skip
    return sorted(parts, key=lambda part: part.number)


def partitions_of(parts: Sequence[Part]) -> list[Partition]:
    """The partitions that the batch needs."""
    wanted: list[Partition] = []
    for part in parts:
        first, last = part.low // TRADES_PER_PARTITION, part.high // TRADES_PER_PARTITION
        # A jump may span many partitions, of which only those that get a trade are made.
        near = last - first < 2
        chunks = range(first, last + 1) if near else {i // TRADES_PER_PARTITION for i in part.ids}
        wanted += of_trades(part.number, chunks)
    hours = set().union(*(part.hours for part in parts))
    months = {datetime.fromtimestamp(hour * 3600, UTC).timetuple()[:2] for hour in hours}
    return wanted + of_bars(months)


def lock_feeds(cursor: Cursor, venue: str, parts: Sequence[Part]) -> Known:
    """Lock the feeds' rows, in one order everywhere; readers are notified at the commit."""
    cursor.execute(LOCK_FEEDS, (venue, [part.number for part in parts]))
    return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def insert(
    cursor: Cursor, trades: Sequence[Trade], parts: Sequence[Part], known: Known, *, beyond: bool
) -> tuple[dict[int, int], int]:
    """Insert the trades not yet known and fold them into the bars: new ones by instrument, and
    the number of trades that differ from the stored one.

    The usual batch lies beyond everything known, none twice, and goes straight into the table.
    The feeds' rows are locked, so nobody else adds trades meanwhile; if the rule were ever
    broken, the primary key would refuse the COPY and the batch with it. Any other batch goes
    through a temporary table, and the key lets in what is new.
    """
    numbers = {part.symbol: part.number for part in parts}
    if beyond and all(
        len(part.ids) == part.offered and part.low > _high(known, part) for part in parts
    ):
        copy_trades(cursor, "trade", trades, numbers)
        fresh_now = " UNION ALL ".join([FRESH_IN_RANGE] * len(parts))
        ranges = [number for part in parts for number in (part.number, part.low, part.high)]
        cursor.execute(FOLD.format(fresh=fresh_now), ranges)
        return dict(cursor.fetchall()), 0
    cursor.execute(STAGE)
    copy_trades(cursor, "incoming", trades, numbers)
    cursor.execute(FOLD.format(fresh=FRESH_BY_KEY))
    fresh: dict[int, int] = dict(cursor.fetchall())
    if sum(fresh.values()) == len(trades):
        return fresh, 0
    cursor.execute(RECORD_CONFLICTS)
    return fresh, cursor.rowcount


def _high(known: Known, part: Part) -> int:
    high = known[part.number][1]
    return -1 if high is None else high


def record_gaps(
    cursor: Cursor, parts: Sequence[Part], known: Known
) -> tuple[list[tuple[Part, int, int]], dict[str, int]]:
    """Open a gap for every hole this batch leaves, close those that it has filled: the holes,
    and how many gaps were filled by symbol."""
    opened: list[tuple[Part, int, int]] = []
    filled: dict[str, int] = {}
    for part in parts:
        first, high = known[part.number]
        # In the usual batch nothing is missing, and that shows without looking at each id.
        if high is None or part.low != high + 1 or part.high - part.low + 1 != len(part.ids):
            opened += [(part, *hole) for hole in holes(part.ids, first, high)]
        if part.low <= _high(known, part):
            filled[part.symbol] = close_filled(cursor, part.number, part.low, part.high)
    if opened:
        execute_values(
            cursor,
            "INSERT INTO gap (instrument_id, first_id, last_id) VALUES %s",
            [(part.number, first, last) for part, first, last in opened],
        )
    return opened, filled


def move_cursors(
    cursor: Cursor, parts: Sequence[Part], known: Known, fresh: dict[int, int]
) -> None:
    """Write what the feeds know now. `revision` grows where bars behind the newest changed."""
    rows = []
    for part in parts:
        new = fresh.get(part.number, 0)
        late = int(new > 0 and part.low <= _high(known, part))
        rows.append(
            (part.number, part.low, part.high, at(part.newest_us), at(part.received_us), late,
             new, part.offered - new)
        )  # fmt: skip
    execute_values(cursor, MOVE_CURSORS, rows, page_size=1024)


def at(ts_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime, exactly."""
    seconds, micros = divmod(ts_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
