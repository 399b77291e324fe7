"""Stored bars of one instrument kept up to date: what is new is read, and what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from pairs.market import Instrument
from pairs.storage.reader import BAR_COLUMNS, Reader

MOST_PIECES = 8  # changes apart from each other that are read one by one; more, as one


def no_bars() -> pd.DataFrame:
    """A frame of bars without any."""
    empty = pd.DataFrame(columns=list(BAR_COLUMNS), dtype=float)
    empty.index = pd.DatetimeIndex([], tz="UTC", name="ts")
    return empty


@dataclass(slots=True)
class Tape:
    """The bars of the last `span_s` seconds before the newest one or before `until`, oldest first,
    as of the instrument's `revision`: at any time what reading all of them anew would give."""

    instrument: Instrument
    base_s: int
    span_s: int
    bars: pd.DataFrame = field(default_factory=no_bars)
    revision: int = -1
    until: datetime | None = None

    def advance(self, reads: Reader, revision: int, until: datetime | None = None) -> None:
        """Read what has come since the last time, and what has changed behind it: `revision` is
        that of before the reading. What the store no longer tells apart is read as a whole."""
        changes: Sequence[tuple[datetime, datetime]] | None = ()
        if self.bars.empty or until != self.until:
            changes = None
        elif revision != self.revision:
            changes = reads.changes(self.instrument, self.revision, revision)
        self.until = until
        if changes is None:
            self._whole(reads)
        else:
            for first, last in merged(changes):
                self._again(reads, first, last)
            if until is None:
                self._again(reads, self.bars.index[-1], None)
        self.revision = revision
        if not self.bars.empty:
            begin = (until or self.bars.index[-1]) - timedelta(seconds=self.span_s)
            self.bars = self.bars.loc[begin:].tail(self.span_s // self.base_s)

    def _whole(self, reads: Reader) -> None:
        end = self.until or reads.newest_bar(*self.instrument, self.base_s)
        if end is None:
            self.bars = no_bars()
            return
        start = end - timedelta(seconds=self.span_s)
        self.bars = reads.bars(*self.instrument, self.base_s, start, self.until)

    def _again(self, reads: Reader, first: datetime, last: datetime | None) -> None:
        """Put the stored bars in the place of those that hold first … last, None: to the end."""
        newest = self.until or self.bars.index[-1]
        start = max(self._label(first), newest - timedelta(seconds=self.span_s))
        end = self.until
        if last is not None:
            end = self._label(last) + timedelta(seconds=self.base_s)
            end = min(end, self.until) if self.until is not None else end
        if end is not None and end <= start:
            return
        read = reads.bars(*self.instrument, self.base_s, start, end)
        before = self.bars.loc[self.bars.index < start]
        after = self.bars.loc[self.bars.index >= end] if end is not None else self.bars.iloc[:0]
        joined = pd.concat([part for part in (before, read, after) if len(part)] or [read])
        joined.attrs = dict(read.attrs)
        self.bars = joined

    def _label(self, when: datetime) -> datetime:
        seconds = int(when.timestamp() // self.base_s) * self.base_s
        return datetime.fromtimestamp(seconds, when.tzinfo)


def fuller(made: pd.DataFrame, stated: pd.DataFrame) -> pd.DataFrame:
    """Bars of one length, made from shorter ones and stated as such: of each the one that has
    seen more trades, as `v_bars` chooses. What was made reaches up to now, what the exchange
    states reaches further back."""
    if stated.empty or made.empty:
        return made if stated.empty else stated
    seen = made["trades"].reindex(stated.index)
    better = stated[~(seen >= stated["trades"])]
    rest = made[~made.index.isin(better.index)]
    joined = pd.concat([part for part in (better, rest) if len(part)]).sort_index()
    joined.attrs = dict(stated.attrs)
    return joined


def merged(changes: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The changes without overlap, in order; as one where they are many."""
    pieces: list[tuple[datetime, datetime]] = []
    for first, last in sorted(changes):
        if pieces and first <= pieces[-1][1]:
            pieces[-1] = pieces[-1][0], max(last, pieces[-1][1])
        else:
            pieces.append((first, last))
    if len(pieces) > MOST_PIECES:
        return [(pieces[0][0], pieces[-1][1])]
    return pieces
