"""Walk-forward: parameters chosen on one stretch of bars, traded on the next, stitched together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.backtest.engine import SUMS, TRADE_COLUMNS, curve, simulate
from pairs.backtest.grid import (
    FIGURES,
    LEAST_IS_BEST,
    Progress,
    ScoredPair,
    figures_of,
    grid_table,
    least_bars,
)
from pairs.backtest.metrics import compute_metrics, returns_per_year
from pairs.backtest.overfitting import DeflatedSharpe, deflated_sharpe, returns_of
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import align_and_check, trades_frame
from pairs.checks import check_choice, check_window

__all__ = ["FOLD_COLUMNS", "WalkForward", "walk_forward"]

FOLD_COLUMNS = (
    "train_start",
    "test_start",
    "test_end",
    "chosen",
    "train",
    "test",
    "test_pnl",
    "test_trades",
)
_ENTRY, _EXIT = TRADE_COLUMNS.index("entry_row"), TRADE_COLUMNS.index("exit_row")


@dataclass(frozen=True, eq=False)
class WalkForward:
    """What trading the choices of the past would have given.

    `metrics`, `trades`, `equity`: out of sample, of all test pieces in a row; as those of
    `Result`; a position open at the end of a piece is closed there ("end of data"). `folds`: one
    row per piece with FOLD_COLUMNS; times are labels of bars, `chosen` the candidate's number (-1:
    none had a value, nothing was traded), train and test its `objective` on either stretch.
    `candidates`: all of them over the whole sample, in-sample. `deflated`: the out-of-sample
    Sharpe ratio against luck, its trials being the candidates' on the same bars; NaN where all of
    the capital was lost.
    """

    rules: tuple[Rules, ...]
    costs: Costs
    objective: str
    metrics: dict[str, float]
    trades: pd.DataFrame
    equity: pd.Series[float]
    folds: pd.DataFrame
    candidates: pd.DataFrame
    deflated: DeflatedSharpe

    @property
    def given(self) -> tuple[str, ...]:
        """Estimates that were brought along, one value for all pieces, instead of being chosen in
        training: the beta of a fixed hedge, the noise of a Kalman filter. Where they were found
        on these bars, or on later ones, no piece is out of sample."""
        estimates = {"fixed": ("beta",), "kalman": ("delta", "observation_variance")}
        return tuple(
            name
            for hedge, names in estimates.items()
            for name in names
            if len(found := {getattr(r, name) for r in self.rules if r.hedge == hedge}) == 1
            and found != {None}
        )

    @property
    def heading(self) -> str:
        """Whether the pieces are out of sample, in words."""
        if not self.given:
            return "out of sample"
        return (
            f"in-sample as to {' and '.join(self.given)}, which every piece was given: out of "
            "sample only if known before the first bar"
        )


def walk_forward(
    bars_y: pd.DataFrame,
    bars_x: pd.DataFrame,
    candidates: Sequence[Rules],
    costs: Costs,
    *,
    train: int,
    test: int,
    objective: str = "sharpe",
    anchored: bool = False,
    progress: Progress | None = None,
) -> WalkForward:
    """Choose the best of `candidates` on `train` bars, trade it on the next `test`, move on.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg as `run` takes them: a DatetimeIndex of open times (UTC), columns open
        and close (prices, finite and above 0 in the common bars).
    candidates : sequence of Rules
        The sets of rules to choose from, at least one, all of one capital.
    costs : Costs
        Fee, slippage and funding, the same for all.
    train : int
        Bars of a training stretch, at least 2.
    test : int
        Bars of a test piece, at least 2; the last piece may be shorter.
    objective : str, default "sharpe"
        The figure of `FIGURES` in pairs/backtest/grid.py that the best has most of; of
        `max_drawdown`, `fees` and `slippage` it has least.
    anchored : bool, default False
        True: every training stretch begins at the first bar. False: it is `train` bars long.
    progress : callable or None, default None
        Called with two counts, the steps done and all there are, from the caller's thread.

    Returns
    -------
    WalkForward
        The test pieces in a row, out of sample: metrics, trades and equity as those of `Result`;
        folds, one row per piece; the candidates over the whole sample, in-sample; and the Sharpe
        ratio against luck. NaN where a figure has no value.

    Raises
    ------
    ValueError
        As `run` for the bars; for an objective that is no figure, train or test that is no integer
        or below 2, no candidate, or candidates that differ in capital; and where not one whole
        training stretch and three bars of test pieces are there.

    See Also
    --------
    pairs.backtest.grid.grid : All candidates on all bars, in-sample.

    Notes
    -----
    What is traded in a test piece was chosen from the bars before it; row t uses rows ≤ t. z-scores
    in a test piece use the bars before it, as they would live. Each piece begins flat, and the
    first decision is made at the close of its first bar; a position open at its end is closed
    there. A single bar left at the end is not a piece.

    Of candidates with equal figures the first is chosen; where none has a value, nothing is traded.
    A set that never trades has the least drawdown, fees and slippage.

    What every piece is given instead of chosen in training (the beta of a fixed hedge, the noise of
    a Kalman filter) is out of sample only if it was known before the first bar, see
    `WalkForward.given`. A walk-forward that is looked at and then changed is in-sample, too.

    Examples
    --------
    y is at 97 for one bar of four, and two such bars stand in every test piece: 3 earned each time.

    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=24, freq="1min", tz="UTC")
    >>> close = [100.0, 100.0, 97.0, 100.0] * 6
    >>> y = pd.DataFrame({"open": [100.0, *close[:-1]], "close": close}, index)
    >>> x = pd.DataFrame({"open": 100.0, "close": 100.0}, index)
    >>> rules = [Rules(hedge="fixed", beta=1.0, window=3, entry_z=z, notional=197.0, capital=197.0)
    ...          for z in (2.0, 1.0)]
    >>> found = walk_forward(y, x, rules, Costs(), train=8, test=8, objective="total_pnl")
    >>> found.folds[["chosen", "train", "test"]].round(6).to_numpy().tolist()
    [[1.0, 6.0, 6.0], [1.0, 6.0, 6.0]]
    """
    check_choice("objective", objective, FIGURES)
    train, test = check_window("train", train, 2), check_window("test", test, 2)
    # Two returns at least: of pieces of two bars, two pieces.
    needed = max(least_bars(candidates, costs), train + (4 if test == 2 else 3))
    if len({rules.capital for rules in candidates}) > 1:
        raise ValueError("candidates differ in capital: one capital for all is allowed")
    pair = align_and_check(bars_y, bars_x, needed)
    scored = ScoredPair(pair, costs)
    starts = [s for s in range(train, len(pair.index), test) if len(pair.index) - s >= 2]
    pieces = []
    for count, start in enumerate(starts):
        pieces.append(
            _piece(
                scored,
                candidates,
                objective,
                0 if anchored else start - train,
                start,
                min(start + test, len(pair.index)),
            )
        )
        if progress is not None:
            progress(count + 1, len(starts) + 2)
    found = _stitched(scored, candidates, objective, pieces, train)
    if progress is not None:
        progress(len(starts) + 2, len(starts) + 2)
    return found


def _rebalances(rules: Rules) -> bool:
    return rules.rebalance is not None


@dataclass(frozen=True, slots=True)
class _Piece:
    row: dict[str, object]
    equity: np.ndarray[tuple[int], np.dtype[np.float64]]
    trades: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    sums: dict[str, float]


def _piece(
    scored: ScoredPair,
    candidates: Sequence[Rules],
    objective: str,
    first: int,
    start: int,
    stop: int,
) -> _Piece:
    """One training stretch [first, start) and the test [start, stop) of its choice."""
    index = scored.pair.index
    trained = np.array([row[objective] for row in scored.figures(candidates, first, start)])
    worth = -trained if objective in LEAST_IS_BEST else trained
    chosen = -1 if np.isnan(worth).all() else int(np.nanargmax(worth))
    rules = candidates[max(chosen, 0)]
    equity, trades = np.full(stop - start, rules.capital), np.empty((len(TRADE_COLUMNS), 0))
    sums = dict.fromkeys(SUMS, 0.0)
    tested: dict[str, float] = dict.fromkeys(FIGURES, math.nan) | {"total_pnl": 0.0, "trades": 0}
    if chosen >= 0:
        done = simulate(scored.prices(rules).rows(start, stop), rules, scored.costs)
        equity, trades, sums = done.equity, done.trades, done.totals
        tested = figures_of(done, rules, stop - start, returns_per_year(index[start:stop]))
    row = {
        "train_start": index[first],
        "test_start": index[start],
        "test_end": index[stop - 1],
        "chosen": chosen,
        "train": trained[chosen] if chosen >= 0 else math.nan,
        "test": tested[objective],
        "test_pnl": tested["total_pnl"],
        "test_trades": tested["trades"],
    }
    return _Piece(row, equity, trades, sums)


def _stitched(
    scored: ScoredPair,
    candidates: Sequence[Rules],
    objective: str,
    pieces: list[_Piece],
    train: int,
) -> WalkForward:
    capital, pair = candidates[0].capital, scored.pair
    parts, tables, level, row = [], [], capital, 0
    for piece in pieces:
        parts.append(level + (piece.equity - capital))
        table = piece.trades.copy()
        table[[_ENTRY, _EXIT]] += row
        tables.append(table)
        level, row = float(parts[-1][-1]), row + len(piece.equity)
    equity, trades = np.concatenate(parts), np.concatenate(tables, axis=1)
    sums = {name: math.fsum(piece.sums[name] for piece in pieces) for name in SUMS}
    index = pair.index[train : train + row]
    tried = scored.figures(candidates, train, train + row)
    path = curve(equity, capital, index.asi8)
    metrics = compute_metrics(index, path, sums, capital, bar_ns=pair.bar_ns)
    lost = metrics["max_drawdown"] >= 1.0  # a debt has no returns to judge
    return WalkForward(
        rules=tuple(candidates),
        costs=scored.costs,
        objective=objective,
        metrics=metrics,
        # One table for all: with the count of rebalancings where any candidate does it.
        trades=trades_frame(index, trades, max(candidates, key=_rebalances), scored.costs),
        equity=pd.Series(equity, index=index, name="equity"),
        folds=pd.DataFrame([piece.row for piece in pieces], columns=pd.Index(FOLD_COLUMNS)),
        candidates=grid_table(candidates, scored.figures(candidates, 0, len(pair.index))),
        deflated=deflated_sharpe(
            np.zeros(len(equity)) if lost else returns_of(equity),
            [figures["sharpe"] for figures in tried],
            returns_per_year(index),
        ),
    )
