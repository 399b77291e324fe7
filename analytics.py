"""Hedge ratios, spread, z-score, ADF test, rolling correlation. The maths: pairs/analytics/.

>>> import pandas as pd
>>> fit = ols_hedge_ratio(pd.Series([2.0, 4.1, 5.9]), pd.Series([1.0, 2.0, 3.0]))
>>> round(fit.beta, 2)
1.95
"""

from pairs.analytics.hedge import HedgeRatio, ols_hedge_ratio
from pairs.analytics.kalman import (
    KalmanNoise,
    discounted_hedge_ratio,
    fit_kalman_noise,
    kalman_hedge_ratio,
    kalman_zscore,
)
from pairs.analytics.spread import rolling_correlation, rolling_hedge_ratio, spread, zscore
from pairs.analytics.unitroot import AdfResult, adf_test

__all__ = ["HedgeRatio", "ols_hedge_ratio", "rolling_hedge_ratio"]
__all__ += ["KalmanNoise", "discounted_hedge_ratio", "fit_kalman_noise"]
__all__ += ["kalman_hedge_ratio", "kalman_zscore", "spread", "zscore"]
__all__ += ["AdfResult", "adf_test", "rolling_correlation"]
