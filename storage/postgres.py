"""The write side of the store: trades, bars, cursor and gaps in one transaction, exactly once.

A batch goes through COPY into a temporary table. One statement then inserts the trades not yet
known and folds exactly *those* into the bars, so that a retry after a lost answer changes
nothing, and bars are never recomputed from history.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg2
from psycopg2.extras import execute_values
from sqlalchemy import create_engine

from market import Kline, Rejected, Trade, Venue
from storage.copying import copy_trades
from storage.gaps import Gap, close_filled, first_missing, holes, one, settle
from storage.statements import (
    FOLD,
    FOLD_UPLOAD,
    FRESH_BY_KEY,
    FRESH_BY_RANGE,
    RECORD_CONFLICTS,
    STAGE,
    STAGE_UPLOAD,
    UPSERT_KLINES,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMA = Path(__file__).with_name("schema.sql")
TRADES_PER_PARTITION = 1_000_000
SCHEMA_LOCK = 0x70616972  # any constant: serialises schema changes between processes


UPLOAD_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Bars of a file that were new, replaced others, or were stored already."""

    new: int
    replaced: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch changed."""

    stored: int
    duplicates: int
    conflicts: int
    gaps: tuple[Gap, ...]
    by_symbol: dict[str, tuple[int, int]]  # stored, duplicates


def at(ts_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime, exactly."""
    seconds, micros = divmod(ts_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


class PostgresStore:
    """Writes of one process. `connect` opens a new psycopg2 connection each time it is called.

    Thread-safe: every call takes a pooled connection of its own. Errors of the database come out
    as psycopg2.Error; the transaction is rolled back, and the call may be repeated.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.connect = connect
        self.engine = create_engine(
            "postgresql+psycopg2://", creator=connect, pool_size=4, max_overflow=6
        )
        self._instruments: dict[tuple[str, str], int] = {}
        self._partitions: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One transaction on a pooled connection: committed at the end, or rolled back."""
        connection: Any = self.engine.raw_connection()
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except psycopg2.OperationalError:
            connection.invalidate()  # the server or the line is gone: never hand it out again
            self.engine.dispose()
            raise
        finally:
            connection.close()  # back to the pool, which rolls back what was not committed

    def init(self) -> None:
        """Make or complete the schema; safe to run at any time from any process."""
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            cursor.execute(SCHEMA.read_text())

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    # -- instruments

    def instrument_id(self, venue: Venue, symbol: str) -> int:
        """The number of (venue, symbol), registered with its feed row at first use."""
        known = self._instruments.get((venue, symbol))
        if known is not None:
            return known
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO instrument (venue, symbol) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (venue, symbol),
            )
            cursor.execute(
                "SELECT instrument_id FROM instrument WHERE venue = %s AND symbol = %s",
                (venue, symbol),
            )
            number = int(one(cursor)[0])
            if venue != "upload":
                cursor.execute(
                    "INSERT INTO feed (instrument_id) VALUES (%s) ON CONFLICT DO NOTHING", (number,)
                )
        self._instruments[venue, symbol] = number
        return number

    def known_ids(self, venue: Venue, symbol: str) -> tuple[int, int] | None:
        """(first, highest) trade id of the symbol's record; None before its first trade."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute("SELECT first_id, high_id FROM feed WHERE instrument_id = %s", (number,))
            first, high = one(cursor)
        return None if high is None else (int(first), int(high))

    def begin_at(self, venue: Venue, symbol: str, first_id: int) -> None:
        """Start the record of a symbol at `first_id`; what lies between it and the first trade
        received becomes a gap. Without effect once the symbol has a record."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE feed SET first_id = %s, high_id = %s"
                " WHERE instrument_id = %s AND high_id IS NULL",
                (first_id, first_id - 1, number),
            )

    # -- trades

    def write(self, venue: Venue, trades: Sequence[Trade]) -> Written:
        """Store the trades not yet known, with their bars, cursor and gaps. Any order, any
        duplicates; calling it again with the same trades changes nothing."""
        if not trades:
            return Written(0, 0, 0, (), {})
        numbers = {s: self.instrument_id(venue, s) for s in {trade.symbol for trade in trades}}
        ids: dict[int, set[int]] = defaultdict(set)
        for trade in trades:
            ids[numbers[trade.symbol]].add(trade.trade_id)
        self._ensure_partitions(ids, trades)
        try:
            return self._write(venue, trades, numbers, ids)
        except psycopg2.errors.UniqueViolation:
            # Trades beyond the cursor, from a restored backup perhaps: look at each.
            return self._write(venue, trades, numbers, ids, beyond=False)
        except psycopg2.errors.CheckViolation:
            # Retention, in another process, may have dropped a partition we believed in.
            self._partitions.clear()
            self._ensure_partitions(ids, trades)
            return self._write(venue, trades, numbers, ids)

    def _write(
        self,
        venue: Venue,
        trades: Sequence[Trade],
        numbers: dict[str, int],
        ids: dict[int, set[int]],
        *,
        beyond: bool = True,
    ) -> Written:
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT instrument_id, first_id, high_id FROM feed"
                " WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR UPDATE",
                (sorted(ids),),
            )
            known = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
            conflicts = 0
            if (
                beyond
                and sum(map(len, ids.values())) == len(trades)
                and all(
                    known[number][1] is None or min(received) > known[number][1]
                    for number, received in ids.items()
                )
            ):
                fresh = _insert_beyond(cursor, ids, trades, numbers)
            else:
                fresh, conflicts = _insert_among(cursor, trades, numbers)
            stored = sum(fresh.values())
            gaps = self._record_gaps(cursor, ids, known)
            self._move_cursors(cursor, ids, known, fresh, trades, numbers)
            cursor.execute("SELECT pg_notify('trades', %s)", (venue,))
        symbols = {number: symbol for symbol, number in numbers.items()}
        offered = Counter(trade.symbol for trade in trades)
        new = {symbol: fresh.get(number, 0) for symbol, number in numbers.items()}
        return Written(
            stored,
            len(trades) - stored,
            conflicts,
            tuple(Gap(symbols[number], first, last) for number, first, last in gaps),
            {symbol: (new[symbol], offered[symbol] - new[symbol]) for symbol in numbers},
        )

    def _record_gaps(
        self,
        cursor: Cursor,
        ids: dict[int, set[int]],
        known: dict[int, tuple[int | None, int | None]],
    ) -> list[tuple[int, int, int]]:
        """Open a gap for every hole this batch leaves, close those that it has filled."""
        opened: list[tuple[int, int, int]] = []
        for number, received in ids.items():
            first, high = known[number]
            opened += [(number, *hole) for hole in holes(received, first, high)]
            if high is not None and min(received) <= high:
                close_filled(cursor, number, min(received), max(received))
        if opened:
            execute_values(
                cursor, "INSERT INTO gap (instrument_id, first_id, last_id) VALUES %s", opened
            )
        return opened

    @staticmethod
    def _move_cursors(
        cursor: Cursor,
        ids: dict[int, set[int]],
        known: dict[int, tuple[int | None, int | None]],
        fresh: dict[int, int],
        trades: Sequence[Trade],
        numbers: dict[str, int],
    ) -> None:
        newest: dict[int, tuple[int, int]] = {}
        offered: dict[int, int] = defaultdict(int)
        for trade in trades:
            number = numbers[trade.symbol]
            ts, received = newest.get(number, (0, 0))
            newest[number] = (max(ts, trade.ts_us), max(received, trade.received_us))
            offered[number] += 1
        rows = []
        for number, received_ids in ids.items():
            high = known[number][1]
            new = fresh.get(number, 0)
            late = new > 0 and high is not None and min(received_ids) <= high
            ts, received = newest[number]
            rows.append(
                (number, min(received_ids), max(received_ids), at(ts), at(received), int(late),
                 new, offered[number] - new)
            )  # fmt: skip
        execute_values(
            cursor,
            "UPDATE feed SET first_id = least(feed.first_id, v.first_id),"
            " high_id = greatest(feed.high_id, v.high_id),"
            " last_trade = greatest(feed.last_trade, v.last_trade),"
            " last_received = greatest(feed.last_received, v.last_received),"
            " revision = feed.revision + v.late, stored = feed.stored + v.stored,"
            " duplicates = feed.duplicates + v.duplicates"
            " FROM (VALUES %s) AS v (instrument_id, first_id, high_id, last_trade, last_received,"
            " late, stored, duplicates) WHERE feed.instrument_id = v.instrument_id",
            rows,
        )

    # -- gaps

    def open_gaps(self, venue: Venue, symbol: str) -> list[Gap]:
        """The holes still worth asking the exchange for, oldest first."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT first_id, last_id FROM gap WHERE instrument_id = %s AND state = 'open'"
                " ORDER BY first_id",
                (number,),
            )
            return [Gap(symbol, int(first), int(last)) for first, last in cursor.fetchall()]

    def first_missing(self, venue: Venue, gap: Gap) -> int | None:
        """The lowest id of the gap that is not stored; None where the gap is filled."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            return first_missing(cursor, number, gap.first_id, gap.last_id)

    def close_gap(self, venue: Venue, gap: Gap) -> None:
        """Mark the gap as filled if every id of it is stored."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            close_filled(cursor, number, gap.first_id, gap.last_id)

    def settle(self, venue: Venue, gap: Gap, first: int, last: int, state: str, why: str) -> None:
        """Declare first … last inside an open gap `void` or `unrecoverable`; see gaps.settle."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            settle(cursor, number, gap, (first, last), state, why)

    # -- bars stated by others, and what could not be stored

    def write_klines(self, venue: Venue, klines: Sequence[Kline]) -> int:
        """Store closed bars that the exchange stated; the number of rows that changed."""
        if not klines:
            return 0
        symbols = {kline.symbol for kline in klines}
        numbers = {symbol: self.instrument_id(venue, symbol) for symbol in symbols}
        rows = [
            (numbers[k.symbol], k.bar_s, at(k.ts_us), k.open, k.high, k.low, k.close, k.volume,
             k.quote_volume, k.taker_buy_volume, k.trades)
            for k in klines
        ]  # fmt: skip
        with self.transaction() as cursor:
            changed = len(execute_values(cursor, UPSERT_KLINES, rows, page_size=1000, fetch=True))
            if changed:
                cursor.execute(
                    "UPDATE feed SET revision = revision + 1 WHERE instrument_id = ANY(%s)",
                    (sorted(numbers.values()),),
                )
        return changed

    def write_upload(self, symbol: str, bar_s: int, bars: pd.DataFrame) -> Uploaded:
        """Store a user's bars under venue `upload`, all of them or none; a bar stored before with
        other values is replaced, an equal one left alone."""
        number = self.instrument_id("upload", symbol)
        stamps = pd.DatetimeIndex(bars.index).as_unit("us").asi8.tolist()
        text = "".join(
            f"{ts}\t{o!r}\t{h!r}\t{low!r}\t{c!r}\t{v!r}\n"
            for ts, o, h, low, c, v in zip(
                stamps, *(bars[name].tolist() for name in UPLOAD_COLUMNS), strict=True
            )
        )
        with self.transaction() as cursor:
            cursor.execute(STAGE_UPLOAD)
            cursor.copy_expert("COPY uploaded FROM STDIN", io.StringIO(text))
            cursor.execute(FOLD_UPLOAD, {"number": number, "bar_s": bar_s})
            new, changed = one(cursor)
        return Uploaded(int(new), int(changed), len(bars) - int(new) - int(changed))

    def quarantine(self, venue: Venue, rejected: Sequence[Rejected]) -> None:
        """Keep what arrived and is no storable trade. NUL, which PostgreSQL refuses, is shown."""
        with self.transaction() as cursor:
            execute_values(
                cursor,
                "INSERT INTO quarantine (venue, symbol, reason, frame) VALUES %s",
                [
                    (venue, r.symbol, r.reason, r.frame.replace("\0", "\\0")[:10_000])
                    for r in rejected
                ],
            )

    # -- partitions

    def _ensure_partitions(self, ids: dict[int, set[int]], trades: Sequence[Trade]) -> None:
        wanted: dict[str, tuple[str, str, str]] = {}
        for number, received in ids.items():
            lowest, highest = (
                edge // TRADES_PER_PARTITION for edge in (min(received), max(received))
            )
            # A jump may span many partitions, of which only those that get a trade are made.
            chunks = (
                range(lowest, highest + 1)
                if highest - lowest < 2
                else {trade_id // TRADES_PER_PARTITION for trade_id in received}
            )
            for k in chunks:
                low, high = k * TRADES_PER_PARTITION, (k + 1) * TRADES_PER_PARTITION
                bounds = f"FROM ({low}) TO ({min(high, 2**63 - 1)})"
                wanted[f"trade_{number}_{k}"] = (f"trade_{number}", bounds, str(number))
        hours = {trade.ts_us // 3_600_000_000 for trade in trades}
        for year, month in {at(hour * 3_600_000_000).timetuple()[:2] for hour in hours}:
            after = (year + month // 12, month % 12 + 1)
            bounds = f"FROM ('{year}-{month:02}-01 UTC') TO ('{after[0]}-{after[1]:02}-01 UTC')"
            wanted[f"bar_{year}_{month:02}"] = ("bar", bounds, "")
        for name in sorted(wanted.keys() - self._partitions):
            self._make_partition(name, *wanted[name])
            self._partitions.add(name)

    def _make_partition(self, name: str, parent: str, bounds: str, instrument: str) -> None:
        """Every name and bound here is made of numbers, none of it comes from outside.

        ATTACH rather than CREATE … PARTITION OF: it does not lock readers out.
        """
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            if instrument and not _exists(cursor, parent):
                cursor.execute(
                    f"CREATE TABLE {parent} (LIKE trade INCLUDING ALL)"
                    " PARTITION BY RANGE (trade_id);"
                    f"ALTER TABLE trade ATTACH PARTITION {parent} FOR VALUES IN ({instrument})"
                )
            if _exists(cursor, name):
                return
            # Bars of the current second are rewritten ten times a second: leave room for HOT.
            storage = "" if instrument else " WITH (fillfactor = 70)"
            cursor.execute(f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL){storage}")
            if instrument:
                cursor.execute(
                    f"CREATE INDEX {name}_ts ON {name} USING brin (ts)"
                    " WITH (pages_per_range = 32, autosummarize = on)"
                )
            cursor.execute(f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}")


def _insert_beyond(
    cursor: Cursor, ids: dict[int, set[int]], trades: Sequence[Trade], numbers: dict[str, int]
) -> dict[int, int]:
    """Trades that lie beyond everything known, none twice: the usual case, and the fast way.

    The feeds' rows are locked, so nobody else adds trades meanwhile; if the rule were ever
    broken, the primary key would refuse the COPY and the batch with it.
    """
    copy_trades(cursor, "trade", trades, numbers)
    ranges = [(number, min(received), max(received)) for number, received in ids.items()]
    columns = [list(column) for column in zip(*ranges, strict=True)]
    cursor.execute(FOLD.format(fresh=FRESH_BY_RANGE), columns)
    return dict(cursor.fetchall())


def _insert_among(
    cursor: Cursor, trades: Sequence[Trade], numbers: dict[str, int]
) -> tuple[dict[int, int], int]:
    """Trades of which any may be known: new ones by instrument, and the number of conflicts."""
    cursor.execute(STAGE)
    copy_trades(cursor, "incoming", trades, numbers)
    cursor.execute(FOLD.format(fresh=FRESH_BY_KEY))
    fresh: dict[int, int] = dict(cursor.fetchall())
    if sum(fresh.values()) == len(trades):
        return fresh, 0
    cursor.execute(RECORD_CONFLICTS)
    return fresh, cursor.rowcount


def _exists(cursor: Cursor, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
    return bool(one(cursor)[0])
