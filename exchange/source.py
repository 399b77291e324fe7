"""What the server needs of a source of trades: the tape up to now, and the live frames."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from exchange.book import Book
from exchange.frames import Message
from exchange.tape import Bars, Symbol, Trades

Wanted = Callable[[], Mapping[str, int]]
"""Stream names that somebody listens to, with the number of listeners."""


class Source(Protocol):
    """Trades of some symbols, past and live.

    `kind` is what the exchange says of itself: synthetic or replay. `patient` says that live
    frames wait for slow clients instead of following a clock. Work under way ends early once
    `closed` is set.
    """

    symbols: dict[str, Symbol]
    kind: str
    patient: bool
    history_us: int
    closed: bool

    def now_us(self) -> int:
        """The exchange's clock, µs UTC."""

    def last_id(self, symbol: str) -> int:
        """Id of the last trade printed; one less than the first where none is."""

    def first_id(self, symbol: str) -> int:
        """Id of the first trade there is."""

    def listed_us(self, symbol: str) -> int:
        """When the symbol was listed: no kline is older."""

    def id_at(self, symbol: str, t_us: int) -> int:
        """Id of the first trade at or after `t_us`, printed or not."""

    def id_of_aggregate(self, symbol: str, aggregate: int) -> int:
        """Id of the first trade of that aggregate, or of the first one after it."""

    def trades(self, symbol: str, first_id: int, count: int) -> Trades:
        """At most `count` trades from `first_id` on, printed or not."""

    def part(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        """The bar of a part of one second, start ≤ T < end, of trades up to `last_id`."""

    def seconds(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        """One-second bars with start ≤ open time < end, of trades up to `last_id`."""

    def minutes(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        """One-minute bars with start ≤ open time < end (both full minutes), of trades up to
        `last_id`: those folded, but a source may keep them."""

    def book(self, symbol: str, mark: int) -> Book:
        """The order book at a mark; without levels where none is known."""

    def provides(self, stream: str) -> bool:
        """Whether `live` yields that stream itself."""

    def live(self, wanted: Wanted) -> AsyncGenerator[list[Message], None]:
        """Frames as they fall due, in batches, for ever."""
