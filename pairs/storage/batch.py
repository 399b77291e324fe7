"""The steps of one batch's transaction, inside the caller's cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from psycopg2.extras import execute_values

from pairs.market import Rejected, Trade
from pairs.storage.copying import copy_trades
from pairs.storage.digests import Digest, add_to_digests, joined
from pairs.storage.gaps import close_filled, holes, lose, one, stored_of
from pairs.storage.partitions import (
    TRADES_PER_PARTITION,
    Partition,
    bar_partitions,
    trade_partitions,
)
from pairs.storage.statements import (
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
from pairs.storage.void import add_void, take_void

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
    owner: str | None  # the daemon that ingests it
    tail: Digest


class Fresh(NamedTuple):
    """What a batch has added to one record: the lowest id, the times, and to which partitions."""

    low: int
    since: datetime
    newest_us: int
    digests: tuple[Digest, ...]

    @property
    def stored(self) -> int:
        """How many trades."""
        return sum(digest.n for digest in self.digests)


Known = dict[int, Record]


@dataclass(frozen=True, slots=True)
class SymbolBatch:
    """One instrument's share of a batch: `ids` of trades, and those `seen` that are none or
    cannot be stored; `low` and `high` are of both."""

    number: int
    symbol: str
    ids: set[int]
    low: int
    high: int
    trades: Sequence[Trade]
    hours: set[int]
    seen: Sequence[Rejected] = ()

    @property
    def offered(self) -> int:
        """Trades of the batch, those that come twice included."""
        return len(self.trades)

    @property
    def known(self) -> set[int]:
        """Every id that is known after the batch."""
        return self.ids | _ids(self.seen) if self.seen else self.ids


def _ids(seen: Iterable[Rejected]) -> set[int]:
    return {one.trade_id for one in seen if one.trade_id is not None}


def parts_of(
    trades: Sequence[Trade], number_of: Callable[[str], int], seen: Sequence[Rejected] = ()
) -> list[SymbolBatch]:
    """The batch by instrument, in the order of their numbers (which is the locks' order)."""
    by_symbol: dict[str, list[Trade]] = defaultdict(list)
    for trade in trades:
        by_symbol[trade.symbol].append(trade)
    aside: dict[str, list[Rejected]] = defaultdict(list)
    for one_seen in seen:
        if one_seen.symbol is not None and one_seen.trade_id is not None:
            aside[one_seen.symbol].append(one_seen)
    parts = []
    for symbol in by_symbol.keys() | aside.keys():
        share, kept = by_symbol[symbol], aside[symbol]
        ids = {trade.trade_id for trade in share}
        every = ids | _ids(kept)
        parts.append(
            SymbolBatch(
                number_of(symbol),
                symbol,
                ids,
                min(every),
                max(every),
                share,
                {trade.ts_us // HOUR_US for trade in share},
                kept,
            )
        )
    return sorted(parts, key=lambda part: part.number)


def partitions_of(parts: Sequence[SymbolBatch]) -> list[Partition]:
    """The partitions that the batch needs."""
    wanted: list[Partition] = []
    for part in parts:
        if not part.ids:
            continue
        first, last = part.low // TRADES_PER_PARTITION, part.high // TRADES_PER_PARTITION
        # A jump may span many partitions, of which only those that get a trade are made.
        near = last - first < 2
        chunks = range(first, last + 1) if near else {i // TRADES_PER_PARTITION for i in part.ids}
        wanted += trade_partitions(part.number, chunks)
    hours = set().union(*(part.hours for part in parts))
    months = {datetime.fromtimestamp(hour * 3600, UTC).timetuple()[:2] for hour in hours}
    return wanted + bar_partitions(months)


def lock_feeds(cursor: Cursor, venue: str, parts: Sequence[SymbolBatch]) -> Known:
    """Lock the feeds' rows, in one order everywhere; readers are notified at the commit."""
    cursor.execute(LOCK_FEEDS, (venue, [part.number for part in parts]))
    return {row[0]: Record._make([*row[1:6], Digest(*row[6:])]) for row in cursor.fetchall()}


Told = TypeVar("Told", Trade, Rejected)


def unexpired(told: Sequence[Told], parts: Sequence[SymbolBatch], known: Known) -> Sequence[Told]:
    """Those of the batch that retention has not dropped before: its bars hold them already, and
    whoever asked for them did so before it had run. The feeds' rows are locked, so it cannot run
    now."""
    limits = {part.symbol: known[part.number].kept_from or 0 for part in parts}
    if all(part.low >= limits[part.symbol] for part in parts):
        return told
    return [one for one in told if (one.trade_id or 0) >= limits[one.symbol or ""]]


def clock_ahead_us(cursor: Cursor, clock_us: Callable[[], int]) -> int:
    """By how much the database's clock is ahead of `clock_us`; short of it by at most the time
    that the answer took, so that no age is told too young."""
    cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(one(cursor)[0]) - clock_us()


def insert(
    cursor: Cursor,
    trades: Sequence[Trade],
    parts: Sequence[SymbolBatch],
    known: Known,
    *,
    ahead_us: int,
    beyond: bool,
) -> tuple[dict[int, Fresh], list[tuple[str, int]]]:
    """Insert the trades not yet known and fold them into the bars: what was new, by instrument,
    and the trades that differ from the stored one, by symbol and id.

    The usual batch lies beyond everything known, none twice, and goes straight into the table.
    The feeds' rows are locked, so nobody else adds trades meanwhile; if the rule were ever
    broken, the primary key would refuse the COPY and the batch with it. Any other batch goes
    through a temporary table, and the key lets in what is new.
    """
    if not trades:
        return {}, []
    numbers = {part.symbol: part.number for part in parts}
    if beyond and all(
        len(part.ids) == part.offered and part.low > _high(known, part) for part in parts
    ):
        copy_trades(cursor, "trade", trades, numbers, ahead_us)
        fresh_now = " UNION ALL ".join([FRESH_IN_RANGE] * len(parts))
        ranges = [number for part in parts for number in (part.number, part.low, part.high)]
        cursor.execute(FOLD.format(fresh=fresh_now), ranges)
        return _fresh(cursor), []
    cursor.execute(STAGE)
    copy_trades(cursor, "incoming", trades, numbers, ahead_us)
    cursor.execute(FOLD.format(fresh=FRESH_BY_KEY))
    fresh = _fresh(cursor)
    if sum(new.stored for new in fresh.values()) == len(trades):
        return fresh, []
    return fresh, _record_conflicts(cursor, parts)


def _record_conflicts(cursor: Cursor, parts: Sequence[SymbolBatch]) -> list[tuple[str, int]]:
    ranges = []
    for part in parts:
        for chunk in {i // TRADES_PER_PARTITION for i in part.ids}:
            low = max(part.low, chunk * TRADES_PER_PARTITION)
            high = min(part.high, (chunk + 1) * TRADES_PER_PARTITION - 1)
            ranges += [part.number, low, high] * 2
    near = " UNION ALL ".join([STORED_NEAR] * (len(ranges) // 6))
    cursor.execute(RECORD_CONFLICTS.format(stored=near), ranges)
    return [(symbol, int(trade_id)) for symbol, trade_id in cursor.fetchall()]


def _fresh(cursor: Cursor) -> dict[int, Fresh]:
    fresh: dict[int, Fresh] = {}
    for number, low, since, newest_us, *digest in cursor.fetchall():
        new = Fresh(low, since, newest_us, (Digest(*digest),))
        old = fresh.get(number)
        fresh[number] = new if old is None else _both(old, new)
    return fresh


def _both(one: Fresh, other: Fresh) -> Fresh:
    return Fresh(
        min(one.low, other.low),
        min(one.since, other.since),
        max(one.newest_us, other.newest_us),
        one.digests + other.digests,
    )


def _high(known: Known, part: SymbolBatch) -> int:
    high = known[part.number].high
    return -1 if high is None else high


def record_seen(cursor: Cursor, parts: Sequence[SymbolBatch], known: Known) -> int:
    """Settle the ids that were seen and are no trades, and those that cannot be stored: how many
    of these were not known to be lost. What is stored stays."""
    lost = 0
    for part in parts:
        first, high = known[part.number][:2]
        before = range(0 if first is None else first, 0 if high is None else high + 1)
        if part.low < before.stop:
            take_void(cursor, part.number, part.ids)
        void = {one.trade_id for one in part.seen if one.no_trade and one.trade_id is not None}
        if void:
            near = {i for i in void if i < before.stop}
            add_void(cursor, part.number, void - part.ids - stored_of(cursor, part.number, near))
        odd = {
            i: one.reason
            for one in part.seen
            if (i := one.trade_id) is not None and i not in void and i not in part.ids
        }
        for why in sorted(set(odd.values())):
            ids = {i for i, reason in odd.items() if reason == why}
            lost += lose(cursor, part.number, ids, why, before)
    return lost


def record_gaps(
    cursor: Cursor, parts: Sequence[SymbolBatch], known: Known
) -> tuple[list[tuple[SymbolBatch, int, int]], dict[str, int]]:
    """Open a gap for every hole this batch leaves, close those that it has filled: the holes,
    and how many gaps were filled by symbol."""
    opened: list[tuple[SymbolBatch, int, int]] = []
    filled: dict[str, int] = {}
    for part in parts:
        first, high = known[part.number][:2]
        # In the usual batch nothing is missing, and that shows without looking at each id.
        if high is None or part.low != high + 1 or part.high - part.low + 1 != len(part.known):
            opened += [(part, *hole) for hole in holes(part.known, first, high)]
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
    parts: Sequence[SymbolBatch],
    known: Known,
    fresh: dict[int, Fresh],
    opened: Sequence[tuple[SymbolBatch, int, int]],
    ahead_us: int,
    closed: Collection[str] = (),
) -> None:
    """Write what the feeds know now. `revision` grows where bars that were there before, the
    newest one apart, are not what they were: by their trades, or for one is known to be missing.

    `closed`: symbols of which the batch has closed a gap. It may do so with trades that were all
    known: retention may have cut off what was still missing. Which bars that makes whole is not
    noted; readers then read all of them anew.
    """
    holed = {part.number for part, _, _ in opened}
    rows, changes = [], []
    others: list[tuple[int, Digest]] = []
    for part in parts:
        new, record = fresh.get(part.number), known[part.number]
        stored = new.stored if new else 0
        tail, rest = joined(record.tail, new.digests if new else ())
        others += [(part.number, digest) for digest in rest]
        noted = part.number in holed or (new is not None and _behind(new, record))
        behind = noted or part.symbol in closed
        if new is not None and noted:
            holed_since = record.newest if part.number in holed else None
            first = min(new.since, holed_since or new.since)
            changes.append((part.number, first, at(new.newest_us)))
        rows.append(
            (
                part.number,
                part.low,
                part.high,
                *_newest(part, new, ahead_us),
                int(behind),
                stored,
                part.offered - stored,
                ahead_us,
                *tail,
            )
        )
    template = (
        "(%s, %s, %s, %s::timestamptz, %s::bigint, %s::timestamptz, %s, %s, %s, %s,"
        " %s::bigint, %s, %s)"
    )
    execute_values(cursor, MOVE_CURSORS, rows, template, page_size=1024)
    add_to_digests(cursor, others)
    note_changes(cursor, changes)


def _newest(
    part: SymbolBatch, new: Fresh | None, ahead_us: int
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
