"""MacKinnon's surfaces against statsmodels' copy of them, over their whole range."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.tsa.adfvalues import mackinnoncrit, mackinnonp

from pairs.analytics.mackinnon import mackinnon_critical, mackinnon_p

CASES = [(trend, series) for trend in ("n", "c", "ct") for series in (1, 2)]


@pytest.mark.parametrize(("trend", "series"), CASES)
def test_p_values_are_those_of_statsmodels(trend: str, series: int) -> None:
    for statistic in np.linspace(-25, 4, 2901):
        expected = mackinnonp(float(statistic), regression=trend, N=series)
        found = mackinnon_p(float(statistic), trend, series)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("trend", "series"), CASES)
@pytest.mark.parametrize("nobs", [20, 100, 10_000])
def test_critical_values_are_those_of_statsmodels(trend: str, series: int, nobs: int) -> None:
    found = mackinnon_critical(trend, series, nobs)
    assert list(found) == ["1%", "5%", "10%"]
    if (trend, series) == ("n", 2):
        assert all(math.isnan(value) for value in found.values())  # MacKinnon (2010) has none
    else:
        expected = mackinnoncrit(N=series, regression=trend, nobs=nobs)
        assert list(found.values()) == pytest.approx(list(expected), rel=1e-14)
