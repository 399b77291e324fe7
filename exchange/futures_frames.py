"""Events as USD-M futures write them: no M, the newer fields nq and st, milliseconds only."""

from __future__ import annotations

from exchange.book import MARK_US, Quote
from exchange.frames import FLAG, AggregateMessage, Plain, TradeMessage, quoted
from exchange.tape import AggregateRow, Symbol

SYMBOL_TYPE = 1  # `st`: USD-M


class FuturesAggregate(AggregateMessage):
    """An `@aggTrade` event; faults of trade frames hit it by its number `a`."""

    __slots__ = ()

    def __init__(self, info: Symbol, row: AggregateRow, event_us: int) -> None:
        super().__init__(info, row, event_us)
        self.trade_id = row[0]

    def payload(self, micro: bool) -> bytes:
        info = self.info
        number, price, qty, first, last, t_us, maker = self.row
        lots = info.quantity(qty)
        return (
            f'{{"e":"aggTrade","E":{self.event_us // 1000},"s":"{info.name}","a":{number},'
            f'"p":"{info.price(price)}","q":"{lots}","f":{first},"l":{last},'
            f'"T":{t_us // 1000},"m":{FLAG[maker]},"nq":"{lots}","st":{SYMBOL_TYPE}}}'
        ).encode()


class FuturesTrade(TradeMessage):
    """An event of the undocumented `@trade`."""

    __slots__ = ()

    def payload(self, micro: bool) -> bytes:
        price, qty = self.info.price(self.price), self.info.quantity(self.qty)
        return self.event(price, qty, "MARKET")

    def event(self, price: str, qty: str, kind: str) -> bytes:
        """The event with price, quantity and `X` as given."""
        return (
            f'{{"e":"trade","E":{self.event_us // 1000},"T":{self.t_us // 1000},'
            f'"s":"{self.info.name}","t":{self.trade_id},"p":"{price}","q":"{qty}",'
            f'"X":"{kind}","m":{FLAG[self.maker]}}}'
        ).encode()


class Placeholder(FuturesTrade):
    """A number of `@trade` that no trade has: price and quantity are 0."""

    __slots__ = ()

    def __init__(self, info: Symbol, trade_id: int, t_us: int, maker: bool, event_us: int) -> None:
        super().__init__(info, trade_id, 0, 0, t_us, maker, event_us)

    def payload(self, micro: bool) -> bytes:
        return self.event("0", "0", "NA")


def book_ticker(info: Symbol, mark: int, quote: Quote) -> Plain:
    """A `@bookTicker` event; T and E are the mark's time."""
    at = mark * MARK_US // 1000
    raw = b'{"e":"bookTicker",%s,"T":%d,"E":%d}' % (quoted(info, mark, quote), at, at)
    return Plain(info.name.lower() + "@bookTicker", raw)
