"""Many legs at once: who moves with whom, and the factors they share. Full-sample throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.checks import Array, check_choice, check_flag, check_window, full_table

__all__ = ["PcaFactors", "correlation_matrix", "pca_factors"]

_KINDS = ("log_returns", "values")


@dataclass(frozen=True, slots=True)
class PcaFactors:
    """Principal components of a basket, the largest first.

    `loadings`: one row per leg, one column per factor, columns of length 1. `explained`: share of
    the variance each factor carries. `scores`: the factors' path, one row per return. `mean`,
    `scale`: what was taken from each leg before.
    """

    loadings: pd.DataFrame
    explained: pd.Series[float]
    scores: pd.DataFrame
    mean: pd.Series[float]
    scale: pd.Series[float]


def _moves(closes: pd.DataFrame, of: str, rows: int) -> tuple[Array, pd.Index]:
    """Log returns or values, checked, with their index."""
    kind = check_choice("of", of, _KINDS)
    table = full_table("closes", closes, 2, rows + (kind == "log_returns"))
    if kind == "values":
        moves, index = table, closes.index
    else:
        low = np.argwhere(table <= 0)
        if low.size:
            row, leg = (int(n) for n in low[0])
            raise ValueError(
                f"closes[{closes.columns[leg]!r}] is {table[row, leg]:g} at row {row}: "
                "a price above 0 is allowed for log returns"
            )
        moves, index = np.diff(np.log(table), axis=0), closes.index[1:]
    flat = np.flatnonzero(moves.min(axis=0) == moves.max(axis=0))
    if flat.size:
        name = closes.columns[int(flat[0])]
        raise ValueError(f"closes[{name!r}] moves alike in every row: drop it")
    return moves, index


def correlation_matrix(closes: pd.DataFrame, *, of: str = "log_returns") -> pd.DataFrame:
    """Full-sample Pearson correlation of every two columns.

    `closes`: one column per leg. `of` "log_returns": of the log returns between rows; "values":
    of the columns as they are, for a frame that holds returns already. Prices themselves
    correlate by their trends. Symmetric, exactly 1 on the diagonal, within [-1, 1].
    Raises ValueError for NaN or infinity (see scan_pairs for legs with holes), fewer than 2
    columns or 3 moves, a price that is not positive, or a leg that never moves.
    """
    moves, _ = _moves(closes, of, 3)
    centred = moves - moves.mean(axis=0)
    unit = centred / np.sqrt((centred * centred).sum(axis=0))
    matrix = np.clip(unit.T @ unit, -1.0, 1.0)
    matrix = (matrix + matrix.T) / 2.0
    np.fill_diagonal(matrix, 1.0)
    return pd.DataFrame(matrix, index=closes.columns, columns=closes.columns)


def pca_factors(
    closes: pd.DataFrame,
    factors: int | None = None,
    *,
    of: str = "log_returns",
    standardise: bool = True,
) -> PcaFactors:
    """Full-sample principal components of a basket's returns.

    `factors`: how many, None: as many as legs. `of` as in `correlation_matrix`. `standardise`:
    each leg divided by its deviation (ddof 1), so that the wildest coin does not pass for the
    market; False takes the covariance as it is. Sign: the loadings of a factor add up to more
    than 0, so that the first one reads as the market.
    By singular values of the returns themselves, not of their products.
    Raises ValueError as `correlation_matrix`, and for a number of factors beyond the legs.
    Source: Avellaneda and Lee (2010), Quantitative Finance 10, 761-782, section 2.1.
    """
    moves, index = _moves(closes, of, 3)
    legs = moves.shape[1]
    count = legs if factors is None else check_window("factors", factors, 1)
    if count > min(moves.shape):
        raise ValueError(f"factors={count} is not usable: 1 to {min(moves.shape)} are allowed")
    mean = moves.mean(axis=0)
    scale = moves.std(axis=0, ddof=1) if check_flag("standardise", standardise) else np.ones(legs)
    table = (moves - mean) / scale
    _, sizes, rows = np.linalg.svd(table, full_matrices=False)
    sums = rows.sum(axis=1)
    lead = rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]
    sign = np.where(np.where(np.abs(sums) > 1e-9, sums, lead) < 0, -1.0, 1.0)
    loadings = (rows * sign[:, None])[:count].T
    names = [f"factor_{k + 1}" for k in range(count)]
    return PcaFactors(
        loadings=pd.DataFrame(loadings, index=closes.columns, columns=names),
        explained=pd.Series(sizes[:count] ** 2 / float(sizes @ sizes), index=names),
        scores=pd.DataFrame(table @ loadings, index=index, columns=names),
        mean=pd.Series(mean, index=closes.columns),
        scale=pd.Series(scale, index=closes.columns),
    )
