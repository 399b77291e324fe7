"""Indicators of one instrument: averages, bands, volume-weighted prices, order flow.

>>> import pandas as pd
>>> sma(pd.Series([1.0, 2.0, 3.0]), 2).tolist()
[nan, 1.5, 2.5]
"""

from pairs.analytics.indicators import (
    anchored_vwap,
    bollinger_bands,
    ema,
    order_flow_imbalance,
    realised_volatility,
    rolling_vwap,
    sma,
    vwap,
)

__all__ = ["anchored_vwap", "bollinger_bands", "ema", "order_flow_imbalance"]
__all__ += ["realised_volatility", "rolling_vwap", "sma", "vwap"]
