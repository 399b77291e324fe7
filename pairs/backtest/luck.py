"""Whether a result is more than luck, every set counted that was tried on the same bars."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.backtest.metrics import returns_per_year
from pairs.backtest.overfitting import DeflatedSharpe, deflated_sharpe, returns_of
from pairs.backtest.rules import Costs, Rules
from pairs.bars.length import common_step_ns
from pairs.market import Instrument
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore
from pairs.storage.trials import Sample, count_trials

__all__ = ["LEVEL", "Counted", "Where", "judge", "luck_words", "trials_words"]

LEVEL = 0.95
"""The deflated Sharpe ratio from which on a result is told to be more than luck."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A deflated Sharpe ratio, and whether the trials of all who use the store are counted:
    "store", or those of this run alone, "run": without a store, or "away": it did not take them.
    """

    deflated: DeflatedSharpe
    scope: str


@dataclass(frozen=True, slots=True)
class Where:
    """Where trials are counted: the store, the pair, and the length of its bars (None: told by
    their labels)."""

    store: PostgresStore
    y: Instrument
    x: Instrument
    bar_s: int | None = None


def judge(
    equity: pd.Series[float],
    tried: Sequence[tuple[Rules, float]],
    costs: Costs,
    where: Where | None,
    per_year: float | None = None,
) -> Counted:
    """The Sharpe ratio of an account against the best that luck would give.

    `equity`: by bar, of one of the sets tried, or of a walk-forward through them. `tried`: every
    set of this run with its annual Sharpe ratio over bars of which a year has `per_year` returns
    (None: those of the equity). They are noted in the store, and what was tried there on these
    bars before counts too.
    """
    index = pd.DatetimeIndex(equity.index)
    a_year = returns_per_year(index)
    scale = math.sqrt(a_year if per_year is None else per_year)
    own = {_key(rules, costs, where): sharpe / scale for rules, sharpe in tried}
    ratios, scope = list(own.values()), "run"
    if where is not None:
        step = common_step_ns(index) or 0
        sample = Sample((where.y, where.x), where.bar_s or step // 10**9, index[0], index[-1])
        try:
            ratios, scope = count_trials(where.store, sample, own), "store"
        except DATABASE_ERRORS:
            scope = "away"  # told with the result: see trials_words
    values = np.asarray(equity, dtype=np.float64)
    returns = np.zeros(len(values)) if (values <= 0.0).any() else returns_of(values)  # a debt
    annual = np.array(ratios) * math.sqrt(a_year)
    return Counted(deflated_sharpe(returns, annual, a_year), scope)


def _key(rules: Rules, costs: Costs, where: Where | None) -> str:
    """The same for the same set, whoever tries it."""
    legs = None if where is None else (str(where.y), str(where.x))
    funding = [
        None if r is None else (len(r), float(r.sum())) for r in (costs.funding_y, costs.funding_x)
    ]
    told = repr((legs, rules, costs.fee_bps, costs.slippage_bps, funding))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def luck_words(found: Counted) -> str:
    """The verdict: "more than luck" only from LEVEL on."""
    probability = found.deflated.probability
    if math.isnan(probability):
        return "no Sharpe ratio that could be told from luck"
    share = f"deflated Sharpe ratio {probability:.1%}"
    if probability >= LEVEL:
        return f"more than luck ({share}, from {LEVEL:.0%} on)"
    return f"not to be told from luck ({share}; {LEVEL:.0%} is asked for)"


def trials_words(found: Counted) -> str:
    """What was counted."""
    count = found.deflated.trials
    if found.scope == "store":
        return (
            "the only set ever tried on these bars here"
            if count == 1
            else f"one of {count:,} sets tried on these bars, in any tab or run of this store"
        )
    why = (
        "earlier ones are not known"
        if found.scope == "run"
        else ("earlier ones could not be counted, as the store did not take this one")
    )
    sets = "1 set" if count == 1 else f"{count:,} sets"
    return f"{sets} counted, of this run only: {why}"
