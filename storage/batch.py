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
from storage.gaps import close_filled, holes, one
from storage.partitions import TRADES_PER_PARTITION, Partition, of_bars, of_trades
from storage.statements import (
    FOLD,
    FORGET_CHANGES,
    FRESH_BY_KEY,
    FRESH_IN_RANGE,
    LOCK_FEEDS,
    MOVE_CURSORS,
    NOTE_CHANGES,
    RECORD_CONFLICTS,
    STAGE,
    STORED_NEAR,
)

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

HOUR_US = 3_600_000_000
CHANGES_KEPT = 1000  # revisions of a feed whose changes can be told


class Record(NamedTuple):
    """What a feed's row says of its record while the row is locked."""

    first: int | None
    high: int | None
    kept_from: int | None  # retention has dropped what lies below
    newest: datetime | None  # open time of the newest bar, a kline perhaps


class Fresh(NamedTuple):
    """What a batch has added to one record: how many trades, the lowest id, the times."""

    stored: int
    low: int
    since: datetime
    newest_us: int


Known = dict[int, Record]


@dataclass(frozen=True, slots=True)
class Part:
    """One instrument's share of a batch."""

    number: int
    symbol: str
    ids: set[int]
    low: int
    high: int
    trades: Sequence[Trade]
    hours: set[int]

    @property
    def offered(self) -> int:
        """Trades of the batch, those that come twice included."""
        return len(self.trades)


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
                number_of(symbol), symbol, ids, min(ids), max(ids), share,
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


def clock_ahead_us(cursor: Cursor, clock_us: Callable[[], int]) -> int:
    """By how much the database's clock is ahead of `clock_us`; short of it by at most the time
    that the answer took, so that no age is told too young."""
    cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(one(cursor)[0]) - clock_us()


def insert(
    cursor: Cursor,
    trades: Sequence[Trade],
    parts: Sequence[Part],
    known: Known,
    *,
    ahead_us: int,
    beyond: bool,
) -> tuple[dict[int, Fresh], int]:
    """Insert the trades not yet known and fold them into the bars: what was new, by instrument,
    and the number of trades that differ from the stored one.

    The usual batch lies beyond everything known, none twice, and goes straight into the table.
    The feeds' rows are locked, so nobody else adds trades meanwhile; if the rule were ever
    broken, the primary key would refuse the COPY and the batch with it. Any other batch goes
    through a temporary table, and the key lets in what is new.
    """
    numbers = {part.symbol: part.number for part in parts}
    if beyond and all(
        len(part.ids) == part.offered and part.low > _high(known, part) for part in parts
    ):
        copy_trades(cursor, "trade", trades, numbers, ahead_us)
        fresh_now = " UNION ALL ".join([FRESH_IN_RANGE] * len(parts))
        ranges = [number for part in parts for number in (part.number, part.low, part.high)]
        cursor.execute(FOLD.format(fresh=fresh_now), ranges)
        return _fresh(cursor), 0
    cursor.execute(STAGE)
    copy_trades(cursor, "incoming", trades, numbers, ahead_us)
    cursor.execute(FOLD.format(fresh=FRESH_BY_KEY))
    fresh = _fresh(cursor)
    if sum(new.stored for new in fresh.values()) == len(trades):
        return fresh, 0
    return fresh, _record_conflicts(cursor, parts)


def _record_conflicts(cursor: Cursor, parts: Sequence[Part]) -> int:
    ranges = []
    for part in parts:
        for chunk in {i // TRADES_PER_PARTITION for i in part.ids}:
            low = max(part.low, chunk * TRADES_PER_PARTITION)
            high = min(part.high, (chunk + 1) * TRADES_PER_PARTITION - 1)
            ranges += [part.number, low, high] * 2
    near = " UNION ALL ".join([STORED_NEAR] * (len(ranges) // 6))
    cursor.execute(RECORD_CONFLICTS.format(stored=near), ranges)
    return int(cursor.rowcount)


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
    ahead_us: int,
) -> None:
    """Write what the feeds know now. `revision` grows where bars that were there before, the
    newest one apart, are not what they were: by their trades, or for one is known to be missing."""
    holed = {part.number for part, _, _ in opened}
    rows, changes = [], []
    for part in parts:
        new, record = fresh.get(part.number), known[part.number]
        stored = new.stored if new else 0
        behind = part.number in holed or (new is not None and _behind(new, record))
        if new is not None and behind:
            holed_since = record.newest if part.number in holed else None
            first = min(new.since, holed_since or new.since)
            changes.append((part.number, first, at(new.newest_us)))
        rows.append(
            (part.number, part.low, part.high, *_newest(part, new, ahead_us), int(behind), stored,
             part.offered - stored, ahead_us)
        )  # fmt: skip
    template = "(%s, %s, %s, %s::timestamptz, %s::bigint, %s::timestamptz, %s, %s, %s, %s)"
    execute_values(cursor, MOVE_CURSORS, rows, template, page_size=1024)
    note_changes(cursor, changes)


def _newest(
    part: Part, new: Fresh | None, ahead_us: int
) -> tuple[datetime | None, int | None, datetime | None]:
    """Time, id and receipt of the newest trade that was not known; of several at one time the one
    with the last id, and of one that comes twice the first, as it is stored."""
    if new is None:
        return None, None, None
    same = [trade for trade in part.trades if trade.ts_us == new.newest_us]
    newest = max(same, key=lambda trade: trade.trade_id)
    return at(newest.ts_us), newest.trade_id, at(newest.received_us + ahead_us)


def note_changes(cursor: Cursor, changes: Sequence[tuple[int, datetime, datetime]]) -> None:
    """Note which bars the present revision of these feeds has changed: instrument, first and last
    time. The rows of the feeds are locked."""
    if changes:
        template = "(%s, %s::timestamptz, %s::timestamptz)"
        execute_values(cursor, NOTE_CHANGES, changes, template, page_size=1024)
        cursor.execute(FORGET_CHANGES, ([number for number, *_ in changes], CHANGES_KEPT))


def _behind(new: Fresh, record: Record) -> bool:
    """Whether a trade has come behind the newest one: by its id, or by its time in an older bar
    (ids follow the exchange's order, times now and then do not)."""
    by_id = record.high is not None and new.low <= record.high
    return by_id or (record.newest is not None and new.since < record.newest)


def at(ts_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime, exactly."""
    seconds, micros = divmod(ts_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
