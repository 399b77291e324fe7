"""The Kalman hedge ratio against pykalman and statsmodels' compiled filter.

python -m benchmarks.kalman [--runs 5]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from pykalman import KalmanFilter
from statsmodels.tsa.statespace.mlemodel import MLEModel

from analytics import kalman_hedge_ratio
from benchmarks.compare import HEAD, arguments, compared
from benchmarks.harness import machine, table

DELTA, NOISE = 1e-4, 1e-3
Array = npt.NDArray[np.float64]


def legs(rows: int) -> tuple[pd.Series[float], pd.Series[float]]:
    rng = np.random.default_rng(rows)
    x = 20 + rng.normal(0, 0.05, rows).cumsum()
    return pd.Series(0.7 * x + 3 + rng.normal(0, 0.05, rows)), pd.Series(x)


def by_pykalman(y: pd.Series[float], x: pd.Series[float]) -> Array:
    design = np.column_stack([x, np.ones_like(x)])
    drift = DELTA / (1 - DELTA) * np.eye(2)
    model = KalmanFilter(
        transition_matrices=np.eye(2),
        observation_matrices=design[:, None, :],
        transition_covariance=drift,
        observation_covariance=[[NOISE]],
        initial_state_mean=np.zeros(2),
        initial_state_covariance=np.zeros((2, 2)),
    )
    return np.asarray(model.filter(y.to_numpy())[0])


class Drifting(MLEModel):  # type: ignore[misc]
    """The same model for statsmodels: built once, only filtered in the timing."""

    def __init__(self, y: pd.Series[float], x: pd.Series[float]) -> None:
        super().__init__(
            y.to_numpy(),
            k_states=2,
            initialization="known",
            initial_state=np.zeros(2),
            initial_state_cov=np.zeros((2, 2)),
        )
        self["design"] = np.vstack([x, np.ones_like(x)])[None, :, :]
        self["transition"] = self["selection"] = np.eye(2)
        self["state_cov"] = DELTA / (1 - DELTA) * np.eye(2)
        self["obs_cov"] = np.array([[NOISE]])

    def states(self) -> Array:
        return np.asarray(self.ssm.filter(conserve_memory=0).filtered_state.T)


def main() -> None:
    options = arguments(__doc__, "benchmarks.kalman")
    machine("numpy", "pandas", "numba", "pykalman", "statsmodels")
    rows: list[list[str]] = []
    y, x = legs(10_000)

    def ours() -> pd.DataFrame:
        return kalman_hedge_ratio(y, x, delta=DELTA, observation_variance=NOISE)

    model = Drifting(y, x)
    for name, peer, wanted in (
        ("pykalman.filter", lambda: by_pykalman(y, x), 5_000.0),
        ("statsmodels ssm.filter", model.states, 50.0),
    ):
        rows.append(
            compared(
                "Kalman, 2 states, 10k bars",
                name,
                ours,
                peer,
                options.runs,
                wanted=wanted,
                figures=lambda found: found[["beta", "intercept"]],
            )
        )
    table("Kalman hedge ratio", HEAD, rows)


if __name__ == "__main__":
    main()
