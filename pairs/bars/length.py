"""How long bars are: what their frame notes, else what their labels have in common."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
from pandas.tseries.offsets import Tick

from pairs.jit import INTS, compiled
from pairs.market import bar_label

__all__ = [
    "NOTE", "NS_PER_TICK", "bar_length_ns", "common_step_ns", "different_lengths", "noted_ns",
    "refuse_different_lengths",
]  # fmt: skip

NOTE = "bar_ns"
"""Where in DataFrame.attrs the length in nanoseconds is noted, as sparse labels do not tell it."""
NS_PER_TICK = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def bar_length_ns(bars: pd.DataFrame) -> int | None:
    """Length of bars in nanoseconds: noted in `attrs["bar_ns"]`, else the labels' common step.

    None where neither tells it. A note that is no positive whole number is none.
    """
    if (noted := noted_ns(bars)) is not None:
        return noted
    return common_step_ns(bars.index) if isinstance(bars.index, pd.DatetimeIndex) else None


def noted_ns(bars: pd.DataFrame) -> int | None:
    noted = bars.attrs.get(NOTE)
    if not isinstance(noted, int | np.integer) or isinstance(noted, bool):
        return None
    return int(noted) if noted > 0 else None


def common_step_ns(index: pd.DatetimeIndex) -> int | None:
    """Greatest common divisor of the steps between labels, in nanoseconds and in any order of
    rows; None where fewer than two labels differ.

    Missing bars leave it as it is, as soon as what is there has no larger step in common: minutes
    with holes are minutes.
    """
    if len(index) > 1 and isinstance(index.freq, Tick):
        return abs(index.freq.nanos)
    stamps = index[index.notna()].asi8 if index.hasnans else index.asi8
    return cast(int, _gcd_of_steps(np.ascontiguousarray(stamps))) * NS_PER_TICK[index.unit] or None


@compiled(INTS)
def _gcd_of_steps(stamps):  # type: ignore[no-untyped-def]
    """0 where there is no step."""
    common = 0
    for row in range(1, len(stamps)):
        step = abs(stamps[row] - stamps[row - 1])
        while step != common and step != 0:  # one comparison where rows follow each other
            common, step = step, common % step
    return common


def refuse_different_lengths(bars_y: pd.DataFrame, bars_x: pd.DataFrame) -> None:
    """ValueError where two legs are known to differ in length; what one notes, both then note.

    Legs with the same labels tell nothing against each other.
    """
    noted = noted_ns(bars_y) or noted_ns(bars_x)
    if noted is None and bars_y.index.equals(bars_x.index):
        return
    why = different_lengths(bar_length_ns(bars_y), bar_length_ns(bars_x))
    if why:
        raise ValueError(
            f"bars_y and bars_x differ in length, {why}: legs of one length are allowed. Make the "
            "longer one of both (resample_bars); what labels do not tell stands in "
            f'attrs["{NOTE}"]'
        )
    if noted is not None:
        bars_y.attrs[NOTE] = bars_x.attrs[NOTE] = noted


def different_lengths(one: int | None, other: int | None) -> str:
    """Both lengths in words where they differ, else nothing: "bars of 1h (3600 s) and ..."."""
    if one is None or other is None or one == other:
        return ""
    return f"bars of {_words(one)} and bars of {_words(other)}"


def _words(length_ns: int) -> str:
    whole, rest = divmod(length_ns, 10**9)
    return f"{length_ns / 1e9:g} s" if rest else f"{bar_label(whole)} ({whole} s)"
