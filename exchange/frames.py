"""Bytes that go over the socket: event payloads, wrappers and WebSocket framing. Pure.

Each message is serialised once per form (raw or combined, ms or µs) and its bytes are shared
by all connections.
"""

from __future__ import annotations

from collections.abc import Callable

from exchange.book import Quote
from exchange.tape import AggregateRow, Symbol

FLAG = ("false", "true")


def ws_frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """An unmasked, unfragmented WebSocket frame, as servers send (RFC 6455, section 5.2)."""
    size = len(payload)
    first = bytes((0x80 | opcode,))
    if size < 126:
        return first + bytes((size,)) + payload
    if size < 65_536:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


class Message:
    """One event of one stream; subclasses say how it reads in ms and in µs.

    `trade_id` is set for `@trade` events only, `symbol` in upper case where known.
    """

    __slots__ = ("_wire", "stream", "symbol", "trade_id")

    def __init__(self, stream: str, symbol: str = "", trade_id: int | None = None) -> None:
        self.stream = stream
        self.symbol = symbol
        self.trade_id = trade_id
        self._wire: list[bytes | None] = [None, None, None, None]

    @property
    def count(self) -> int:
        """How many frames it is."""
        return 1

    def split(self) -> list[Message]:
        """The single messages it is made of."""
        return [self]

    def payload(self, micro: bool) -> bytes:
        """The raw event as JSON."""
        raise NotImplementedError

    def body(self, combined: bool, micro: bool) -> bytes:
        """The event as JSON, in the combined wrapper where asked for."""
        raw = self.payload(micro)
        return b'{"stream":"%s","data":%s}' % (self.stream.encode(), raw) if combined else raw

    def framed(self, form: int) -> bytes:
        """Build what `wire` keeps."""
        return ws_frame(self.body(bool(form & 1), bool(form & 2)))

    def wire(self, form: int) -> bytes:
        """The framed bytes; `form` is combined + 2 × micro."""
        data = self._wire[form]
        if data is None:
            data = self._wire[form] = self.framed(form)
        return data


class Plain(Message):
    """A message whose JSON is given, in ms and (where it differs) in µs."""

    __slots__ = ("_micro", "_milli")

    def __init__(self, stream: str, milli: bytes, micro: bytes | None = None) -> None:
        super().__init__(stream)
        self._milli = milli
        self._micro = milli if micro is None else micro

    def payload(self, micro: bool) -> bytes:
        return self._micro if micro else self._milli


class Changed(Message):
    """A message altered on its way out; it keeps its identity.

    `change` takes the JSON: of the event alone, or where `whole` of all that goes out.
    """

    __slots__ = ("_change", "_inner", "_opcode", "_whole")

    def __init__(
        self,
        inner: Message,
        change: Callable[[bytes], bytes],
        *,
        whole: bool = False,
        opcode: int = 0x1,
    ) -> None:
        super().__init__(inner.stream, inner.symbol, inner.trade_id)
        self._inner = inner
        self._change = change
        self._whole = whole
        self._opcode = opcode

    def payload(self, micro: bool) -> bytes:
        raw = self._inner.payload(micro)
        return raw if self._whole else self._change(raw)

    def framed(self, form: int) -> bytes:
        body = self.body(bool(form & 1), bool(form & 2))
        return ws_frame(self._change(body) if self._whole else body, self._opcode)


class TradeMessage(Message):
    """A `@trade` event. `event_us` is when it is sent, `t_us` when it was traded."""

    __slots__ = ("event_us", "info", "maker", "price", "qty", "t_us")

    def __init__(
        self,
        info: Symbol,
        trade_id: int,
        price: int,
        qty: int,
        t_us: int,
        maker: bool,
        event_us: int,
    ) -> None:
        super().__init__(info.name.lower() + "@trade", info.name, trade_id)
        self.info = info
        self.price = price
        self.qty = qty
        self.t_us = t_us
        self.maker = maker
        self.event_us = event_us

    def payload(self, micro: bool) -> bytes:
        unit = 1 if micro else 1000
        info = self.info
        return (
            f'{{"e":"trade","E":{self.event_us // unit},"s":"{info.name}","t":{self.trade_id},'
            f'"p":"{info.price(self.price)}","q":"{info.quantity(self.qty)}",'
            f'"T":{self.t_us // unit},"m":{FLAG[self.maker]},"M":true}}'
        ).encode()


class AggregateMessage(Message):
    """An `@aggTrade` event: trades of one taker order at one price."""

    __slots__ = ("event_us", "info", "row")

    def __init__(self, info: Symbol, row: AggregateRow, event_us: int) -> None:
        super().__init__(info.name.lower() + "@aggTrade", info.name)
        self.info = info
        self.row = row
        self.event_us = event_us

    def payload(self, micro: bool) -> bytes:
        unit = 1 if micro else 1000
        info = self.info
        number, price, qty, first, last, t_us, maker = self.row
        return (
            f'{{"e":"aggTrade","E":{self.event_us // unit},"s":"{info.name}","a":{number},'
            f'"p":"{info.price(price)}","q":"{info.quantity(qty)}","f":{first},"l":{last},'
            f'"T":{t_us // unit},"m":{FLAG[maker]},"M":true}}'
        ).encode()


def book_ticker(info: Symbol, mark: int, quote: Quote) -> Plain:
    """A `@bookTicker` event: best bid and ask; it carries no time."""
    return Plain(info.name.lower() + "@bookTicker", b"{%s}" % quoted(info, mark, quote))


def quoted(info: Symbol, mark: int, quote: Quote) -> bytes:
    """The fields of a best bid and ask."""
    return (
        f'"u":{mark},"s":"{info.name}","b":"{info.price(quote.bid)}",'
        f'"B":"{info.quantity(quote.bid_lots)}","a":"{info.price(quote.ask)}",'
        f'"A":"{info.quantity(quote.ask_lots)}"'
    ).encode()
