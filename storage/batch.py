"""The steps of one batch's transaction, inside the caller's cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

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


class Record(NamedTuple):
    """What a feed's row says of its record while the row is locked."""

    first: int | None
    high: int | None
    kept_from: int | None  # retention has dropped what lies below
    newest: datetime | None  # the latest time of a trade


class Fresh(NamedTuple):
    """What a batch has added to one record."""

    stored: int
    low: int
    since: datetime


Known = dict[int, Record]


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
    return {row[0]: Record(*row[1:]) for row in cursor.fetchall()}


def unexpired(trades: Sequence[Trade], parts: Sequence[Part], known: Known) -> Sequence[Trade]:
    """The trades that retention has not dropped before: its bars hold them already, and whoever
    asked for them did so before it had run. The feeds' rows are locked, so it cannot run now."""
    limits = {part.symbol: known[part.number].kept_from or 0 for part in parts}
    if all(part.low >= limits[part.symbol] for part in parts):
        return trades
    return [trade for trade in trades if trade.trade_id >= limits[trade.symbol]]


def insert(
    cursor: Cursor, trades: Sequence[Trade], parts: Sequence[Part], known: Known, *, beyond: bool
) -> tuple[dict[int, Fresh], int]:
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
        return _fresh(cursor), 0
    cursor.execute(STAGE)
    copy_trades(cursor, "incoming", trades, numbers)
    cursor.execute(FOLD.format(fresh=FRESH_BY_KEY))
    fresh = _fresh(cursor)
    if sum(new.stored for new in fresh.values()) == len(trades):
        return fresh, 0
    cursor.execute(RECORD_CONFLICTS)
    return fresh, cursor.rowcount


def _fresh(cursor: Cursor) -> dict[int, Fresh]:
    return {row[0]: Fresh(*row[1:]) for row in cursor.fetchall()}


def _high(known: Known, part: Part) -> int:
    high = known[part.number].high
    return -1 if high is None else high


def record_gaps(
    cursor: Cursor, parts: Sequence[Part], known: Known
) -> tuple[list[tuple[Part, int, int]], dict[str, int]]:
    """Open a gap for every hole this batch leaves, close those that it has filled: the holes,
    and how many gaps were filled by symbol."""
    opened: list[tuple[Part, int, int]] = []
    filled: dict[str, int] = {}
    for part in parts:
        first, high = known[part.number][:2]
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
    cursor: Cursor,
    parts: Sequence[Part],
    known: Known,
    fresh: dict[int, Fresh],
    opened: Sequence[tuple[Part, int, int]],
) -> None:
    """Write what the feeds know now. `revision` grows where bars that were there before, the
    newest one apart, are not what they were: by their trades, or for one is known to be missing."""
    holed = {part.number for part, _, _ in opened}
    rows = []
    for part in parts:
        new = fresh.get(part.number)
        stored = new.stored if new else 0
        behind = part.number in holed or (new is not None and _behind(new, known[part.number]))
        rows.append(
            (part.number, part.low, part.high, at(part.newest_us), at(part.received_us),
             int(behind), stored, part.offered - stored)
        )  # fmt: skip
    execute_values(cursor, MOVE_CURSORS, rows, page_size=1024)


def _behind(new: Fresh, record: Record) -> bool:
    """Whether a trade has come behind the newest one: by its id, or by its time in an older bar
    (ids follow the exchange's order, times now and then do not)."""
    if record.high is None or record.newest is None:
        return False
    return new.low <= record.high or new.since < record.newest.replace(microsecond=0)


def at(ts_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime, exactly."""
    seconds, micros = divmod(ts_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
