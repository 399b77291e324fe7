"""The read side of the store: bars, trades and the state of the feeds as plain rows and frames."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg2
from sqlalchemy import Executable, bindparam, text
from sqlalchemy.exc import DBAPIError, OperationalError

from pairs.market import Instrument
from pairs.storage.copying import copy_columns
from pairs.storage.gaps import TRADES_PER_PARTITION
from pairs.storage.reader import BAR_COLUMNS, FeedStatus
from pairs.storage.reading import BULK_S, Source, connected

# A file does not tell every column: NaN stands for NULL.
_BAR_VALUES = ", ".join(f"coalesce({name}::float8, 'NaN')" for name in BAR_COLUMNS)


def read_bars(
    source: Source,
    venue: str,
    symbol: str,
    bar_s: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pd.DataFrame:
    """Stored bars with start ≤ ts < end, oldest first: UTC index `ts` (open times), float columns.

    quote_volume, taker_buy_volume and trades are NaN where the source does not tell them.
    `attrs` notes their length, which the labels of a quiet symbol do not tell.
    """
    query = f"SELECT ts, {_BAR_VALUES} FROM v_bars WHERE {_between(start, end)} ORDER BY ts"  # noqa: S608
    parameters = {"venue": venue, "symbol": symbol, "bar_s": bar_s, "start": start, "end": end}
    kinds = ("timestamptz", *("float8",) * len(BAR_COLUMNS))
    stamps, *values = _columns(source, query, parameters, kinds, bulk=True)
    bars = pd.DataFrame(
        dict(zip(BAR_COLUMNS, values, strict=True)), index=_index(stamps), columns=list(BAR_COLUMNS)
    )
    bars.attrs["bar_ns"] = bar_s * 1_000_000_000  # read by resampling.resample_bars
    return bars


def _between(start: datetime | None, end: datetime | None) -> str:
    """Bars of one instrument and length with start ≤ ts < end, None: no bound."""
    where = "venue = %(venue)s AND symbol = %(symbol)s AND bar_s = %(bar_s)s"
    where += " AND ts >= %(start)s" if start is not None else ""
    return where + (" AND ts < %(end)s" if end is not None else "")


def read_incomplete(
    source: Source,
    venue: str,
    symbol: str,
    bar_s: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pd.DatetimeIndex:
    """Open times of those stored bars with start ≤ ts < end of which a trade is known to be
    missing, oldest first; mostly none."""
    where = f"{_between(start, end)} AND NOT complete"
    parameters = {"venue": venue, "symbol": symbol, "bar_s": bar_s, "start": start, "end": end}
    query = f"SELECT ts FROM v_bars WHERE {where} ORDER BY ts"  # noqa: S608
    return _index(_columns(source, query, parameters, ("timestamptz",))[0])


def _columns(
    source: Source,
    query: str,
    parameters: dict[str, Any],
    kinds: Sequence[str],
    *,
    bulk: bool = False,
) -> list[npt.NDArray[Any]]:
    """Where `bulk`, the statement may take long, unless it is one of several of a moment."""
    with connected(source) as connection:
        raw: Any = connection.connection
        try:
            with raw.cursor() as cursor:
                if bulk and connection is not source:
                    cursor.execute(f"SET LOCAL statement_timeout = '{BULK_S}s'")
                return copy_columns(cursor, query, parameters, kinds)
        except psycopg2.OperationalError as error:
            if raw.closed:
                connection.invalidate()
            raise OperationalError("COPY", None, error) from error
        except psycopg2.Error as error:
            raise DBAPIError("COPY", None, error) from error


def _index(stamps: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.astype("datetime64[us]"), tz="UTC", name="ts")


# Instruments with the bar length each is read at, numbered from 1.
_LEGS = (
    "unnest(%(venues)s::text[], %(symbols)s::text[], %(bases)s::int[])"
    " WITH ORDINALITY AS leg (venue, symbol, bar_s, k)"
)


# OFFSET 0: each leg is read through its index, whatever the planner thinks of all together.
_STORED_CLOSES = (
    f"SELECT leg.k, b.ts, b.close FROM {_LEGS} CROSS JOIN LATERAL ("  # noqa: S608 - our own
    " SELECT ts, close FROM v_bars WHERE venue = leg.venue AND symbol = leg.symbol"
    "  AND bar_s = leg.bar_s AND ts >= %(start)s AND ts < %(end)s OFFSET 0) AS b"
)
# The last bar of each longer one, through the index, as v_bars would choose it: what is read
# does not grow with the length.
_LAST = (
    "LEFT JOIN LATERAL (SELECT ts, close, trades FROM {table}"
    "  WHERE instrument_id = i.instrument_id AND bar_s = leg.bar_s"
    "  AND ts >= span.ts AND ts < span.ts + make_interval(secs => %(bar_s)s)"
    "  ORDER BY ts DESC LIMIT 1) AS {name} ON true "
)
_LAST_CLOSES = (
    "SELECT leg.k, span.ts, coalesce(CASE WHEN l.ts > b.ts OR (l.ts = b.ts"  # noqa: S608 - our own
    "  AND l.trades > b.trades) THEN l.close END, b.close, l.close, whole.close)"
    f" FROM {_LEGS} JOIN instrument i USING (venue, symbol)"
    " CROSS JOIN generate_series(%(start)s::timestamptz,"
    "  %(end)s::timestamptz - make_interval(secs => %(bar_s)s),"
    "  make_interval(secs => %(bar_s)s)) AS span (ts) "
    + _LAST.format(table="bar", name="b")
    + _LAST.format(table="kline", name="l")
    # What lies before the shorter ones, the exchange states at the full length.
    + "LEFT JOIN kline whole ON b.ts IS NULL AND l.ts IS NULL"
    "  AND whole.instrument_id = i.instrument_id AND whole.bar_s = %(bar_s)s"
    "  AND whole.ts = span.ts "
    "WHERE b.ts IS NOT NULL OR l.ts IS NOT NULL OR whole.ts IS NOT NULL"
)


# Each maximum is the end of an index; one over a join reads every bar there is.
NEWEST_BARS = (
    "SELECT k, newest FROM (SELECT leg.k, greatest("  # noqa: S608 - our own
    " (SELECT max(ts) FROM bar b"
    "  WHERE b.instrument_id = i.instrument_id AND b.bar_s = leg.bar_s),"
    " (SELECT max(ts) FROM kline l"
    "  WHERE l.instrument_id = i.instrument_id AND l.bar_s = leg.bar_s)) AS newest"
    f" FROM {_LEGS} JOIN instrument i USING (venue, symbol)"
    ") AS found WHERE newest IS NOT NULL"
)


def newest_bar(source: Source, venue: str, symbol: str, bar_s: int) -> datetime | None:
    """Open time of the newest stored bar; None where there is none."""
    return newest_bars(source, [(venue, symbol, bar_s)])[0]


def newest_bars(source: Source, legs: Sequence[tuple[str, str, int]]) -> list[datetime | None]:
    """Open time of the newest stored bar of each (venue, symbol, bar_s), None where there is
    none: one query for all, whose cost does not grow with the history."""
    numbers, stamps = _columns(source, NEWEST_BARS, _legs(legs), ("bigint", "timestamptz"))
    newest = dict(zip(numbers.tolist(), _index(stamps).to_pydatetime(), strict=True))
    return [newest.get(k) for k in range(1, len(legs) + 1)]


_SPAN = text(
    "SELECT least((SELECT min(ts) FROM bar b WHERE b.instrument_id = i.instrument_id"
    "  AND b.bar_s = :bar_s), (SELECT min(ts) FROM kline l"
    "  WHERE l.instrument_id = i.instrument_id AND l.bar_s = :bar_s)),"
    " greatest((SELECT max(ts) FROM bar b WHERE b.instrument_id = i.instrument_id"
    "  AND b.bar_s = :bar_s), (SELECT max(ts) FROM kline l"
    "  WHERE l.instrument_id = i.instrument_id AND l.bar_s = :bar_s))"
    " FROM instrument i WHERE venue = :venue AND symbol = :symbol"
)


def read_span(
    source: Source, venue: str, symbol: str, bar_s: int
) -> tuple[datetime, datetime] | None:
    """Open times of the first and the last stored bar of this length; None where there is none."""
    with connected(source) as connection:
        row = connection.execute(
            _SPAN, {"venue": venue, "symbol": symbol, "bar_s": bar_s}
        ).one_or_none()
    return None if row is None or row[0] is None else (row[0], row[1])


def read_closes(
    source: Source,
    legs: Sequence[tuple[str, str, int]],
    bar_s: int,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    """Closes of many instruments with start ≤ ts < end as bars of `bar_s`, in one query: UTC
    index `ts` (open times, oldest first), column k for the k-th leg (venue, symbol, the stored
    length it is made from), NaN where it has no bar. `attrs` notes the length, as `read_bars`.

    `start` and `end` are to be multiples of `bar_s`.
    """
    same = all(base == bar_s for _, _, base in legs)
    query = _STORED_CLOSES if same else _LAST_CLOSES
    parameters = {**_legs(legs), "bar_s": bar_s, "start": start, "end": end}
    kinds = ("bigint", "timestamptz", "float8")
    numbers, stamps, close = _columns(source, query, parameters, kinds, bulk=True)
    labels, rows = np.unique(stamps, return_inverse=True)
    table = np.full((len(labels), len(legs)), np.nan)
    table[rows, numbers - 1] = close
    closes = pd.DataFrame(table, index=_index(labels))
    closes.attrs["bar_ns"] = bar_s * 1_000_000_000
    return closes


def _legs(legs: Sequence[tuple[str, str, int]]) -> dict[str, list[Any]]:
    venues, symbols, bases = zip(*legs, strict=True) if legs else ((), (), ())
    return {"venues": list(venues), "symbols": list(symbols), "bases": list(bases)}


def read_symbols(source: Source) -> dict[str, list[str]]:
    """Venue → symbols that have something stored, in alphabetical order."""
    query = text(
        "SELECT venue, symbol FROM instrument i WHERE"
        " EXISTS (SELECT FROM kline k WHERE k.instrument_id = i.instrument_id)"
        " OR EXISTS (SELECT FROM bar b WHERE b.instrument_id = i.instrument_id)"
        " ORDER BY venue, symbol"
    )
    found: dict[str, list[str]] = {}
    with connected(source) as connection:
        for venue, symbol in connection.execute(query):
            found.setdefault(venue, []).append(symbol)
    return found


def read_bar_sizes(source: Source, venue: str, symbol: str) -> list[int]:
    """The bar lengths (seconds) stored for a symbol, shortest first."""
    query = text(
        "SELECT bar_s FROM (SELECT DISTINCT bar_s FROM kline JOIN instrument USING (instrument_id)"
        " WHERE venue = :venue AND symbol = :symbol) AS sizes ORDER BY bar_s"
    )
    with connected(source) as connection:
        return [
            int(row[0]) for row in connection.execute(query, {"venue": venue, "symbol": symbol})
        ]


def read_sizes(source: Source, venue: str) -> dict[str, list[int]]:
    """Symbol → the bar lengths (seconds) its klines are stored at, shortest first."""
    # From one length to the next through the index, over however many bars.
    query = text(
        "WITH RECURSIVE size AS ("
        " SELECT i.instrument_id, (SELECT min(bar_s) FROM kline k"
        "  WHERE k.instrument_id = i.instrument_id) AS bar_s"
        "  FROM instrument i WHERE i.venue = :venue"
        " UNION ALL SELECT s.instrument_id, (SELECT min(bar_s) FROM kline k"
        "  WHERE k.instrument_id = s.instrument_id AND k.bar_s > s.bar_s)"
        "  FROM size s WHERE s.bar_s IS NOT NULL)"
        " SELECT symbol, bar_s FROM size JOIN instrument USING (instrument_id)"
        " WHERE bar_s IS NOT NULL ORDER BY symbol, bar_s"
    )
    found: dict[str, list[int]] = {}
    with connected(source) as connection:
        for symbol, bar_s in connection.execute(query, {"venue": venue}):
            found.setdefault(symbol, []).append(int(bar_s))
    return found


def read_feeds(source: Source, venue: str) -> list[FeedStatus]:
    """The state of every feed of a venue, by symbol."""
    query = text(
        "SELECT i.symbol, v.state, f.detail, f.last_trade, f.last_received,"
        " extract(epoch FROM now() - f.last_trade), extract(epoch FROM now() - f.last_received),"
        " extract(epoch FROM now() - f.heartbeat), count(g), "
        " coalesce(sum(g.last_id - g.first_id + 1), 0), f.stored, f.revision, f.watermark"
        " FROM feed f JOIN instrument i USING (instrument_id)"
        " JOIN v_feed v ON v.venue = i.venue AND v.symbol = i.symbol"
        " LEFT JOIN gap g ON g.instrument_id = f.instrument_id AND g.state = 'open'"
        " WHERE i.venue = :venue"
        " GROUP BY i.symbol, v.state, f.instrument_id ORDER BY i.symbol"
    )
    with connected(source) as connection:
        return [_feed(*row) for row in connection.execute(query, {"venue": venue})]


def _feed(*row: Any) -> FeedStatus:
    ages = [None if age is None else float(age) for age in row[5:8]]
    values: list[Any] = [*row[:5], *ages, *map(int, row[8:12]), row[12]]
    return FeedStatus(*values)


def read_changes(
    source: Source, instrument: tuple[str, str], since: int, until: int
) -> list[tuple[datetime, datetime]] | None:
    """The first and last time of every change of an instrument's bars after revision `since`, up
    to `until`; None where not all of them are noted (any more)."""
    query = text(
        "SELECT first_ts, last_ts FROM bar_change WHERE instrument_id ="
        " (SELECT instrument_id FROM instrument WHERE venue = :venue AND symbol = :symbol)"
        " AND revision > :since AND revision <= :until"
    )
    venue, symbol = instrument
    parameters = {"venue": venue, "symbol": symbol, "since": since, "until": until}
    with connected(source) as connection:
        found = [(row[0], row[1]) for row in connection.execute(query, parameters)]
    return found if len(found) == until - since else None


def read_upload_revisions(source: Source, symbols: Sequence[str]) -> dict[Instrument, int]:
    """How often the bars of these files were changed."""
    query = text(
        "SELECT symbol, revision FROM instrument WHERE venue = 'upload' AND symbol IN :symbols"
    ).bindparams(bindparam("symbols", expanding=True))
    with connected(source) as connection:
        rows = connection.execute(query, {"symbols": list(symbols)}).all()
    return {Instrument("upload", symbol): int(revision) for symbol, revision in rows}


_RECORD = text(
    "SELECT instrument_id, first_id, high_id FROM feed JOIN instrument USING (instrument_id)"
    " WHERE venue = :venue AND symbol = :symbol AND high_id IS NOT NULL"
)
_TICKS = (
    "SELECT ts, trade_id, price, size, buyer_is_maker FROM trade"
    " WHERE instrument_id = %(number)s AND trade_id BETWEEN %(low)s AND %(high)s"
    " AND ts >= %(start)s AND ts < %(end)s ORDER BY trade_id DESC LIMIT %(limit)s"
)


def read_ticks(
    source: Source, venue: str, symbol: str, start: datetime, end: datetime, limit: int
) -> pd.DataFrame:
    """The newest `limit` trades with start ≤ ts < end, in the order of their ids: index `ts`,
    columns trade_id, price, size, buyer_is_maker."""
    # Numbers written out and the newest partition first: the planner looks at that one alone and
    # reads its key backwards up to the limit, whatever the length of the history.
    with connected(source) as connection:
        record = connection.execute(_RECORD, {"venue": venue, "symbol": symbol}).one_or_none()
    kinds = ("timestamptz", "bigint", "float8", "float8", "bool")
    number, first, high = record or (0, 0, 0)
    parts: list[list[npt.NDArray[Any]]] = []
    partitions, low = 1, high + 1
    while not parts or (limit > 0 and low > first):
        high = low - 1
        low = max(first, (high // TRADES_PER_PARTITION - partitions + 1) * TRADES_PER_PARTITION)
        asked = {
            "number": number,
            "low": low,
            "high": high,
            "start": start,
            "end": end,
            "limit": limit,
        }
        parts.append(_columns(source, _TICKS, asked, kinds))
        limit -= len(parts[-1][0])
        partitions *= 2  # few questions, however long the holes
    stamps, *values = (np.concatenate(column)[::-1] for column in zip(*parts, strict=True))
    names = ("trade_id", "price", "size", "buyer_is_maker")
    return pd.DataFrame(dict(zip(names, values, strict=True)), index=_index(stamps))


def read_gaps(source: Source, instruments: Sequence[tuple[str, str]], limit: int) -> pd.DataFrame:
    """The newest holes of these instruments and what became of them, newest first."""
    query = text(
        "SELECT i.venue, i.symbol, g.first_id, g.last_id, g.last_id - g.first_id + 1, g.state,"
        " g.reason, g.detected, g.closed FROM gap g JOIN instrument i USING (instrument_id)"
        " WHERE (i.venue, i.symbol) IN :instruments ORDER BY g.gap_id DESC LIMIT :limit"
    ).bindparams(bindparam("instruments", expanding=True))
    names = (
        "venue",
        "symbol",
        "first id",
        "last id",
        "trades",
        "state",
        "reason",
        "detected",
        "closed",
    )
    parameters = {"instruments": [tuple(i) for i in instruments], "limit": limit}
    return _frame(source, query, parameters, names, ("detected", "closed"))


def read_quarantine(source: Source, limit: int) -> pd.DataFrame:
    """The newest frames that could not be stored as a trade, newest first."""
    query = text(
        "SELECT detected, venue, symbol, reason, left(frame, 300) FROM quarantine"
        " ORDER BY quarantine_id DESC LIMIT :limit"
    )
    names = ("detected", "venue", "symbol", "reason", "frame")
    return _frame(source, query, {"limit": limit}, names, ("detected",))


def _frame(
    source: Source,
    query: Executable,
    parameters: dict[str, Any],
    names: Sequence[str],
    times: Sequence[str],
) -> pd.DataFrame:
    with connected(source) as connection:
        rows = [tuple(row) for row in connection.execute(query, parameters)]
    frame = pd.DataFrame(rows, columns=list(names))
    for name in times:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame
