"""What may be read of a store: the seam between those who read and the engine that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd

from pairs.market import Instrument

__all__ = ["BAR_COLUMNS", "FeedStatus", "Reader"]

BAR_COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "taker_buy_volume",
    "trades",
)


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
    watermark: datetime | None = None  # no trade before it is still on its way, by its clock


class Reader(Protocol):
    """The questions of page, alerts and backtest. Every one ends in time; where the database is
    away it raises one of `errors.DATABASE_ERRORS`. PostgreSQL's answers: `postgres_reader.py`."""

    def moment(self) -> AbstractContextManager[Reader]:
        """A reader that sees everything as of one and the same moment."""

    def bars(
        self,
        venue: str,
        symbol: str,
        bar_s: int,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DataFrame:
        """Stored bars with start ≤ ts < end, oldest first: UTC index `ts` (open times), float
        columns BAR_COLUMNS, NaN where the source does not tell them; `attrs` notes their length."""

    def incomplete(
        self,
        venue: str,
        symbol: str,
        bar_s: int,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DatetimeIndex:
        """Open times of those bars of which a trade is known to be missing, oldest first."""

    def newest_bar(self, venue: str, symbol: str, bar_s: int) -> datetime | None:
        """Open time of the newest stored bar; None where there is none."""

    def newest_bars(self, legs: Sequence[tuple[str, str, int]]) -> list[datetime | None]:
        """The same of each (venue, symbol, bar_s), in one question."""

    def closes(
        self,
        legs: Sequence[tuple[str, str, int]],
        bar_s: int,
        start: datetime,
        end: datetime,
    ) -> pd.DataFrame:
        """Closes as bars of `bar_s` with start ≤ ts < end, column k for the k-th leg (venue,
        symbol, the stored length it is made from), NaN where it has no bar."""

    def symbols(self) -> dict[str, list[str]]:
        """Venue → symbols that have something stored, in alphabetical order."""

    def bar_sizes(self, venue: str, symbol: str) -> list[int]:
        """The bar lengths (seconds) stored for a symbol, shortest first."""

    def sizes(self, venue: str) -> dict[str, list[int]]:
        """Symbol → the bar lengths (seconds) its klines are stored at, shortest first."""

    def feeds(self, venue: str) -> list[FeedStatus]:
        """The state of every feed of a venue, by symbol."""

    def changes(
        self, instrument: tuple[str, str], since: int, until: int
    ) -> list[tuple[datetime, datetime]] | None:
        """The first and last time of every change of an instrument's bars after revision `since`,
        up to `until`; None where not all of them are noted (any more)."""

    def upload_revisions(self, symbols: Sequence[str]) -> dict[Instrument, int]:
        """How often the bars of these files were changed."""

    def ticks(
        self, venue: str, symbol: str, start: datetime, end: datetime, limit: int
    ) -> pd.DataFrame:
        """The newest `limit` trades with start ≤ ts < end, in the order of their ids: index `ts`,
        columns trade_id, price, size, buyer_is_maker."""

    def span(self, venue: str, symbol: str, bar_s: int) -> tuple[datetime, datetime] | None:
        """Open times of the first and the last stored bar of this length; None where there is
        none."""

    def gaps(self, instruments: Sequence[tuple[str, str]], limit: int) -> pd.DataFrame:
        """The newest holes of these instruments and what became of them, newest first."""

    def quarantine(self, limit: int) -> pd.DataFrame:
        """The newest frames that could not be stored as a trade, newest first."""

    def uploads(self) -> pd.DataFrame:
        """Every upload by symbol: symbol, bar_s, bars, first, last. It counts, so ask seldom."""

    def has_bars(
        self, venue: str, symbol: str, bar_s: int, first: datetime, last: datetime
    ) -> bool:
        """Whether any bar of that length is stored between two open times, both included."""
