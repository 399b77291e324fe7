"""How long bars are: what their frame notes, else what their labels have in common."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
from pandas.tseries.offsets import Tick

from pairs.jit import INTS, compiled
from pairs.market import bar_label

__all__ = [
    "NOTE",
    "NS_PER_TICK",
    "bar_length_ns",
    "common_step_ns",
    "different_lengths",
    "noted_ns",
    "refuse_different_lengths",
]

NOTE = "bar_ns"
"""Where in DataFrame.attrs the length in nanoseconds is noted, as sparse labels do not tell it."""
NS_PER_TICK = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def bar_length_ns(bars: pd.DataFrame) -> int | None:
    """Give the length of bars in nanoseconds: the one noted, else the labels' common step.

    Parameters
    ----------
    bars : pandas.DataFrame
        Bars labelled by their open times, in any order. Noted is a length in nanoseconds in
        `attrs["bar_ns"]`; a note that is no positive whole number is none.

    Returns
    -------
    int or None
        Length in nanoseconds, above 0. None where neither tells it: without a note where fewer than
        two labels differ, or the index is no DatetimeIndex.

    See Also
    --------
    common_step_ns : What the labels tell.

    Notes
    -----
    Sparse labels do not tell the length, hence the note: two bars of 1 s that are 20 s apart look
    like bars of 20 s.

    Examples
    --------
    >>> import pandas as pd
    >>> bars = pd.DataFrame(index=pd.to_datetime(["2024-01-01 00:00Z", "2024-01-01 00:05Z"]))
    >>> bar_length_ns(bars)
    300000000000
    >>> bars.attrs["bar_ns"] = 60_000_000_000
    >>> bar_length_ns(bars)
    60000000000
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
    """Give the greatest common divisor of the steps between labels, in nanoseconds.

    Parameters
    ----------
    index : pandas.DatetimeIndex
        Labels of any resolution, in any order of rows; missing ones (NaT) are passed over.

    Returns
    -------
    int or None
        Step in nanoseconds, above 0. None where fewer than two labels differ.

    See Also
    --------
    bar_length_ns : The length that is noted, else this step.

    Notes
    -----
    Missing bars leave it as it is, as soon as what is there has no larger step in common: minutes
    with holes are minutes.

    Examples
    --------
    >>> import pandas as pd
    >>> times = ["2024-01-01 00:00Z", "2024-01-01 00:02Z", "2024-01-01 00:05Z"]
    >>> common_step_ns(pd.to_datetime(times))
    60000000000
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
