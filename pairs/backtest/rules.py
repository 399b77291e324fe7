"""What a backtest is told: the rules it trades by, and what trading costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

import pandas as pd

from pairs.analytics.pair import PairSpec
from pairs.checks import check_choice, check_number, check_window

__all__ = ["PRESETS", "PRESETS_TAKEN", "Costs", "Preset", "Rules", "with_changes"]

Hedge = Literal["fixed", "rolling", "kalman"]
INFINITE = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a pair is traded, and how much of it.

    All arguments are given by name. None: not used.

    Attributes
    ----------
    hedge : {"rolling", "fixed", "kalman"}, default "rolling"
        How the hedge ratio comes about: "fixed" is `beta`; "rolling" least squares over
        `hedge_window` bars; "kalman" a filter with a memory of `hedge_window` bars, or with the
        noise `delta` and `observation_variance`.
    beta : float or None, default None
        Hedge ratio of "fixed", which needs it: units of y per unit of x, as the prices are; finite.
    hedge_window : int or None, default None
        Bars of the rolling fit, or of the filter's memory; at least 2. None: `window`.
    window : int, default 60
        Bars of the z-score, at least 2.
    entry_z : float, default 2.0
        Level of abs(z) beyond which a position is entered, in deviations; finite, above 0.
    exit_z : float, default 0.0
        Level of abs(z) at which it is left, in deviations; finite, below `entry_z`. Below 0: beyond
        the mean.
    stop_z : float or None, default None
        Level of abs(z) at which it is stopped, in deviations; finite, above `entry_z`.
    stop_loss : float or None, default None
        Loss at which it is stopped, a fraction of `notional`; finite, above 0.
    max_bars : int or None, default None
        Bars a position lives at most, at least 1.
    notional : float, default 10_000.0
        Gross value of a trade at its signal, quote currency; finite, above 0.
    capital : float, default 10_000.0
        What the account begins with, quote currency; finite, above 0.
    delta : float or None, default None
        Drift of the Kalman filter, in (0, 1); delta/(1-delta) is in the units of the prices. Given
        together with `observation_variance`, or neither.
    observation_variance : float or None, default None
        Noise of the Kalman filter, y's unit squared; finite, above 0.
    rebalance : float or None, default None
        The x leg is set anew where the hedge ratio has moved by this fraction of the one held;
        finite, above 0. None: beta stays frozen at the entry.
    spec : PairSpec
        What these rules ask of a pair view (a property).

    Raises
    ------
    ValueError
        Naming the argument, what was received and what is allowed. NaN is refused everywhere.

    See Also
    --------
    Costs : What trading costs.
    positions : What rules decide on given z-scores.

    Notes
    -----
    Long spread: entered where z < -entry_z, left where z ≥ -exit_z, stopped where z ≤ -stop_z;
    signs reversed for a short. After a stop of any kind (`stop_z`, `stop_loss`, `max_bars`) nothing
    is entered until z is back at the exit level. Every rule is in docs/methods.md.

    The fields of the other hedges are checked, but have no effect.

    Examples
    --------
    >>> rules = Rules(window=30, entry_z=1.5)
    >>> rules.hedge, rules.exit_z, rules.spec.bars_needed
    ('rolling', 0.0, 59)
    """

    hedge: Hedge = "rolling"
    beta: float | None = None
    hedge_window: int | None = None
    window: int = 60
    entry_z: float = 2.0
    exit_z: float = 0.0
    stop_z: float | None = None
    stop_loss: float | None = None
    max_bars: int | None = None
    notional: float = 10_000.0
    capital: float = 10_000.0
    delta: float | None = None
    observation_variance: float | None = None
    rebalance: float | None = None

    def __post_init__(self) -> None:
        check_choice("hedge", self.hedge, get_args(Hedge))
        for name in ("beta", "hedge_window", "window", "delta", "observation_variance"):
            _plain(self, name)
        _ = self.spec  # refuses what a PairSpec refuses
        _number(self, "entry_z", 0.0)
        _number(self, "exit_z", -INFINITE)
        for name in ("stop_z", "stop_loss", "rebalance"):
            if getattr(self, name) is not None:
                _number(self, name, 0.0)
        if self.max_bars is not None:
            object.__setattr__(self, "max_bars", check_window("max_bars", self.max_bars, 1))
        _number(self, "notional", 0.0)
        _number(self, "capital", 0.0)
        if self.exit_z >= self.entry_z:
            raise ValueError(
                f"exit_z={self.exit_z:g} is not usable with entry_z={self.entry_z:g}: "
                "an exit below the entry is allowed"
            )
        if self.stop_z is not None and self.stop_z <= self.entry_z:
            raise ValueError(
                f"stop_z={self.stop_z:g} is not usable with entry_z={self.entry_z:g}: "
                "a stop beyond the entry is allowed"
            )

    @property
    def spec(self) -> PairSpec:
        """What these rules ask of a pair view."""
        return PairSpec(
            hedge=self.hedge,
            window=self.window,
            hedge_window=self.hedge_window,
            beta=self.beta,
            delta=self.delta,
            observation_variance=self.observation_variance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What trading costs, per leg and fill, in basis points (1 bps = 0.0001).

    All arguments are given by name.

    Attributes
    ----------
    fee_bps : float, default 0.0
        Fee in bps of the value traded at the price filled, in [0, 10_000).
    slippage_bps : float, default 0.0
        How far the price of a fill moves against the trade, in bps, in [0, 10_000).
    funding_y, funding_x : pandas.Series of float, or None, default None
        For perpetuals: the funding rates of a leg as finite fractions, indexed by their settlement
        times (a DatetimeIndex, each time once; without a zone taken as UTC). Where positive, longs
        pay shorts. None: that leg pays none.
    funded : bool
        Whether any leg pays funding (a property).

    Raises
    ------
    ValueError
        For a negative cost, a cost of 10,000 bps or more, rates that are not finite or no Series
        with a DatetimeIndex, and settlement times that are missing or stand twice.

    Notes
    -----
    A buy is filled at price·(1 + s), a sale at price·(1 - s), s the slippage; the fee is taken of
    the quantity times that price. A round trip of a pair is four fills, two of each leg.

    A rate is due at the first bar that opens at or after its settlement, on the quantity held into
    that open, at its price; after the last bar's open none is.

    Two Costs that differ in funding alone compare as equal.

    Examples
    --------
    >>> Costs(fee_bps=5.0).slippage_bps, Costs().funded
    (0.0, False)
    """

    fee_bps: float = 0.0
    slippage_bps: float = 0.0
    funding_y: pd.Series[float] | None = field(default=None, compare=False)
    funding_x: pd.Series[float] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("fee_bps", "slippage_bps"):
            value = check_number(name, getattr(self, name), 0.0, 10_000.0, open_low=False)
            object.__setattr__(self, name, value)
        for name in ("funding_y", "funding_x"):
            if getattr(self, name) is not None:
                _check_funding(name, getattr(self, name))

    @property
    def funded(self) -> bool:
        """Whether any leg pays funding."""
        return self.funding_y is not None or self.funding_x is not None


@dataclass(frozen=True, slots=True)
class Preset:
    """A published fee: what it is of, and the fee in basis points.

    Attributes
    ----------
    label : str
        Exchange, market and side of the fee, for readers.
    fee_bps : float
        Fee per leg and fill, in bps (1 bps = 0.0001); never NaN.

    See Also
    --------
    Costs : Takes the fee.

    Examples
    --------
    >>> preset = PRESETS["binance-usdm-taker"]
    >>> preset.label, preset.fee_bps
    ('Binance USD-M futures, taker', 5.0)
    """

    label: str
    fee_bps: float


PRESETS_TAKEN = "2026-11-24"
"""When the fees of PRESETS were noted."""
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "binance-spot-maker": Preset("Binance spot, maker", 10.0),
        "binance-spot-taker": Preset("Binance spot, taker", 10.0),
        "binance-usdm-maker": Preset("Binance USD-M futures, maker", 2.0),
        "binance-usdm-taker": Preset("Binance USD-M futures, taker", 5.0),
    }
)
"""Binance's public base rates: VIP 0, no discount for paying in BNB. Yours may be lower."""


def with_changes(rules: Rules, **changes: Any) -> Rules:
    """The same rules but for these; ValueError for a name that no rule bears."""
    known = [f.name for f in fields(Rules)]
    for name in changes:
        if name not in known:
            raise ValueError(f"{name!r} is no rule: one of {', '.join(known)} is allowed")
    return replace(rules, **changes)


def _plain(rules: Rules, name: str) -> None:
    """A numpy number becomes Python's own, so that it is written as JSON."""
    value = getattr(rules, name)
    if hasattr(value, "item"):
        object.__setattr__(rules, name, value.item())


def _number(rules: Rules, name: str, low: float) -> None:
    number = check_number(name, getattr(rules, name), low, INFINITE, open_low=True)
    object.__setattr__(rules, name, number)


def _check_funding(name: str, rates: object) -> None:
    if not isinstance(rates, pd.Series) or not isinstance(rates.index, pd.DatetimeIndex):
        raise ValueError(
            f"{name} is a {type(rates).__name__}: a Series with a DatetimeIndex is allowed"
        )
    if rates.dtype.kind not in "iuf" or not rates.map(math.isfinite).all():
        raise ValueError(f"{name} holds rates that are not finite numbers: fractions are allowed")
    if rates.index.hasnans or not rates.index.is_unique:
        raise ValueError(f"{name} holds a settlement time twice or none: each once is allowed")
