"""Ticks to bars, bars to larger bars, and the bars two legs have in common. See pairs/bars/.

>>> import pandas as pd
>>> times = pd.to_datetime(["2024-01-01T00:00:00.2Z", "2024-01-01T00:00:00.7Z"])
>>> ticks = pd.DataFrame({"price": [100.0, 101.0], "size": [1.0, 2.0]}, index=times)
>>> ticks_to_bars(ticks, "1s")["close"].tolist()
[101.0]
"""

from pairs.bars.resampling import (
    align,
    bar_length_ns,
    bar_ns,
    common_step_ns,
    resample_bars,
    ticks_to_bars,
)

__all__ = ["align", "bar_length_ns", "bar_ns", "common_step_ns", "resample_bars", "ticks_to_bars"]
