"""Cointegration: Engle-Granger, Johansen, half-life, Hurst exponent, scans of many pairs.

>>> import numpy as np, pandas as pd
>>> walk = pd.Series(np.random.default_rng(1).normal(size=500).cumsum())
>>> noise = pd.Series(np.random.default_rng(2).normal(size=500))
>>> engle_granger(2 * walk + noise, walk).p_value < 0.01
True
"""

from pairs.analytics.cointegration import (
    BothWays,
    CointegrationResult,
    JohansenResult,
    engle_granger,
    engle_granger_both,
    half_life,
    hurst_exponent,
    johansen,
)
from pairs.analytics.scan import scan_pairs

__all__ = ["BothWays", "CointegrationResult", "engle_granger", "engle_granger_both"]
__all__ += ["JohansenResult", "half_life", "hurst_exponent", "johansen", "scan_pairs"]
