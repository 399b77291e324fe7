"""A "?" beside a figure or a test: one sentence, and the way to how it is computed. Pure."""

from __future__ import annotations

from html import escape
from types import MappingProxyType

# What it is called on the page → what it says, and the heading of docs/methods.md that tells more.
HINTS = MappingProxyType(
    {
        "Hedge ratio β": (
            "Units of x that hedge one unit of y: the slope of y on x over the hedge window.",
            "rolling_hedge_ratio",
        ),
        "Spread": ("y − α − β·x of the closes, in the currency of the prices.", "spread"),
        "z-score": (
            "The spread less its mean, in standard deviations, over the window of the sidebar.",
            "zscore",
        ),
        "Correlation": ("Of the log returns of both legs, over the window.", "rolling_correlation"),
        "E–G p": (
            "How probable a spread so steady is for two prices that have nothing to do with each "
            "other: Engle–Granger, either leg explained. Below 0.05 they are called cointegrated.",
            "engle_granger_both",
        ),
        "ADF p": (
            "How probable a spread so steady is for a random walk, β being given.",
            "adf_test",
        ),
        "ADF, unit root": ("Whether the spread is a random walk; small p: it is not.", "adf_test"),
        "KPSS, stationarity": (
            "The other way round: large values speak against a steady mean.",
            "kpss_test",
        ),
        "Engle–Granger, y on x": (
            "Whether what x leaves unexplained of y is steady: a spread that returns.",
            "engle_granger",
        ),
        "Engle–Granger, x on y": ("The same with the legs exchanged.", "engle_granger"),
        "Johansen trace, r = 0": (
            "Whether any combination of the two legs is steady, neither leg being preferred.",
            "johansen",
        ),
        "Half-life": ("Bars in which half of a deviation is gone, on average.", "half_life"),
        "Hurst exponent": (
            "0.5 is a random walk; below, it returns; above, it trends.",
            "hurst_exponent",
        ),
        "Variance ratio": (
            "Variance over 10 bars against 10 times that of one: 1 is a random walk.",
            "variance_ratio_test",
        ),
        "Correlation of log returns · in-sample": (
            "How alike the symbols of the venue moved, each pair on the bars it has in common.",
            "pair_correlations",
        ),
        "adjusted p": (
            "The share of false finds among all pairs up to this one: pays for few rows, for "
            "looking both ways and for the number of pairs.",
            "benjamini_hochberg",
        ),
        "Break-even cost": (
            "Fee and slippage per leg and fill at which nothing is left of the profit.",
            "Metrics",
        ),
        "Sharpe ratio": (
            "Mean over deviation of the returns, to a year; no riskless rate.",
            "Metrics",
        ),
        "Largest drawdown": ("From a peak of the account to the lowest point after it.", "Metrics"),
    }
)


def hint_html(name: str) -> str:
    """The "?" of what is called `name`; empty where there is none to give."""
    name = name.split(" (from ")[0]
    if name not in HINTS:
        return ""
    sentence, topic = HINTS[name]
    return (
        f' <a class="pw-q" href="?view=Methods&amp;topic={escape(topic)}" target="_blank" '
        f'title="{escape(sentence)}" aria-label="{escape(f"{name}: {sentence}")}">?</a>'
    )
