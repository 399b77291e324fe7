"""Many consecutive events of one stream as one message: rendered in a few strokes.

A busy tape prints thousands of trades in a tick. Their frames are made by one formatting of all
rows together, which costs a fraction of making them one by one; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exchange.frames import FLAG, Message, TradeMessage
from exchange.tape import Bools, Ints, Symbol, Trades

LEAST = 24  # rows below which single messages are as quick
_POWERS = 10 ** np.arange(1, 19, dtype=np.int64)
_FLAGS = [text.encode() for text in FLAG]


def digits(values: Ints) -> Ints:
    """How many characters each number (0 or more) takes."""
    return np.asarray(np.searchsorted(_POWERS, values, "right") + 1)


class Template:
    """An event written as literal texts around numbers, with the lengths of the outcome."""

    def __init__(self, rows: int) -> None:
        self._parts = b""
        self._columns: list[Sequence[object]] = []
        self._length = np.zeros(rows, np.int64)

    def text(self, literal: str) -> Template:
        """The same text in every row."""
        self._parts += literal.replace("%", "%%").encode()
        self._length += len(literal.encode())
        return self

    def whole(self, values: Ints) -> Template:
        """An integer, 0 or more."""
        self._parts += b"%d"
        self._columns.append(values.tolist())
        self._length += digits(values)
        return self

    def fixed(self, units: Ints, decimals: int, written: int) -> Template:
        """Units of 10^-decimals with `written` decimals, as many or more."""
        if not written:
            return self.whole(units)
        whole, part = np.divmod(units, 10**decimals)
        self.whole(np.asarray(whole))
        self._parts += b".%%0%dd" % written
        self._columns.append((part * 10 ** (written - decimals)).tolist())
        self._length += 1 + written
        return self

    def flag(self, values: Bools) -> Template:
        """true or false."""
        self._parts += b"%b"
        self._columns.append([_FLAGS[value] for value in values.tolist()])
        self._length += np.where(values, len(_FLAGS[1]), len(_FLAGS[0]))
        return self

    def frames(self) -> bytes:
        """All rows as WebSocket text frames; each is below 64 KiB."""
        size = self._length
        short = size < 126
        heads = [
            b"\x81" + n.to_bytes(1, "big") if small else b"\x81\x7e" + n.to_bytes(2, "big")
            for n, small in zip(size.tolist(), short.tolist(), strict=True)
        ]
        rows = zip(heads, *self._columns, strict=True)
        return (b"%b" + self._parts) * len(heads) % tuple([cell for row in rows for cell in row])


class Bundle(Message):
    """Consecutive events of one stream; `split` gives them one by one."""

    __slots__ = ("event_us", "info", "trades")

    def __init__(self, info: Symbol, kind: str, trades: Trades, event_us: int) -> None:
        super().__init__(f"{info.name.lower()}@{kind}", info.name)
        self.info = info
        self.trades = trades
        self.event_us = event_us

    def template(self, unit: int, start: Template) -> Template:
        """The raw event behind what `start` begins with."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        return len(self.trades)

    def framed(self, form: int) -> bytes:
        start = Template(self.count)
        if form & 1:
            start.text(f'{{"stream":"{self.stream}","data":')
        self.template(1 if form & 2 else 1000, start)
        return (start.text("}") if form & 1 else start).frames()


class TradeBundle(Bundle):
    """Many `@trade` events of spot."""

    __slots__ = ()

    def __init__(self, info: Symbol, trades: Trades, event_us: int) -> None:
        super().__init__(info, "trade", trades, event_us)

    def split(self) -> list[Message]:
        tape = self.trades
        rows = zip(
            tape.ids.tolist(),
            tape.price.tolist(),
            tape.qty.tolist(),
            tape.t.tolist(),
            tape.maker.tolist(),
            strict=True,
        )
        return [TradeMessage(self.info, *row, self.event_us) for row in rows]

    def template(self, unit: int, start: Template) -> Template:
        info, tape = self.info, self.trades
        start.text(f'{{"e":"trade","E":{self.event_us // unit},"s":"{info.name}","t":')
        start.whole(tape.ids).text(',"p":"').fixed(tape.price, info.price_decimals, 8)
        start.text('","q":"').fixed(tape.qty, info.lot_decimals, 8)
        start.text('","T":').whole(tape.t // unit)
        return start.text(',"m":').flag(tape.maker).text(',"M":true}')
