"""When a pair is entered and left: one state machine for the page, the alerts and the backtest.

`decisions.decide` is that machine: what to do at the close of a bar, from what is known
there. Two kernels step through it: `positions` with nothing but z-scores, `trade` with fills,
costs and the marked equity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from pairs.backtest import curve as curves
from pairs.backtest import decisions
from pairs.backtest.decisions import END, EXIT, Limits
from pairs.backtest.kernels import SUMS, Trade, trade
from pairs.backtest.rules import Costs, Rules
from pairs.checks import Array, Ints

__all__ = [
    "ACTIONS",
    "EXIT_REASONS",
    "SUMS",
    "TRADE_COLUMNS",
    "EquityStats",
    "PairArrays",
    "Simulation",
    "curve",
    "positions",
    "simulate",
]

Bytes = npt.NDArray[np.int8]

ACTIONS = ("", "long", "exit", "stop_z", "stop_loss", "max_bars", "end of data", "short")
"""By the code of pairs/backtest/decisions.py; -1, an entry of the short side, is the last one."""
EXIT_REASONS = ACTIONS[EXIT : END + 1]
TRADE_COLUMNS = Trade._fields
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class PairArrays:
    """What a walk needs of a pair, one entry per aligned bar: times, prices, the hedge ratio that a
    signal of this bar would trade (one entry: the same for all), its z-score, and the funding due
    at its open (empty: none). With a `window`, `zscore` is empty and made of `spread` over so
    many bars, which with one beta may be empty too: close_y - beta·close_x. `stamps`: open times
    of the bars, ascending integers."""

    stamps: Ints
    open_y: Array
    open_x: Array
    close_y: Array
    close_x: Array
    beta: Array
    zscore: Array
    funding_y: Array
    funding_x: Array
    spread: Array = field(default_factory=lambda: np.empty(0))
    window: int = 0

    def rows(self, start: int, stop: int) -> PairArrays:
        """A part of the bars; their z-scores, which must be given, keep the history they were
        made from."""
        open_y, open_x, close_y, close_x, beta, zscore, funding_y, funding_x = (
            part[start:stop]
            for part in (
                self.open_y,
                self.open_x,
                self.close_y,
                self.close_x,
                self.beta,
                self.zscore,
                self.funding_y,
                self.funding_x,
            )
        )
        stamps = self.stamps[start:stop]
        return PairArrays(
            stamps, open_y, open_x, close_y, close_x, beta, zscore, funding_y, funding_x
        )


@dataclass(frozen=True, slots=True)
class EquityStats:
    """Figures of an equity curve per bar: its last value; mean and deviation (ddof 1; 0 where they
    differ by rounding alone) of its simple returns, root mean square of those below 0; largest
    drawdown as a fraction; rows of its peak and of the return to it (the last row where there is
    none), rows of the longest time below a peak (0, 0 where there is none, or no equity was
    recorded)."""

    final: float
    mean: float
    deviation: float
    downside: float
    max_drawdown: float
    deepest: tuple[int, int]
    longest: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What trading did. `sums`: figures of the trades by name of SUMS; `path`: those of the
    equity. `equity`: at each close, empty where only these were asked for, as is `trades`: one row
    per name of TRADE_COLUMNS, one column per trade. `decided`: the action of the last close.
    `usable`: every price is surely finite and above 0."""

    totals: dict[str, float]
    equity_stats: EquityStats
    equity: Array
    trades: Array
    decided: int
    usable: bool

    def position(self) -> Bytes:
        """The side held at each close: 1 long, -1 short, 0 flat."""
        change = np.zeros(len(self.equity) + 1, dtype=np.int8)
        side, entered, left, reason = self._columns("side", "entry_row", "exit_row", "reason")
        change[entered] += side.astype(np.int8)
        change[left + (reason == END)] -= side.astype(np.int8)
        return change[:-1].cumsum(dtype=np.int8)

    def action(self) -> Bytes:
        """What was decided at each close, see ACTIONS."""
        actions = np.zeros(len(self.equity), dtype=np.int8)
        side, entered, left, reason = self._columns("side", "entry_row", "exit_row", "reason")
        actions[entered - 1] = side
        decided = reason != END
        actions[left[decided] - 1] = reason[decided]
        actions[-1:] = self.decided
        return actions

    def _columns(self, *names: str) -> list[Ints]:
        return [self.trades[TRADE_COLUMNS.index(name)].astype(np.int64) for name in names]


def positions(zscore: Array, rules: Rules) -> Bytes:
    """Give the side wanted from the close of each row on.

    Parameters
    ----------
    zscore : numpy.ndarray of float, shape (n,)
        z-scores of the spread in order of time, NaN where there is none: no entry then, and no exit
        by z. An infinity is not NaN here, but a level passed.
    rules : Rules
        Levels, `max_bars` and the wait after a stop are used. `stop_loss` must be None.

    Returns
    -------
    numpy.ndarray of int8, shape (n,)
        1 long spread, -1 short spread, 0 flat.

    Raises
    ------
    ValueError
        Where the rules hold a `stop_loss`, which needs prices: see `run`.

    See Also
    --------
    run : Trades them, with prices and costs.

    Notes
    -----
    Row t uses rows ≤ t. The same decisions as a backtest with these rules: entries, exits,
    `stop_z`, `max_bars` and the wait after a stop, each filled at the next bar's open. What is
    wanted in row t is therefore held at the close of row t+1. A close that signals an exit signals
    no entry.

    Examples
    --------
    Long below -2 until the mean is crossed; then short above 2.

    >>> import numpy as np
    >>> positions(np.array([0.0, -2.5, -1.0, 0.1, 2.5]), Rules()).tolist()
    [0, 1, 1, 0, -1]
    """
    if rules.stop_loss is not None:
        raise ValueError(
            f"stop_loss={rules.stop_loss:g} is not usable here: z-scores know no prices, so "
            "None is allowed"
        )
    scores = np.ascontiguousarray(zscore, dtype=np.float64)
    limits = _limits(rules, Costs())
    return cast(Bytes, decisions.positions(scores, limits, rules.max_bars or _NEVER))


def simulate(prices: PairArrays, rules: Rules, costs: Costs, *, record: bool = True) -> Simulation:
    """Trade every bar by the rules, from flat; `record=False` gives its figures alone."""
    sums, figures, equity, trades, decided, usable = trade(
        prices.stamps,
        prices.open_y,
        prices.open_x,
        prices.close_y,
        prices.close_x,
        prices.beta,
        prices.spread,
        prices.zscore,
        prices.funding_y,
        prices.funding_x,
        _limits(rules, costs),
        prices.window,
        rules.max_bars or _NEVER,
        record,
    )
    named = dict(zip(SUMS, sums.tolist(), strict=True))
    longest = curves.longest(prices.stamps, equity, rules.capital) if record else (0, 0)
    return Simulation(named, _curve(figures, longest), equity, trades.T, decided, usable)


def curve(equity: Array, capital: float, stamps: Ints | None = None) -> EquityStats:
    """The figures of values at consecutive closes; `capital` counts as the first peak. `stamps`:
    times of these closes, ascending integers (None: equally far apart)."""
    times = np.arange(len(equity)) if stamps is None else np.ascontiguousarray(stamps)
    longest = curves.longest(times, equity, float(capital))
    return _curve(curves.curve(equity, float(capital)), longest)


def _curve(figures: Sequence[float], longest: tuple[int, int]) -> EquityStats:
    final, mean, deviation, downside, drawdown, peak, back = figures
    deepest = int(peak), int(back)
    return EquityStats(final, mean, deviation, downside, drawdown, deepest, longest)


def _limits(rules: Rules, costs: Costs) -> Array:
    """The numbers that the kernels take, in their order; infinite where not used."""
    optional = (rules.stop_z, rules.stop_loss, rules.rebalance)
    stop_z, stop_loss, rebalance = (math.inf if v is None else v for v in optional)
    limits = Limits(
        entry=rules.entry_z,
        exit=rules.exit_z,
        stop_z=stop_z,
        stop_loss=stop_loss,
        rebalance=rebalance,
        slippage=costs.slippage_bps / 1e4,
        fee=costs.fee_bps / 1e4,
        notional=rules.notional,
        capital=rules.capital,
    )
    return np.array(limits)
