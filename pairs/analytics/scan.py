"""A market, not a pair: every pair of a universe, both directions, and what chance would find."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from pairs.analytics.cointegration import cointegrating_fit, reversion
from pairs.analytics.mackinnon import mackinnon_p
from pairs.analytics.small_sample import unit_root_p
from pairs.analytics.unitroot import TRENDS, adf_statistic, least_rows
from pairs.bars.length import common_step_ns, different_lengths, noted_ns
from pairs.checks import Array, check_choice, check_window, series_values

__all__ = [
    "SCAN_COLUMNS",
    "adjusted_p",
    "benjamini_hochberg",
    "pair_correlations",
    "scan_pairs",
    "small_sample_p",
]

SCAN_COLUMNS = (
    "y",
    "x",
    "rows",
    "beta",
    "intercept",
    "r_squared",
    "correlation",
    "statistic",
    "p_value",
    "p_adjusted",
    "lags",
    "half_life",
    "reason",
)

Progress = Callable[[int, int], None]


def benjamini_hochberg(p_values: pd.Series[float]) -> pd.Series[float]:
    """p-values corrected for the number of tests: the false-discovery rate at which each passes.

    With p_(1) ≤ … ≤ p_(m): min over k ≥ i of p_(k)·m/k, at most 1. Keeping all below 0.05 makes
    5 % of what is kept false, on average, for tests that are independent or depend positively.
    NaN stays NaN and counts as no test. Index and name of `p_values`.
    Raises ValueError for a value outside [0, 1].
    Source: Benjamini and Hochberg (1995), J. Royal Statistical Society B 57, 289-300.
    """
    if not isinstance(p_values, pd.Series):
        raise ValueError(f"p_values is a {type(p_values).__name__}: a pandas Series is allowed")
    values = p_values.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero((values < 0) | (values > 1))
    if bad.size:
        raise ValueError(
            f"p_values is {values[bad[0]]:g} at row {bad[0]}: a number in [0, 1] is allowed"
        )
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    tests = len(order)
    stepped = values[order] * tests / np.arange(1, tests + 1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return pd.Series(adjusted, index=p_values.index, name=p_values.name)


def small_sample_p(table: pd.DataFrame, trend: str = "c") -> pd.Series[float]:
    """The p-values of a scan's rows as so many rows and the AIC's choice of lags leave them."""
    values = [
        math.nan if math.isnan(statistic) else unit_root_p(statistic, trend, 2, int(rows))
        for statistic, rows in zip(table["statistic"], table["rows"], strict=True)
    ]
    return pd.Series(values, index=table.index, dtype=np.float64)


def adjusted_p(table: pd.DataFrame, trend: str = "c") -> pd.Series[float]:
    """p_adjusted of a scan: what a pair's better direction costs, then what so many pairs cost.

    `table`: y, x, rows, statistic of all rows of a scan. Of each pair twice the smaller p-value
    of `small_sample_p`, at most 1, for having looked both ways; then Benjamini-Hochberg over the
    pairs. Both rows of a pair bear its figure, a row that was not tested NaN.
    """
    p_values = small_sample_p(table, trend)
    pair = [frozenset(legs) for legs in zip(table["y"], table["x"], strict=True)]
    groups = p_values.groupby(pd.Series(pair, index=table.index, dtype=object), sort=False)
    better = (groups.min() * groups.count()).clip(upper=1.0)
    whole = benjamini_hochberg(better)
    known = dict(zip(better.index, whole, strict=True))
    found = pd.Series([known[legs] for legs in pair], index=table.index, dtype=np.float64)
    return found.where(p_values.notna())


def scan_pairs(
    closes: pd.DataFrame,
    *,
    lags: int | None = None,
    trend: str = "c",
    prices: str = "raw",
    min_rows: int = 100,
    pairs: Iterable[tuple[object, object]] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Scan all pairs full-sample: hedge ratio, Engle-Granger test, half-life and correlation.

    Parameters
    ----------
    closes : pandas.DataFrame of float, shape (n, k)
        One column per symbol, at least 2, each name once; one row per bar, in order of time, each
        label once. Prices above 0; NaN where a symbol has none. An infinity counts as NaN.
    lags : int or None, default None
        Lagged differences of the residuals, as in `engle_granger`; None is the AIC's choice.
    trend : {"c", "n", "ct"}, default "c"
        Terms of the cointegrating regression, as in `engle_granger`.
    prices : {"raw", "log"}, default "raw"
        What is regressed: the prices, or their logs for elasticities.
    min_rows : int, default 100
        Common rows without which a pair is not tested, at least 10. Many `lags` need more.
    pairs : iterable of tuple of two columns, or None, default None
        The pairs to look at, each once in either order. None: all.
    progress : callable or None, default None
        ``progress(done, pairs)`` is called with two int after every pair of symbols. It may raise
        to stop the scan.

    Returns
    -------
    pandas.DataFrame
        Two rows per pair, either leg explained, the smallest `p_value` first and untested rows
        last, numbered from 0. The columns in their order:

        - y, x: the names of the two columns, y explained by x.
        - rows: common rows used (int).
        - beta: hedge ratio, in units of y per unit of x (an elasticity for logs).
        - intercept: in the unit of y; 0 with trend "n".
        - r_squared: share of y's squares explained, about its mean (about 0 with trend "n").
        - correlation: of the log returns between the common rows, within [-1, 1], of an untested
          pair, too; NaN below 3 rows or where a symbol does not move.
        - statistic, p_value: of `engle_granger`, one direction.
        - p_adjusted: p-value for both directions and for the number of pairs.
        - lags: lagged differences used (int; -1 where untested).
        - half_life: of the residual, in bars; inf where it does not return.
        - reason: why the figures are NaN, "" where they are not: too few rows, a symbol that never
          changes, an exact function of the other, bars of different length.

        Where `reason` is not "", all figures but rows, correlation and lags are NaN.

    Raises
    ------
    ValueError
        For a frame of fewer than 2 columns, a name twice, rows out of order or twice, a price that
        is not positive, a pair that is no two columns, other arguments out of range, or `closes`
        that are no DataFrame of real numbers.

    See Also
    --------
    pairs.analytics.cointegration.engle_granger : The test of one pair.
    adjusted_p : How p_adjusted is made.
    pair_correlations : The correlations alone, as a matrix.

    Notes
    -----
    Full-sample: the table uses every row, so it must not decide a trade inside the sample.

    A pair is looked at on the rows both symbols have, and nothing is filled. `p_adjusted` takes for
    each pair twice the smaller small-sample p-value, at most 1, and then corrects for the number of
    pairs by Benjamini-Hochberg. With trend "ct" the slope over time is fitted but not shown.

    Trap: among many pairs of random walks some have a small `p_value` by chance. Judge by
    `p_adjusted`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> walks = 100 + np.random.default_rng(1).normal(size=(200, 2)).cumsum(axis=0)
    >>> closes = pd.DataFrame(walks, columns=["a", "b"])
    >>> closes["c"] = 2 * closes["a"] + np.random.default_rng(2).normal(size=200)
    >>> table = scan_pairs(closes)
    >>> len(table), sorted(table.loc[0, ["y", "x"]]), (table["p_adjusted"] < 0.01).tolist()
    (6, ['a', 'c'], [True, True, False, False, False, False])
    """
    check_choice("trend", trend, TRENDS)
    check_choice("prices", prices, ("raw", "log"))
    fixed = None if lags is None else check_window("lags", lags, 0)
    least = max(check_window("min_rows", min_rows, 10), least_rows(fixed, "n"), 8)
    names, levels = _universe(closes)
    lengths = _lengths(closes, levels)
    wanted = list(combinations(range(len(names)), 2)) if pairs is None else _places(names, pairs)
    rows: list[tuple[object, ...]] = []
    for done, (a, b) in enumerate(wanted, 1):
        logs, (of_a, of_b) = _common(levels[a], levels[b], prices)
        correlation = _correlation(*logs)
        for leg_y, leg_x, y, x in ((a, b, of_a, of_b), (b, a, of_b, of_a)):
            differ = different_lengths(lengths[leg_y], lengths[leg_x])
            beta, alpha, r2, statistic, p, used, life, why = (
                _nothing(differ) if differ else _pair(y, x, fixed, trend, least)
            )
            rows.append(
                (
                    names[leg_y],
                    names[leg_x],
                    len(y),
                    beta,
                    alpha,
                    r2,
                    correlation,
                    statistic,
                    p,
                    math.nan,
                    used,
                    life,
                    why,
                )
            )
        if progress is not None:
            progress(done, len(wanted))
    table = pd.DataFrame(rows, columns=list(SCAN_COLUMNS))
    table["p_adjusted"] = adjusted_p(table, trend)
    return table.sort_values("p_value", kind="stable", ignore_index=True)


def pair_correlations(closes: pd.DataFrame, *, min_rows: int = 30) -> pd.DataFrame:
    """Full-sample correlation of the log returns of every two columns, as `scan_pairs` has it.

    `closes` as there: each pair on the rows both symbols have, holes and all, which makes the
    matrix symmetric but not always positive definite. 1 on the diagonal, within [-1, 1]; NaN for
    a pair of fewer than `min_rows` common rows and for a symbol that does not move.
    Raises ValueError as `scan_pairs` does, or for a `min_rows` below 3.
    """
    least = check_window("min_rows", min_rows, 3)
    names, levels = _universe(closes)
    matrix = np.full((len(names), len(names)), np.nan)
    for a, b in combinations(range(len(names)), 2):
        logs, _ = _common(levels[a], levels[b], "log")
        if len(logs[0]) >= least:
            matrix[a, b] = matrix[b, a] = _correlation(*logs)
    for k, level in enumerate(levels):
        known = level[~np.isnan(level)]
        matrix[k, k] = 1.0 if len(known) and known.min() < known.max() else math.nan
    return pd.DataFrame(matrix, index=closes.columns, columns=closes.columns)


def _places(names: list[object], pairs: Iterable[tuple[object, object]]) -> list[tuple[int, int]]:
    """The columns of each pair by number."""
    number = {name: k for k, name in enumerate(names)}
    found: dict[frozenset[int], tuple[int, int]] = {}
    for pair in pairs:
        places = [number.get(name, -1) for name in pair]
        if len(places) != 2 or places[0] == places[1] or -1 in places:
            raise ValueError(f"pairs holds {pair!r}: two different columns of closes are allowed")
        if frozenset(places) in found:  # it would count twice in the number of tests
            raise ValueError(f"pairs holds {pair!r} twice: once, in either order, is allowed")
        found[frozenset(places)] = (places[0], places[1])
    return list(found.values())


def _common(
    level_a: Array, level_b: Array, prices: str
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Logs of the rows both symbols have, and the prices to regress: the same or raw."""
    both = ~(np.isnan(level_a) | np.isnan(level_b))
    raw = (level_a, level_b) if both.all() else (level_a[both], level_b[both])
    logs = np.log(raw[0]), np.log(raw[1])
    return logs, logs if prices == "log" else raw


def _universe(closes: object) -> tuple[list[object], list[Array]]:
    """Names and levels, NaN where unknown."""
    if not isinstance(closes, pd.DataFrame):
        raise ValueError(f"closes is a {type(closes).__name__}: a pandas DataFrame is allowed")
    if closes.shape[1] < 2:
        raise ValueError(f"closes has {closes.shape[1]} columns: at least 2 are allowed")
    for what, labels in (("column", closes.columns), ("row", closes.index)):
        if not labels.is_unique:
            twice = labels[labels.duplicated()][0]
            raise ValueError(f"closes has {what} {twice!r} more than once: each once is allowed")
    if not closes.index.is_monotonic_increasing:
        raise ValueError("closes is out of order: rows in order of time are allowed, sort_index()")
    levels = []
    for name in closes.columns:
        values = series_values(f"closes[{name!r}]", closes[name])
        if (bad := np.flatnonzero(values <= 0)).size:
            raise ValueError(
                f"closes[{name!r}] is {values[bad[0]]:g} at row {bad[0]}: "
                "a price above 0 is allowed"
            )
        levels.append(values)
    return list(closes.columns), levels


def _correlation(log_a: Array, log_b: Array) -> float:
    """Of the returns; NaN where there is none."""
    if len(log_a) < 3:
        return math.nan
    a, b = np.diff(log_a), np.diff(log_b)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return min(1.0, max(-1.0, float(a @ b) / scale)) if scale > 0 else math.nan


def _lengths(closes: pd.DataFrame, levels: list[Array]) -> list[int | None]:
    """How long each column's bars are in nanoseconds; None where nothing tells."""
    index = closes.index
    if noted_ns(closes) is not None or not isinstance(index, pd.DatetimeIndex):
        return [None] * len(levels)
    return [common_step_ns(index[~np.isnan(level)]) for level in levels]


_Figures = tuple[float, float, float, float, float, int, float, str]


def _nothing(reason: str) -> _Figures:
    return *(math.nan,) * 5, -1, math.nan, reason


def _pair(y: Array, x: Array, lags: int | None, trend: str, least: int) -> _Figures:
    """beta, intercept, R², statistic, p-value, lags, half-life, reason."""
    if len(y) < least:
        return _nothing(f"{len(y)} common rows, {least} needed")
    for name, leg in (("y", y), ("x", x)):
        if leg.min() == leg.max():
            return _nothing(f"{name} never changes")
    try:
        beta, intercept, _, errors = cointegrating_fit(y, x, len(trend.replace("n", "")))
        statistic, used, _ = adf_statistic(errors, lags, "n")
    except ArithmeticError as error:
        return _nothing(f"the residual is {error}")
    centred = y - y.mean() if trend != "n" else y
    explained = 1.0 - float(errors @ errors) / float(centred @ centred)
    return (
        beta,
        intercept,
        explained,
        statistic,
        mackinnon_p(statistic, trend, 2),
        used,
        reversion(errors),
        "",
    )
