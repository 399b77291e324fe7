"""The read side of the store: bars, trades and the state of the feeds as plain rows and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg2
from sqlalchemy import Engine, Executable, bindparam, text
from sqlalchemy.exc import DBAPIError, OperationalError

from storage.copying import copy_columns

BAR_COLUMNS = (
    "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trades",
)  # fmt: skip

# A file does not tell every column: NaN stands for NULL.
_BAR_VALUES = ", ".join(f"coalesce({name}::float8, 'NaN')" for name in BAR_COLUMNS)


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One symbol's feed as stored. Ages are seconds by the database's clock, None where unknown.

    `trade_age_s` counts from the exchange's trade time; `received_age_s` from our receipt.
    """

    symbol: str
    state: str
    detail: str
    last_trade: datetime | None
    last_received: datetime | None
    trade_age_s: float | None
    received_age_s: float | None
    heartbeat_age_s: float | None
    open_gaps: int
    missing: int
    stored: int
    revision: int


def read_bars(
    engine: Engine,
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
    where = "venue = %(venue)s AND symbol = %(symbol)s AND bar_s = %(bar_s)s"
    where += " AND ts >= %(start)s" if start is not None else ""
    where += " AND ts < %(end)s" if end is not None else ""
    query = f"SELECT ts, {_BAR_VALUES} FROM v_bars WHERE {where} ORDER BY ts"  # noqa: S608
    parameters = {"venue": venue, "symbol": symbol, "bar_s": bar_s, "start": start, "end": end}
    kinds = ("timestamptz", *("float8",) * len(BAR_COLUMNS))
    stamps, *values = _columns(engine, query, parameters, kinds)
    bars = pd.DataFrame(
        dict(zip(BAR_COLUMNS, values, strict=True)), index=_index(stamps), columns=list(BAR_COLUMNS)
    )
    bars.attrs["bar_ns"] = bar_s * 1_000_000_000  # read by resampling.resample_bars
    return bars


def _columns(
    engine: Engine, query: str, parameters: dict[str, Any], kinds: Sequence[str]
) -> list[npt.NDArray[Any]]:
    connection: Any = engine.raw_connection()
    try:
        with connection.cursor() as cursor:
            return copy_columns(cursor, query, parameters, kinds)
    except psycopg2.OperationalError as error:
        connection.invalidate()
        raise OperationalError("COPY", None, error) from error
    except psycopg2.Error as error:
        raise DBAPIError("COPY", None, error) from error
    finally:
        connection.close()


def _index(stamps: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.astype("datetime64[us]"), tz="UTC", name="ts")


def newest_bar(engine: Engine, venue: str, symbol: str, bar_s: int) -> datetime | None:
    """Open time of the newest stored bar; None where there is none."""
    query = text(
        "SELECT max(ts) FROM ("
        " SELECT max(ts) AS ts FROM bar JOIN instrument USING (instrument_id)"
        "  WHERE venue = :venue AND symbol = :symbol AND bar_s = :bar_s"
        " UNION ALL SELECT max(ts) FROM kline JOIN instrument USING (instrument_id)"
        "  WHERE venue = :venue AND symbol = :symbol AND bar_s = :bar_s) AS newest"
    )
    with engine.connect() as connection:
        value: datetime | None = connection.execute(
            query, {"venue": venue, "symbol": symbol, "bar_s": bar_s}
        ).scalar()
    return value


def read_symbols(engine: Engine) -> dict[str, list[str]]:
    """Venue → symbols that have something stored, in alphabetical order."""
    query = text(
        "SELECT venue, symbol FROM instrument i WHERE"
        " EXISTS (SELECT FROM kline k WHERE k.instrument_id = i.instrument_id)"
        " OR EXISTS (SELECT FROM bar b WHERE b.instrument_id = i.instrument_id)"
        " ORDER BY venue, symbol"
    )
    found: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for venue, symbol in connection.execute(query):
            found.setdefault(venue, []).append(symbol)
    return found


def read_bar_sizes(engine: Engine, venue: str, symbol: str) -> list[int]:
    """The bar lengths (seconds) stored for a symbol, shortest first."""
    query = text(
        "SELECT bar_s FROM (SELECT DISTINCT bar_s FROM kline JOIN instrument USING (instrument_id)"
        " WHERE venue = :venue AND symbol = :symbol) AS sizes ORDER BY bar_s"
    )
    with engine.connect() as connection:
        return [
            int(row[0]) for row in connection.execute(query, {"venue": venue, "symbol": symbol})
        ]


def read_feeds(engine: Engine, venue: str) -> list[FeedStatus]:
    """The state of every feed of a venue, by symbol."""
    query = text(
        "SELECT i.symbol, v.state, f.detail, f.last_trade, f.last_received,"
        " extract(epoch FROM now() - f.last_trade), extract(epoch FROM now() - f.last_received),"
        " extract(epoch FROM now() - f.heartbeat), count(g), "
        " coalesce(sum(g.last_id - g.first_id + 1), 0), f.stored, f.revision"
        " FROM feed f JOIN instrument i USING (instrument_id)"
        " JOIN v_feed v ON v.venue = i.venue AND v.symbol = i.symbol"
        " LEFT JOIN gap g ON g.instrument_id = f.instrument_id AND g.state = 'open'"
        " WHERE i.venue = :venue"
        " GROUP BY i.symbol, v.state, f.instrument_id ORDER BY i.symbol"
    )
    with engine.connect() as connection:
        return [
            FeedStatus(
                *row[:5], *(None if age is None else float(age) for age in row[5:8]),
                *(int(count) for count in row[8:]),
            )
            for row in connection.execute(query, {"venue": venue})
        ]  # fmt: skip


def read_ticks(
    engine: Engine, venue: str, symbol: str, start: datetime, end: datetime, limit: int
) -> pd.DataFrame:
    """The newest `limit` trades with start ≤ ts < end, in the order of their ids: index `ts`,
    columns trade_id, price, size, buyer_is_maker."""
    query = (
        "SELECT ts, trade_id, price, size, buyer_is_maker FROM (SELECT * FROM v_ticks"
        " WHERE venue = %(venue)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s"
        " ORDER BY trade_id DESC LIMIT %(limit)s) AS newest ORDER BY trade_id"
    )
    parameters = {"venue": venue, "symbol": symbol, "start": start, "end": end, "limit": limit}
    kinds = ("timestamptz", "bigint", "float8", "float8", "bool")
    stamps, *values = _columns(engine, query, parameters, kinds)
    names = ("trade_id", "price", "size", "buyer_is_maker")
    return pd.DataFrame(dict(zip(names, values, strict=True)), index=_index(stamps))


def read_gaps(engine: Engine, instruments: Sequence[tuple[str, str]], limit: int) -> pd.DataFrame:
    """The newest holes of these instruments and what became of them, newest first."""
    query = text(
        "SELECT i.venue, i.symbol, g.first_id, g.last_id, g.last_id - g.first_id + 1, g.state,"
        " g.reason, g.detected, g.closed FROM gap g JOIN instrument i USING (instrument_id)"
        " WHERE (i.venue, i.symbol) IN :instruments ORDER BY g.gap_id DESC LIMIT :limit"
    ).bindparams(bindparam("instruments", expanding=True))
    names = ("venue", "symbol", "first id", "last id", "trades", "state", "reason", "detected",
             "closed")  # fmt: skip
    parameters = {"instruments": [tuple(i) for i in instruments], "limit": limit}
    return _frame(engine, query, parameters, names, ("detected", "closed"))


def read_quarantine(engine: Engine, limit: int) -> pd.DataFrame:
    """The newest frames that could not be stored as a trade, newest first."""
    query = text(
        "SELECT detected, venue, symbol, reason, left(frame, 300) FROM quarantine"
        " ORDER BY quarantine_id DESC LIMIT :limit"
    )
    names = ("detected", "venue", "symbol", "reason", "frame")
    return _frame(engine, query, {"limit": limit}, names, ("detected",))


def _frame(
    engine: Engine, query: Executable, parameters: dict[str, Any], names: Sequence[str],
    times: Sequence[str],
) -> pd.DataFrame:  # fmt: skip
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query, parameters)]
    frame = pd.DataFrame(rows, columns=list(names))
    for name in times:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame
