"""Reading recordings: `<receive ns> <frame>` lines, plain or gzip, merged by receive time."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exchange.frames import AggregateMessage, Message
from exchange.tape import MICRO_FROM, Ints, Symbol, Trades, aggregate_rows, aggregates_of

_TIMES = re.compile(rb'"([ET])":(\d+)')
_KLINE_TIMES = re.compile(rb'"([ETt])":(\d+)')
_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL")


class Clockwork:
    """How the times of a recording are told: moved by `shift_us`, written in ms or µs."""

    def __init__(self) -> None:
        self.shift_us = 0
        self.micro = False


class Recorded(Message):
    """A recorded frame. Unless moved in time it goes out byte for byte."""

    __slots__ = ("_clockwork", "_frame", "_raw", "received_ns")

    def __init__(
        self,
        stream: str,
        raw: bytes,
        frame: bytes | None,
        received_ns: int,
        clockwork: Clockwork,
    ) -> None:
        super().__init__(stream)
        self._raw = raw
        self._frame = frame
        self.received_ns = received_ns
        self._clockwork = clockwork

    def payload(self, micro: bool) -> bytes:
        clock = self._clockwork
        if not clock.shift_us and micro == clock.micro:
            return self._raw
        unit_in, unit_out = (1 if clock.micro else 1000), (1 if micro else 1000)

        def moved(match: re.Match[bytes]) -> bytes:
            value = (int(match[2]) * unit_in + clock.shift_us) // unit_out
            return b'"%s":%d' % (match[1], value)

        pattern = _KLINE_TIMES if "@kline_" in self.stream else _TIMES
        return pattern.sub(moved, self._raw)

    def body(self, combined: bool, micro: bool) -> bytes:
        clock = self._clockwork
        if combined and self._frame and not clock.shift_us and micro == clock.micro:
            return self._frame
        return super().body(combined, micro)


@dataclass(frozen=True, slots=True)
class Recording:
    """Frames in order of receipt, and the tape of each symbol taken from its `@trade` frames.

    `printed[symbol]` has the frame number of each trade frame, `highest[symbol]` the highest id
    seen up to it. `lead_us` is how far the exchange's clock was ahead of the recorder's.
    """

    messages: list[Message]
    received_us: Ints
    symbols: dict[str, Symbol]
    tapes: dict[str, Trades]
    printed: dict[str, Ints]
    highest: dict[str, Ints]
    lead_us: int
    clockwork: Clockwork


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Receive times in ns and frames of one file."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            stamp, _, frame = line.rstrip(b"\r\n").partition(b" ")
            if not stamp.isdigit() or not frame:
                raise ValueError(
                    f"{path.name} line {number}: {line[:60]!r} is no recorded frame; "
                    "allowed is '<receive ns> <frame>'"
                )
            yield int(stamp), frame


def load_recording(paths: Iterable[Path]) -> Recording:
    """Read files and merge them by receive time; equal times keep the order of the files."""
    try:
        lines = [line for path in paths for line in read_lines(path)]
    except (EOFError, zlib.error) as error:
        raise ValueError(f"a recording ends early or is damaged: {error}") from None
    lines.sort(key=lambda line: line[0])
    reader = _Reader()
    for received, frame in lines:
        reader.add(received, frame)
    return reader.finish()


def _stream_of(event: dict[str, Any]) -> str | None:
    """The stream name of a raw event; None for snapshots, acks and the like."""
    symbol = str(event.get("s", "")).lower()
    kind = event.get("e")
    if not symbol:
        return None
    if kind is None:
        return f"{symbol}@bookTicker" if {"u", "b", "a"} <= set(event) else None
    if kind == "kline":
        return f"{symbol}@kline_{event['k']['i']}"
    return f"{symbol}@depth" if kind == "depthUpdate" else f"{symbol}@{kind}"


class _Reader:
    """Collects frames and the trades in them."""

    def __init__(self) -> None:
        self.clockwork = Clockwork()
        self.messages: list[Message] = []
        self.received: list[int] = []
        self.rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.known_aggregates: dict[str, tuple[int, int]] = {}
        self.lead_us: int | None = None

    def add(self, received_ns: int, frame: bytes) -> None:
        """Take one frame; what is not JSON or belongs to no stream is left out."""
        try:
            told = msgspec.json.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if not isinstance(told, dict):
            return
        event, raw, stream, kept = told, frame, _stream_of(told), None
        if "stream" in told and isinstance(told.get("data"), dict):
            event, stream = told["data"], str(told["stream"])
            raw = frame[frame.index(b'"data":') + 7 : frame.rindex(b"}")]
            kept = frame
        if stream is None:
            return
        message = Recorded(stream, raw, kept, received_ns, self.clockwork)
        self._note(message, event, received_ns)
        self.messages.append(message)
        self.received.append(received_ns // 1000)

    def _note(self, message: Recorded, event: dict[str, Any], received_ns: int) -> None:
        told_at = event.get("E")
        if self.lead_us is None and isinstance(told_at, int):
            self.clockwork.micro = told_at >= MICRO_FROM
            self.lead_us = self._us(told_at) - received_ns // 1000
        symbol = str(event.get("s", ""))
        if message.stream == f"{symbol.lower()}@trade":
            message.symbol, message.trade_id = symbol, int(event["t"])
            self.rows.setdefault(symbol, []).append((len(self.messages), event))
        elif message.stream == f"{symbol.lower()}@aggTrade":
            self.known_aggregates.setdefault(symbol, (int(event["a"]), int(event["f"])))

    def _us(self, value: int) -> int:
        return value if self.clockwork.micro else value * 1000

    def finish(self) -> Recording:
        """The recording; derived `@aggTrade` frames follow the last trade they are made of."""
        symbols, tapes = {}, {}
        for name, rows in self.rows.items():
            symbols[name], tapes[name] = self._tape(name, [event for _, event in rows])
        extra = {
            name: self._aggregate_frames(name, symbols[name], tapes[name])
            for name in symbols
            if name not in self.known_aggregates
        }
        order: list[Message] = []
        received: list[int] = []
        printed: dict[str, list[int]] = {name: [] for name in symbols}
        for message, at in zip(self.messages, self.received, strict=True):
            if message.trade_id is not None:
                printed[message.symbol].append(len(order))
            order.append(message)
            received.append(at)
            follow = extra.get(message.symbol, {}).pop(message.trade_id or -1, None)
            if follow is not None:
                order.append(follow)
                received.append(at)
        highest = {
            name: np.maximum.accumulate([int(e["t"]) for _, e in rows])
            for name, rows in self.rows.items()
        }
        return Recording(
            order,
            np.asarray(received, np.int64),
            symbols,
            tapes,
            {name: np.asarray(at, np.int64) for name, at in printed.items()},
            highest,
            self.lead_us or 0,
            self.clockwork,
        )

    def _tape(self, name: str, events: list[dict[str, Any]]) -> tuple[Symbol, Trades]:
        ids = np.asarray([int(e["t"]) for e in events], np.int64)
        ids, at = np.unique(ids, return_index=True)
        price, price_decimals = _units([events[i]["p"] for i in at])
        qty, lot_decimals = _units([events[i]["q"] for i in at])
        if float(price.max()) * float(qty.sum()) > 2.0**62:
            raise ValueError(f"{name}: prices × quantities are too large for exact sums")
        t = np.asarray([self._us(int(events[i]["T"])) for i in at], np.int64)
        maker = np.asarray([bool(events[i]["m"]) for i in at], np.bool_)
        news = np.ones(len(ids), np.bool_)
        same = (np.diff(t) == 0) & (np.diff(price) == 0) & (maker[1:] == maker[:-1])
        news[1:] = ~same
        agg = np.cumsum(news, dtype=np.int64)
        if name in self.known_aggregates:
            number, first = self.known_aggregates[name]
            row = min(int(np.searchsorted(ids, first)), len(ids) - 1)
            agg += number - agg[row]
        quote = next((q for q in _QUOTES if name.endswith(q) and name != q), "")
        base = name.removesuffix(quote)
        symbol = Symbol(name, base, quote, price_decimals, lot_decimals)
        return symbol, Trades(ids, t, price, qty, maker, agg)

    def _aggregate_frames(self, name: str, info: Symbol, tape: Trades) -> dict[int, Recorded]:
        """`@aggTrade` frames by the id of their last trade, for symbols recorded without."""
        out = {}
        for row in aggregate_rows(aggregates_of(tape)):
            message = AggregateMessage(info, row, row[5])
            raw = message.payload(self.clockwork.micro)
            out[row[4]] = Recorded(message.stream, raw, None, 0, self.clockwork)
        return out


def _units(texts: list[str]) -> tuple[Ints, int]:
    """Decimal strings as integers of their last decimal in use, and how many decimals."""
    values = []
    for text in texts:
        whole, _, part = text.partition(".")
        if not (whole + part).isdigit() or len(part.rstrip("0")) > 8:
            raise ValueError(f"{text!r} is no price or quantity of at most 8 decimals")
        values.append(int(whole + part[:8].ljust(8, "0")))
    units = np.asarray(values, np.int64)
    common, decimals = int(np.gcd.reduce(units)), 8
    while decimals and common and common % 10 == 0:
        common //= 10
        decimals -= 1
    return units // 10 ** (8 - decimals), decimals
