"""The write side of the store: trades, bars, cursor and gaps in one transaction, exactly once.

A batch goes through COPY into a temporary table. One statement then inserts the trades not yet
known and folds exactly *those* into the bars, so that a retry after a lost answer changes
nothing, and bars are never recomputed from history.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg2
from psycopg2.extras import execute_values
from sqlalchemy import Engine

from pairs.market import Kline, Rejected, Trade, Venue
from pairs.storage.batch import (
    SymbolBatch,
    at,
    clock_ahead_us,
    insert,
    lock_feeds,
    move_cursors,
    note_changes,
    partitions_of,
    parts_of,
    record_gaps,
    record_seen,
    unexpired,
)
from pairs.storage.errors import is_gone
from pairs.storage.gaps import (
    NEVER,
    Again,
    Gap,
    close_filled,
    extend_back,
    first_missing,
    let_read_anew,
    lock_feed,
    one,
    settle,
    times_of,
)
from pairs.storage.ownership import still_owned
from pairs.storage.partitions import create_partition
from pairs.storage.pools import pool
from pairs.storage.postgres_reader import PostgresReader
from pairs.storage.reader import Reader
from pairs.storage.reading import bounded
from pairs.storage.schema import bring_up, is_complete
from pairs.storage.statements import (
    FOLD_UPLOAD,
    QUARANTINE,
    RAISE_WATERMARKS,
    STAGE_UPLOAD,
    UPSERT_KLINES,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

UPLOAD_COLUMNS = ("open", "high", "low", "close", "volume")
UPLOAD_ROWS = 50_000  # sent to PostgreSQL at once


def wall_us() -> int:
    """This machine's clock, µs since 1970."""
    return time.time_ns() // 1000


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
    filled: dict[str, int] = field(default_factory=dict)  # gaps closed by it
    expired: int = 0  # refused: retention has dropped their time
    lost: int = 0  # ids of trades that cannot be stored, settled with it
    conflicting: tuple[tuple[str, int], ...] = ()  # symbol and id of the conflicts


class PostgresStore:
    """Writes of one process. `connect` opens a new psycopg2 connection each time it is called.

    Thread-safe: every call takes a pooled connection of its own. Errors of the database come out
    as psycopg2.Error; the transaction is rolled back, and the call may be repeated.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.connect = connect
        self.engine = pool(bounded(connect))  # for readers: its statements end in time
        self.reads: Reader = PostgresReader(self.engine)
        self._writers = pool(connect)
        self.owner: str | None = None  # who writes; None: whoever may, such as a command
        self._instruments: dict[tuple[str, str], int] = {}
        self._partitions: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One transaction on a pooled connection: committed at the end, or rolled back."""
        with self._cursor(self._writers) as cursor:
            yield cursor

    @contextmanager
    def reading(self) -> Iterator[Cursor]:
        """Likewise for readers: what hangs, or waits for a lock, ends with an error in time."""
        with self._cursor(self.engine) as cursor:
            yield cursor

    @contextmanager
    def _cursor(self, engine: Engine) -> Iterator[Cursor]:
        connection: Any = engine.raw_connection()
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except psycopg2.Error as error:
            if connection.closed or is_gone(error):  # never hand it out again
                connection.invalidate()
                self._renew()  # nor any other of the same server
            raise
        finally:
            connection.close()  # back to the pool, which rolls back what was not committed

    def init(self) -> None:
        """Make the schema or bring it to this program's version; from any process at any time.

        Where it is of that version nothing is changed, and nobody waited for. SchemaError where it
        is of a later one, SchemaBusyError where it has to change and its tables are in use.
        """
        with self.transaction() as cursor:
            if is_complete(cursor):
                return
        bring_up(self._writers)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
        self._writers.dispose()

    def _renew(self) -> None:
        """Begin with new connections: to the same server or to one that has taken its place, which
        may lack what was committed last."""
        self.close()
        self._instruments.clear()
        self._partitions.clear()

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
        if venue != "upload":  # a file may get another name
            self._instruments[venue, symbol] = number
        return number

    def known_ids(self, venue: Venue, symbol: str) -> tuple[int, int] | None:
        """(first, highest) trade id of the symbol's record; None before its first trade."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute("SELECT first_id, high_id FROM feed WHERE instrument_id = %s", (number,))
            first, high = one(cursor)
        return None if high is None else (int(first), int(high))

    def time_of(self, venue: Venue, symbol: str, trade_id: int) -> int | None:
        """The time of a stored trade, µs since 1970; None where that id is not stored."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM trade"
                " WHERE instrument_id = %s AND trade_id = %s",
                (number, trade_id),
            )
            row = cursor.fetchone()
        return None if row is None else int(row[0])

    def begin_at(self, venue: Venue, symbol: str, first_id: int) -> None:
        """Start the record of a symbol at `first_id`; what lies between it and the first trade
        received becomes a gap. Without effect once the symbol has a record."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE feed SET first_id = %(first)s, high_id = %(first)s - 1,"
                " whole_from = %(first)s WHERE instrument_id = %(number)s AND high_id IS NULL",
                {"first": first_id, "number": number},
            )

    def begin_before(self, venue: Venue, symbol: str, first_id: int) -> bool:
        """Start the record of a symbol at `first_id`, also where it has begun with a later trade
        just now: what lies between becomes a gap. Whether that changed anything."""
        number = self.instrument_id(venue, symbol)
        with self.transaction() as cursor:
            return extend_back(cursor, number, first_id)

    def records(self, venue: Venue, symbols: Sequence[str]) -> dict[str, int | None]:
        """Symbol → highest known trade id, None before its first trade; all of them registered,
        in one transaction however many they are."""
        with self.transaction() as cursor:
            execute_values(
                cursor,
                "INSERT INTO instrument (venue, symbol) VALUES %s ON CONFLICT DO NOTHING",
                [(venue, symbol) for symbol in symbols],
            )
            cursor.execute(
                "INSERT INTO feed (instrument_id) SELECT instrument_id FROM instrument"
                " WHERE venue = %(venue)s AND symbol = ANY(%(symbols)s) ON CONFLICT DO NOTHING;"
                "SELECT symbol, instrument_id, high_id FROM instrument JOIN feed"
                " USING (instrument_id) WHERE venue = %(venue)s AND symbol = ANY(%(symbols)s)",
                {"venue": venue, "symbols": list(symbols)},
            )
            found = cursor.fetchall()
        self._instruments.update({(venue, symbol): number for symbol, number, _ in found})
        return {symbol: high for symbol, _, high in found}

    # -- trades

    def write(
        self,
        venue: Venue,
        trades: Sequence[Trade],
        clock_us: Callable[[], int] = wall_us,
        *,
        seen: Sequence[Rejected] = (),
    ) -> Written:
        """Store the trades not yet known, with their bars, cursor and gaps. Any order, any
        duplicates; calling it again with the same trades changes nothing. Trades that retention
        has dropped before are refused.

        `seen`: ids that the exchange has told without a trade that can be stored. They are kept
        aside and settled with the batch: as known where they are no trades, else as
        `unrecoverable`.

        `clock_us` is the clock that stamped their receipt, µs. Receipts are stored by the
        database's clock, which tells their age later: what the two differ by is looked at here.
        """
        if not trades and not seen:
            return Written(0, 0, 0, (), {})
        parts = parts_of(trades, lambda symbol: self.instrument_id(venue, symbol), seen)
        self._ensure_partitions(parts)
        try:
            return self._write(venue, trades, parts, clock_us)
        except psycopg2.errors.UniqueViolation:
            # Trades beyond the cursor, from a restored backup perhaps: look at each.
            return self._write(venue, trades, parts, clock_us, beyond=False)
        except psycopg2.errors.CheckViolation:
            # Retention, in another process, may have dropped a partition we believed in.
            self._partitions.clear()
            self._ensure_partitions(parts)
            return self._write(venue, trades, parts, clock_us)

    def _write(
        self,
        venue: Venue,
        trades: Sequence[Trade],
        parts: Sequence[SymbolBatch],
        clock_us: Callable[[], int],
        *,
        beyond: bool = True,
    ) -> Written:
        with self.transaction() as cursor:
            ahead_us = clock_ahead_us(cursor, clock_us)
            known = lock_feeds(cursor, venue, parts)
            for part in parts:
                still_owned(part.symbol, known[part.number].owner, self.owner)
            offered = trades
            seen: Sequence[Rejected] = [one for part in parts for one in part.seen]
            quarantine(cursor, venue, seen)
            trades, seen = unexpired(trades, parts, known), unexpired(seen, parts, known)
            if len(trades) < len(offered) or len(seen) < sum(len(part.seen) for part in parts):
                parts = parts_of(trades, lambda symbol: self.instrument_id(venue, symbol), seen)
            if not parts:
                return Written(0, 0, 0, (), {}, expired=len(offered))
            fresh, conflicts = insert(
                cursor, trades, parts, known, ahead_us=ahead_us, beyond=beyond
            )
            lost = record_seen(cursor, parts, known)
            opened, filled = record_gaps(cursor, parts, known)
            closed = [symbol for symbol, gaps in filled.items() if gaps]
            move_cursors(cursor, parts, known, fresh, opened, ahead_us, closed)
        new = {p.symbol: fresh[p.number].stored if p.number in fresh else 0 for p in parts}
        stored = sum(new.values())
        return Written(
            stored,
            len(trades) - stored,
            len(conflicts),
            tuple(Gap(part.symbol, first, last) for part, first, last in opened),
            {part.symbol: (new[part.symbol], part.offered - new[part.symbol]) for part in parts},
            filled,
            len(offered) - len(trades),
            lost,
            tuple(conflicts),
        )

    def _ensure_partitions(self, parts: Sequence[SymbolBatch]) -> None:
        for wanted in partitions_of(parts):
            if wanted.name not in self._partitions:
                with self.transaction() as cursor:
                    create_partition(cursor, wanted)
                self._partitions.add(wanted.name)

    def nothing_newer(self, venue: Venue, asked: Sequence[tuple[str, int, int]]) -> set[str]:
        """Raise the watermarks of symbols that the exchange was asked about. `asked`: symbol, the
        newest id that it told, and the moment of the question by its clock, µs. Only where that id
        is the highest stored; the symbols that it holds for."""
        if not asked:
            return set()
        numbers = {self.instrument_id(venue, symbol): symbol for symbol, *_ in asked}
        rows = [(self.instrument_id(venue, name), high, at(until)) for name, high, until in asked]
        with self.transaction() as cursor:
            raised = execute_values(
                cursor,
                RAISE_WATERMARKS,
                rows,
                "(%s, %s::bigint, %s::timestamptz)",
                page_size=1024,
                fetch=True,
            )
            if raised:
                cursor.execute("SELECT pg_notify('trades', %s)", (venue,))
        return {numbers[row[0]] for row in raised}

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

    def times_of(
        self, venue: Venue, gap: Gap
    ) -> tuple[datetime | None, datetime | None, datetime | None]:
        """The times of the trades before and behind a gap, and of the newest; see gaps.times_of."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            return times_of(cursor, number, gap)

    def close_gap(self, venue: Venue, gap: Gap) -> int:
        """Mark the gap as filled if every id of it is stored; the number of gaps closed."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            lock_feed(cursor, number)
            if closed := close_filled(cursor, number, gap.first_id, gap.last_id):
                let_read_anew(cursor, number)
            return closed

    def settle(
        self,
        venue: Venue,
        gap: Gap,
        first: int,
        last: int,
        state: str,
        why: str,
        again: Again = NEVER,
    ) -> None:
        """Declare first … last inside an open gap `void` or `unrecoverable`; see gaps.settle."""
        number = self.instrument_id(venue, gap.symbol)
        with self.transaction() as cursor:
            still_owned(gap.symbol, lock_feed(cursor, number), self.owner)
            settle(cursor, number, gap, [(first, last)], state, why, again)

    # -- bars stated by others, and what could not be stored

    def write_klines(self, venue: Venue, klines: Sequence[Kline]) -> int:
        """Store closed bars that the exchange stated; the number of rows that changed."""
        if not klines:
            return 0
        numbers = {k.symbol: self.instrument_id(venue, k.symbol) for k in klines}
        told = {(numbers[k.symbol], k.bar_s, k.ts_us): k for k in klines}  # the last word counts
        rows = [  # in one order everywhere: two who store the same ones do not block each other
            (
                number,
                bar_s,
                at(ts_us),
                k.open,
                k.high,
                k.low,
                k.close,
                k.volume,
                k.quote_volume,
                k.taker_buy_volume,
                k.trades,
            )
            for (number, bar_s, ts_us), k in sorted(told.items())
        ]
        with self.transaction() as cursor:
            changed = execute_values(cursor, UPSERT_KLINES, rows, page_size=1000, fetch=True)
            spans = {
                number: [ts for other, ts in changed if other == number]
                for number in sorted({number for number, _ in changed})
            }
            if changed:
                cursor.execute(
                    "SELECT FROM feed WHERE instrument_id = ANY(%(n)s) ORDER BY instrument_id"
                    " FOR UPDATE;"
                    "UPDATE feed SET revision = revision + 1 WHERE instrument_id = ANY(%(n)s)",
                    {"n": list(spans)},
                )
                note_changes(cursor, [(n, min(ts), max(ts)) for n, ts in spans.items()])
        return len(changed)

    def write_upload(
        self,
        symbol: str,
        bar_s: int,
        bars: pd.DataFrame,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Uploaded:
        """Store a user's bars under venue `upload`, all of them or none; a bar stored before with
        other values is replaced, an equal one left alone. `progress(rows done, rows)` is called
        on the way and may raise to leave everything as it was."""
        number = self.instrument_id("upload", symbol)
        stamps = pd.DatetimeIndex(bars.index).as_unit("us").asi8
        columns = [stamps, *(bars[name].to_numpy() for name in UPLOAD_COLUMNS)]
        with self.transaction() as cursor:
            cursor.execute(STAGE_UPLOAD)
            for first in range(0, len(bars), UPLOAD_ROWS):
                rows = zip(*(c[first : first + UPLOAD_ROWS].tolist() for c in columns), strict=True)
                text = "".join("\t".join(map(repr, row)) + "\n" for row in rows)
                cursor.copy_expert("COPY uploaded FROM STDIN", io.StringIO(text))
                progress(first, len(bars))
            cursor.execute(
                "SELECT FROM instrument WHERE instrument_id = %s AND symbol = %s FOR UPDATE",
                (number, symbol),
            )
            if cursor.fetchone() is None:
                raise ValueError(f"{symbol} got another name meanwhile: store the file again")
            cursor.execute(FOLD_UPLOAD, {"number": number, "bar_s": bar_s})
            new, changed, first, last = one(cursor)
            if first is not None:
                cursor.execute(
                    "WITH grown AS (UPDATE instrument SET revision = revision + 1"
                    " WHERE instrument_id = %s RETURNING revision)"
                    " INSERT INTO bar_change SELECT %s, revision, %s, %s FROM grown",
                    (number, number, first, last),
                )
        return Uploaded(int(new), int(changed), len(bars) - int(new) - int(changed))

    def quarantine(self, venue: Venue, rejected: Sequence[Rejected]) -> None:
        """Keep what arrived and is no storable trade, each id once; characters that PostgreSQL
        refuses are shown."""
        with self.transaction() as cursor:
            quarantine(cursor, venue, rejected)


def quarantine(cursor: Cursor, venue: Venue, rejected: Sequence[Rejected]) -> None:
    """See PostgresStore.quarantine; inside the caller's transaction."""
    rows = [
        (
            venue,
            None if r.symbol is None else storable(r.symbol)[:100],
            storable(r.reason)[:1000],
            storable(r.frame)[:10_000],
            r.trade_id,
        )
        for r in rejected
    ]
    if rows:
        execute_values(cursor, QUARANTINE, rows, page_size=1000)


def storable(text: str) -> str:
    """Any text as PostgreSQL can hold it: NUL and lone surrogates as escapes."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
