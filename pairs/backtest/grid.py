"""Many backtests at once: parameter grids, their heat map, and what costs do. All in-sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, cast

import pandas as pd

from pairs.analytics.pair import PairSpec
from pairs.backtest.engine import PairArrays, Simulation, simulate
from pairs.backtest.metrics import returns_per_year, sharpe_ratio, trade_figures
from pairs.backtest.rules import Costs, Rules, with_changes
from pairs.backtest.simulation import AlignedPair, align_and_check, run
from pairs.checks import check_choice, check_kind, check_number

__all__ = [
    "FIGURES",
    "LEAST_IS_BEST",
    "Progress",
    "combinations",
    "cost_sensitivity",
    "grid",
    "heat_map",
]

Progress = Callable[[int, int], None]
"""Called with what is done and what there is, from the caller's thread."""
FIGURES = (
    "total_pnl",
    "total_return",
    "sharpe",
    "max_drawdown",
    "trades",
    "win_rate",
    "fees",
    "slippage",
    "break_even_bps",
    "exposure",
)
LEAST_IS_BEST = frozenset({"max_drawdown", "fees", "slippage"})  # of the others the most is
_PARAMETERS = tuple(f.name for f in fields(Rules))


def combinations(rules: Rules, **values: Sequence[Any]) -> list[Rules]:
    """`rules` with every combination of these values, in their order, the last name fastest.

    Combinations that no rule can be (an exit at or above the entry, a stop at or inside it) are
    left out; any other refusal is raised.
    """
    made = []
    for chosen in itertools.product(*values.values()):
        changes = dict(zip(values, chosen, strict=True))
        entry, leave, stop = (
            changes.get(name, getattr(rules, name)) for name in ("entry_z", "exit_z", "stop_z")
        )
        if leave < entry and (stop is None or stop > entry):
            made.append(with_changes(rules, **changes))
    if not made:
        raise ValueError(
            "no combination of these values has its exit below and its stop above "
            "its entry: at least one is needed"
        )
    return made


def grid(
    bars_y: pd.DataFrame,
    bars_x: pd.DataFrame,
    candidates: Sequence[Rules],
    costs: Costs,
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Backtest every candidate on the same bars.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg as `run` takes them: a DatetimeIndex of open times (UTC), columns open
        and close (prices, finite and above 0 in the common bars).
    candidates : sequence of Rules
        The sets of rules, at least one; `combinations` makes them.
    costs : Costs
        Fee, slippage and funding, the same for all.
    progress : callable or None, default None
        Called with two counts, the candidates done and all there are, from the caller's thread.

    Returns
    -------
    pandas.DataFrame, shape (len(candidates), 24)
        One row per candidate in their order, index 0 …: its parameters (the fields of `Rules`) and
        FIGURES, as `run` would give them (to rounding), in the units of `METRICS` in
        pairs/backtest/metrics.py. NaN where a figure has no value; no Sharpe ratio (NaN) where all
        of the capital was lost on the way. `attrs["in_sample"]` is True.

    Raises
    ------
    ValueError
        As `run` for the bars, where there is no candidate, and where a candidate is no `Rules` or
        `costs` no `Costs`. The common bars must be enough for
        the first z-score of every candidate.

    See Also
    --------
    combinations : Makes candidates of values to try.
    heat_map : A figure by two parameters.
    pairs.backtest.walk_forward.walk_forward : Chooses on one stretch, trades the next.

    Notes
    -----
    Decided at the close of bar t from rows ≤ t, filled at the open of bar t+1, as `run`. After all
    of the capital is lost there is no Sharpe ratio: the returns of a debt have the wrong sign, and
    the worst of all sets could come out as the best.

    In-sample: the best of many is partly luck, see `overfitting.deflated_sharpe`, for which this
    table's column sharpe holds the trials.

    Examples
    --------
    y falls from 100 to 97 and is back one bar later: of the two levels abs(z) = 1.15 reaches one.

    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=5, freq="1min", tz="UTC")
    >>> close = [100.0, 100.0, 97.0, 100.0, 100.0]
    >>> y = pd.DataFrame({"open": [100.0, *close[:-1]], "close": close}, index)
    >>> x = pd.DataFrame({"open": 100.0, "close": 100.0}, index)
    >>> rules = Rules(hedge="fixed", beta=1.0, window=3, notional=197.0, capital=197.0)
    >>> table = grid(y, x, combinations(rules, entry_z=[1.0, 2.0]), Costs())
    >>> table[["entry_z", "trades", "total_pnl"]].round(6).to_numpy().tolist()
    [[1.0, 1.0, 3.0], [2.0, 0.0, 0.0]]
    """
    pair = align_and_check(bars_y, bars_x, least_bars(candidates, costs))
    figures = ScoredPair(pair, costs).figures(candidates, 0, len(pair.index), progress)
    return grid_table(candidates, figures)


def grid_table(candidates: Sequence[Rules], figures: list[dict[str, float]]) -> pd.DataFrame:
    """Parameters and figures side by side, marked as in-sample."""
    parameters = pd.DataFrame([[getattr(r, n) for n in _PARAMETERS] for r in candidates])
    parameters.columns = pd.Index(_PARAMETERS)
    table = pd.concat([parameters, pd.DataFrame(figures)], axis=1)
    table.attrs["in_sample"] = True
    return table


def least_bars(candidates: Sequence[Rules], costs: Costs) -> int:
    """Bars until the first z-score of all candidates; ValueError where there is none, or where
    something else was given."""
    check_kind("costs", costs, Costs)
    if not candidates:
        raise ValueError("candidates is empty: at least one set of rules is allowed")
    for rules in candidates:
        check_kind("a candidate", rules, Rules)
    return max(rules.spec.bars_needed for rules in candidates)


class ScoredPair:
    """A pair with the z-scores of every hedge and window asked for, computed once each."""

    def __init__(self, pair: AlignedPair, costs: Costs) -> None:
        self.pair, self.costs = pair, costs
        self._prices: dict[PairSpec, PairArrays] = {}

    def prices(self, rules: Rules) -> PairArrays:
        """All bars, scored by these rules."""
        if rules.spec not in self._prices:
            self._prices[rules.spec] = self.pair.scored(rules, self.costs)
        return self._prices[rules.spec]

    def figures(
        self, candidates: Sequence[Rules], start: int, stop: int, progress: Progress | None = None
    ) -> list[dict[str, float]]:
        """FIGURES of each candidate over a part of the bars, on all cores."""
        prices = [self.prices(rules).rows(start, stop) for rules in candidates]
        per_year = returns_per_year(self.pair.index[start:stop])

        def one(rules: Rules, part: PairArrays) -> dict[str, float]:
            done = simulate(part, rules, self.costs, record=False)
            return figures_of(done, rules, stop - start, per_year)

        found = []
        with ThreadPoolExecutor() as pool:
            done = pool.map(one, candidates, prices)
            for count, row in enumerate(done, start=1):
                found.append(row)
                if progress is not None:
                    progress(count, len(candidates))
        return found


def figures_of(done: Simulation, rules: Rules, bars: int, per_year: float) -> dict[str, float]:
    """FIGURES of a walk over so many bars, of which a year has `per_year` returns."""
    sums, path = done.totals, done.equity_stats
    sharpe = sharpe_ratio(path.mean, path.deviation, per_year)
    found = trade_figures(sums) | {
        "total_pnl": sums["pnl"],
        "total_return": sums["pnl"] / rules.capital,
        "sharpe": math.nan if path.max_drawdown >= 1.0 else sharpe,  # a debt has no returns
        "max_drawdown": path.max_drawdown,
        "exposure": sums["bars"] / bars,
    }
    return {name: found[name] for name in FIGURES}


def heat_map(
    table: pd.DataFrame, x: str, y: str, value: str = "sharpe", *, how: str = "mean"
) -> pd.DataFrame:
    """A figure of `grid` by two of its parameters: index `y`, columns `x`, both ascending.

    `how`: "mean" over the other parameters, the default, as a plateau is worth more than a
    peak; or "max", "min", "median". NaN where no candidate has a value.
    """
    for name, column in (("x", x), ("y", y), ("value", value)):
        check_choice(name, column, tuple(map(str, table.columns)))
    check_choice("how", how, ("mean", "max", "min", "median"))
    groups = table.groupby([y, x])[value]
    made: pd.DataFrame = groups.agg(cast(Any, how)).unstack(x)
    made.attrs["in_sample"] = True
    return made


def cost_sensitivity(
    bars_y: pd.DataFrame,
    bars_x: pd.DataFrame,
    rules: Rules,
    costs: Costs,
    *,
    levels_bps: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0),
) -> pd.DataFrame:
    """The same rules at other costs: one row per level of fee and slippage together (bps per leg
    and fill), split as in `costs`, all of it a fee where these are 0; funding stays.

    Index cost_bps; columns total_pnl, total_return, sharpe, max_drawdown, trades. Decisions are
    made anew at each level, as a stop_loss sees the costs.
    """
    whole = costs.fee_bps + costs.slippage_bps
    share = costs.fee_bps / whole if whole > 0.0 else 1.0
    rows = []
    for level in levels_bps:
        cost = check_number("levels_bps", level, 0.0, 10_000.0, open_low=False)
        at = replace(costs, fee_bps=cost * share, slippage_bps=cost * (1.0 - share))
        found = run(bars_y, bars_x, rules, at).metrics
        names = ("total_pnl", "total_return", "sharpe", "max_drawdown", "trades")
        rows.append({name: found[name] for name in names})
    return pd.DataFrame(rows, index=pd.Index(levels_bps, name="cost_bps", dtype=float))
