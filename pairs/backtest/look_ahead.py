"""Does a strategy look ahead? Decisions must not change when the future is cut off or altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.checks import check_window

__all__ = ["LookAhead", "find_look_ahead"]

Decide = Callable[[pd.DataFrame, pd.DataFrame], "pd.Series[float] | pd.DataFrame"]
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class LookAhead:
    """A decision that changed with its future: the bar it was made at (`at`), the last bar left
    as it was (`cut`), what had been done to the bars after it (`how`: "cut off" or "altered"),
    and the decision with and without that."""

    at: pd.Timestamp
    cut: pd.Timestamp
    how: str
    column: str
    before: object
    after: object

    def __str__(self) -> str:
        return (
            f"{self.column} at {self.at} is {self.before}, but {self.after} where the bars after "
            f"{self.cut} are {self.how}"
        )


def find_look_ahead(
    decide: Decide,
    bars_y: pd.DataFrame,
    bars_x: pd.DataFrame,
    *,
    cuts: int = 20,
    least: int | None = None,
    seed: int = 0,
) -> LookAhead | None:
    """The first decision found that depends on later bars; None where none was found.

    `decide(bars_y, bars_x)`: what the strategy decides at the close of each bar, a Series or
    DataFrame by time. It is asked again at `cuts` random times: with the bars after it cut off,
    and with their prices altered. `least`: bars of y that are always left (None: a quarter).
    Bars come in order of time. A None proves nothing but that these cuts changed nothing; a
    strategy that draws random numbers must draw the same ones each time.
    """
    count = check_window("cuts", cuts, 1)
    rows = len(bars_y)
    keep = max(rows // 4, 1) if least is None else check_window("least", least, 1)
    if rows <= keep:
        raise ValueError(f"bars_y has {rows} rows: more than least={keep} are allowed")
    whole = _table(decide(bars_y, bars_x))
    rng = np.random.default_rng(check_window("seed", seed, 0))
    for row in sorted(rng.integers(keep, rows, count).tolist()):
        cut = bars_y.index[row - 1]
        past_y, past_x = bars_y.loc[:cut], bars_x.loc[:cut]
        for how, legs in (
            ("cut off", (past_y, past_x)),
            ("altered", (_altered(bars_y, cut, rng), _altered(bars_x, cut, rng))),
        ):
            found = _difference(whole, _table(decide(*legs)), cut, how)
            if found is not None:
                return found
    return None


def _table(decided: object) -> pd.DataFrame:
    if isinstance(decided, pd.Series):
        decided = decided.to_frame("decision" if decided.name is None else str(decided.name))
    if not isinstance(decided, pd.DataFrame):
        raise ValueError(
            f"decide returned a {type(decided).__name__}: a Series or DataFrame is allowed"
        )
    return decided


def _altered(bars: pd.DataFrame, cut: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    """The same bars, but after `cut` their prices wander off."""
    made = bars.copy()
    later = np.flatnonzero(bars.index > cut)
    factor = 1.3 * np.exp(rng.normal(0.0, 0.02, len(later)).cumsum())
    for name in _PRICES:
        if name in made.columns:
            values = made[name].to_numpy(dtype=np.float64, copy=True)
            values[later] *= factor
            made[name] = values
    return made


def _difference(
    whole: pd.DataFrame, part: pd.DataFrame, cut: pd.Timestamp, how: str
) -> LookAhead | None:
    before, after = whole.loc[whole.index <= cut], part.loc[part.index <= cut]
    if not before.index.equals(after.index):
        missing = before.index.symmetric_difference(after.index)[0]
        return LookAhead(
            missing, cut, how, "a row", missing in before.index, missing in after.index
        )
    for column in before.columns:
        a, b = before[column], after[column]
        differs = np.flatnonzero(~((a == b) | (a.isna() & b.isna())).to_numpy(dtype=bool))
        if differs.size:
            row = int(differs[0])
            return LookAhead(before.index[row], cut, how, str(column), a.iloc[row], b.iloc[row])
    return None
