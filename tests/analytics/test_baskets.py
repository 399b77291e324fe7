"""Correlation matrix and factors of a basket."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pairs.analytics.pca import correlation_matrix, pca_factors


def closes(rows: int = 400, legs: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    market = rng.normal(0, 1e-3, rows)
    moves = np.outer(market, rng.uniform(0.5, 1.5, legs)) + rng.normal(0, 5e-4, (rows, legs))
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")
    prices = np.exp(moves.cumsum(axis=0)) * 10.0 ** np.arange(-3, legs - 3)
    return pd.DataFrame(prices, index=index, columns=[f"S{k}" for k in range(legs)])


class TestCorrelation:
    def test_pandas_agrees(self) -> None:
        table = closes()
        ours = correlation_matrix(table)
        theirs = np.log(table).diff().corr()
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
        assert ours.index.equals(ours.columns)
        assert (np.diag(ours) == 1).all()
        assert (ours.to_numpy() == ours.to_numpy().T).all()
        values = correlation_matrix(table, of="values")
        np.testing.assert_allclose(values, table.corr(), atol=1e-10)

    def test_twins(self) -> None:
        table = closes(legs=2).assign(again=lambda t: 3 * t["S0"], back=lambda t: 1 / t["S0"])
        ours = correlation_matrix(table)
        assert ours.loc["S0", "again"] == pytest.approx(1, abs=1e-12)
        assert ours.loc["S0", "back"] == pytest.approx(-1, abs=1e-12)
        assert ours.abs().max(axis=None) <= 1


class TestFactors:
    def test_eigenvectors_agree(self) -> None:
        table = closes()
        moves = np.log(table).diff().dropna()
        for standardise, matrix in ((True, moves.corr()), (False, moves.cov())):
            found = pca_factors(table, standardise=standardise)
            values, vectors = np.linalg.eigh(matrix)
            np.testing.assert_allclose(found.explained, values[::-1] / values.sum(), rtol=1e-9)
            ours = found.loadings.to_numpy()
            np.testing.assert_allclose(np.abs(ours), np.abs(vectors[:, ::-1]), atol=1e-8)
            assert found.explained.sum() == pytest.approx(1)
            assert (ours.sum(axis=0) > -1e-9).all()

    def test_the_market_comes_first_and_all_factors_rebuild_the_returns(self) -> None:
        table = closes()
        found = pca_factors(table)
        assert found.explained.iloc[0] > 0.5
        assert (found.loadings["factor_1"] > 0).all()
        np.testing.assert_allclose(found.scores.corr(), np.eye(6), atol=1e-9)
        rebuilt = found.scores.to_numpy() @ found.loadings.to_numpy().T
        rebuilt = rebuilt * found.scale.to_numpy() + found.mean.to_numpy()
        np.testing.assert_allclose(rebuilt, np.log(table).diff().dropna(), atol=1e-14)
        assert found.scores.index.equals(table.index[1:])

    def test_fewer_factors(self) -> None:
        found = pca_factors(closes(), 2)
        assert list(found.loadings.columns) == ["factor_1", "factor_2"]
        assert found.explained.sum() < 1


@pytest.mark.parametrize("study", [correlation_matrix, pca_factors])
def test_refusals(study: Any) -> None:
    table = closes(50)
    holed, below, flat = table.copy(), table.copy(), table.copy()
    holed.iloc[3, 1], below.iloc[4, 2] = np.nan, -1.0
    flat["S1"] = 5.0
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (holed, {}, r"closes\['S1'\] is nan at row 3"),
        (below, {}, r"closes\['S2'\] is -1 at row 4"),
        (flat, {}, r"closes\['S1'\] moves alike"),
        (table[["S0"]], {}, "closes has 1 columns"),
        (table[:3], {}, "has 3 rows: at least 4"),
        (table, {"of": "prices"}, "of='prices'"),
        (table["S0"], {}, "closes is a Series"),
    ]
    for frame, options, message in cases:
        with pytest.raises(ValueError, match=message):
            study(frame, **options)
    if study is pca_factors:
        for factors in (0, 7, 1.5):
            with pytest.raises(ValueError, match="factors="):
                study(table, factors)
