"""PostgreSQL's answers to the questions of `Reader`: the statements of `queries` on one engine, or
on one connection of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import pandas as pd

from pairs.market import Instrument
from pairs.storage import queries, uploads
from pairs.storage.reader import FeedStatus, Reader
from pairs.storage.reading import Source, moment


class PostgresReader:
    """See `Reader` for what each question means."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @contextmanager
    def moment(self) -> Iterator[Reader]:
        with moment(self._source) as connection:
            yield PostgresReader(connection)

    def bars(
        self,
        venue: str,
        symbol: str,
        bar_s: int,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DataFrame:
        return queries.read_bars(self._source, venue, symbol, bar_s, start, end)

    def incomplete(
        self,
        venue: str,
        symbol: str,
        bar_s: int,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DatetimeIndex:
        return queries.read_incomplete(self._source, venue, symbol, bar_s, start, end)

    def newest_bar(self, venue: str, symbol: str, bar_s: int) -> datetime | None:
        return queries.newest_bar(self._source, venue, symbol, bar_s)

    def newest_bars(self, legs: Sequence[tuple[str, str, int]]) -> list[datetime | None]:
        return queries.newest_bars(self._source, legs)

    def closes(
        self,
        legs: Sequence[tuple[str, str, int]],
        bar_s: int,
        start: datetime,
        end: datetime,
    ) -> pd.DataFrame:
        return queries.read_closes(self._source, legs, bar_s, start, end)

    def symbols(self) -> dict[str, list[str]]:
        return queries.read_symbols(self._source)

    def bar_sizes(self, venue: str, symbol: str) -> list[int]:
        return queries.read_bar_sizes(self._source, venue, symbol)

    def sizes(self, venue: str) -> dict[str, list[int]]:
        return queries.read_sizes(self._source, venue)

    def feeds(self, venue: str) -> list[FeedStatus]:
        return queries.read_feeds(self._source, venue)

    def changes(
        self, instrument: tuple[str, str], since: int, until: int
    ) -> list[tuple[datetime, datetime]] | None:
        return queries.read_changes(self._source, instrument, since, until)

    def upload_revisions(self, symbols: Sequence[str]) -> dict[Instrument, int]:
        return queries.read_upload_revisions(self._source, symbols)

    def ticks(
        self, venue: str, symbol: str, start: datetime, end: datetime, limit: int
    ) -> pd.DataFrame:
        return queries.read_ticks(self._source, venue, symbol, start, end, limit)

    def span(self, venue: str, symbol: str, bar_s: int) -> tuple[datetime, datetime] | None:
        return queries.read_span(self._source, venue, symbol, bar_s)

    def gaps(self, instruments: Sequence[tuple[str, str]], limit: int) -> pd.DataFrame:
        return queries.read_gaps(self._source, instruments, limit)

    def quarantine(self, limit: int) -> pd.DataFrame:
        return queries.read_quarantine(self._source, limit)

    def uploads(self) -> pd.DataFrame:
        return uploads.read_uploads(self._source)

    def has_bars(
        self, venue: str, symbol: str, bar_s: int, first: datetime, last: datetime
    ) -> bool:
        return uploads.has_bars(self._source, venue, symbol, bar_s, first, last)
