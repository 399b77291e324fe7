"""The replay source: recorded frames again, byte for byte, at their pace or faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from exchange.book import Book
from exchange.frames import Message
from exchange.recording import load_recording
from exchange.source import Wanted
from exchange.tape import US, Bars, Trades, bars_of, fold

_BATCH = 500


class ReplaySource:
    """A `Source` made from recordings.

    Parameters
    ----------
    paths : files of `<receive ns> <frame>` lines, merged by receive time.
    speed : times real time; None sends as fast as clients take it.
    shift_to_now : move T and E by a constant so that the first frame is now.
    wait : begin when the first subscriber arrives instead of at once.

    After the last frame it stays silent; REST still answers, and its clock runs on.
    """

    kind = "replay"

    def __init__(
        self,
        paths: Iterable[Path | str],
        *,
        speed: float | None = 1.0,
        shift_to_now: bool = False,
        wait: bool = False,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed!r} is not usable: a number above 0 or None is allowed")
        self._recording = load_recording([Path(path) for path in paths])
        if not self._recording.symbols:
            raise ValueError("the recording holds no trade: nothing to replay")
        self.symbols = dict(self._recording.symbols)
        self.patient = speed is None
        self.history_us = 7 * 86_400 * US
        self.ended = self.closed = False
        self._tapes = dict(self._recording.tapes)
        self._streams = {message.stream for message in self._recording.messages}
        self._speed = speed
        self._shift = shift_to_now
        self._wait = wait
        self._position = 0  # frames gone out
        self._started: float | None = None
        self._ended_at = 0.0
        self._lead_us = self._recording.lead_us

    # -- the clock

    def _file_us(self) -> int:
        """Receive time that has been reached."""
        received = self._recording.received_us
        if self._started is None:
            return int(received[0])
        if self.ended:
            return int(received[-1] + (time.monotonic() - self._ended_at) * US)
        if self._speed is None:
            return int(received[max(self._position - 1, 0)])
        reached = int(received[0] + (time.monotonic() - self._started) * self._speed * US)
        return min(reached, int(received[-1]))

    def now_us(self) -> int:
        if self._started is None and self._shift:
            return time.time_ns() // 1000
        return self._file_us() + self._lead_us + self._recording.clockwork.shift_us

    def _start(self) -> None:
        if self._shift:
            first = int(self._recording.received_us[0]) + self._lead_us
            shift = (time.time_ns() // 1000 - first) // 1000 * 1000
            self._recording.clockwork.shift_us = shift
            self._tapes = {n: replace(tape, t=tape.t + shift) for n, tape in self._tapes.items()}
        self._started = time.monotonic()

    # -- the tape

    def first_id(self, symbol: str) -> int:
        return int(self._tapes[symbol].ids[0])

    def listed_us(self, symbol: str) -> int:
        return int(self._tapes[symbol].t[0])

    def last_id(self, symbol: str) -> int:
        done = int(np.searchsorted(self._recording.printed[symbol], self._position))
        if not done:
            return self.first_id(symbol) - 1
        return int(self._recording.highest[symbol][done - 1])

    def id_at(self, symbol: str, t_us: int) -> int:
        tape = self._tapes[symbol]
        row = int(np.searchsorted(tape.t, t_us))
        return int(tape.ids[row]) if row < len(tape) else int(tape.ids[-1]) + 1

    def id_of_aggregate(self, symbol: str, aggregate: int) -> int:
        tape = self._tapes[symbol]
        row = int(np.searchsorted(tape.agg, aggregate))
        return int(tape.ids[row]) if row < len(tape) else int(tape.ids[-1]) + 1

    def trades(self, symbol: str, first_id: int, count: int) -> Trades:
        tape = self._tapes[symbol]
        row = int(np.searchsorted(tape.ids, first_id))
        return tape.cut(row, row + max(count, 0))

    def part(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        return self.seconds(symbol, start_us, end_us, last_id)

    def seconds(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        tape = self._tapes[symbol].up_to_id(last_id)
        low, high = (int(i) for i in np.searchsorted(tape.t, (start_us, end_us)))
        return bars_of(tape.cut(low, high))

    def minutes(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        return fold(self.seconds(symbol, start_us, end_us, last_id), 60 * US)

    def book(self, symbol: str, mark: int) -> Book:
        """A recording of trades tells no book: REST answers an empty one."""
        return Book(mark, [], [])

    # -- live

    def provides(self, stream: str) -> bool:
        return stream in self._streams

    async def live(self, wanted: Wanted) -> AsyncGenerator[list[Message], None]:
        while self._wait and not wanted():  # noqa: ASYNC110 - asked from outside
            await asyncio.sleep(0.005)
        self._start()
        messages, received = self._recording.messages, self._recording.received_us
        while self._position < len(messages):
            stop = self._position + _BATCH
            if self._speed is not None:
                stop = min(stop, int(np.searchsorted(received, self._file_us(), "right")))
            if stop <= self._position:
                await asyncio.sleep(0.002)
                continue
            batch = messages[self._position : stop]
            self._position = min(stop, len(messages))
            self._note_latest()
            yield batch
            await asyncio.sleep(0)
        self._ended_at = time.monotonic()
        self.ended = True
        await asyncio.Event().wait()

    def _note_latest(self) -> None:
        """Put the clock forward where it lags behind what has been printed."""
        for symbol, tape in self._tapes.items():
            row = int(np.searchsorted(tape.ids, self.last_id(symbol), "right")) - 1
            if row >= 0:
                self._lead_us += max(0, int(tape.t[row]) - self.now_us())
