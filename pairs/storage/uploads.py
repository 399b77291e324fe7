"""The files of users: what is stored of them, and what they may be held against."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from sqlalchemy import text

from pairs.storage.reading import Source, connected


def read_uploads(source: Source) -> pd.DataFrame:
    """Every upload by symbol: symbol, bar_s, bars, first, last. It counts, so ask seldom."""
    query = text(
        "SELECT symbol, bar_s, count(*), min(ts), max(ts)"
        " FROM kline JOIN instrument USING (instrument_id) WHERE venue = 'upload'"
        " GROUP BY symbol, bar_s ORDER BY symbol, bar_s"
    )
    with connected(source) as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    table = pd.DataFrame(rows, columns=["symbol", "bar_s", "bars", "first", "last"])
    for name in ("first", "last"):
        table[name] = pd.to_datetime(table[name], utc=True)
    return table


def has_bars(
    source: Source, venue: str, symbol: str, bar_s: int, first: datetime, last: datetime
) -> bool:
    """Whether any bar of that length is stored between two open times, both included."""
    query = text(
        "SELECT EXISTS (SELECT FROM v_bars WHERE venue = :venue AND symbol = :symbol"
        " AND bar_s = :bar_s AND ts >= :first AND ts <= :last)"
    )
    where = {"venue": venue, "symbol": symbol, "bar_s": bar_s, "first": first, "last": last}
    with connected(source) as connection:
        return bool(connection.execute(query, where).scalar_one())
