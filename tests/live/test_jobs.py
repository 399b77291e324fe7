"""Work beside the page: one at a time, with progress, kept, cancelled, and told where it fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest

from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import run
from pairs.live.jobs import KEPT, Job, Jobs, Progress, weight_of


def wait(job: Job) -> Job:
    deadline = time.monotonic() + 20
    while not job.finished and time.monotonic() < deadline:
        time.sleep(0.005)
    assert job.finished
    return job


def test_a_job_runs_once_per_key_and_its_result_is_kept() -> None:
    jobs, runs = Jobs(), []

    def work(progress: Progress) -> int:
        runs.append(1)
        progress(1, 2)
        return 42

    job = wait(jobs.submit("a", "work", work))
    assert (job.result, job.error, job.share) == (42, None, 0.5)
    assert jobs.submit("a", "work", work) is job
    assert jobs.get("a") is job
    assert len(runs) == 1


def test_a_failure_is_told_and_may_be_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs()

    def broken(_: Progress) -> None:
        raise ValueError("window=1 is not usable")

    job = wait(jobs.submit("a", "work", broken))
    assert job.error == "window=1 is not usable"
    assert "work failed" in caplog.text
    assert jobs.submit("a", "work", lambda _: 1) is job
    assert wait(jobs.submit("a", "work", lambda _: 1, again=True)).result == 1


def test_a_job_is_cancelled_at_its_next_step() -> None:
    jobs, started = Jobs(), threading.Event()

    def endless(progress: Progress) -> None:
        while True:
            started.set()
            progress(0, 1)
            time.sleep(0.001)

    job = jobs.submit("a", "work", endless)
    assert started.wait(20)
    job.cancel()
    assert wait(job).error == "cancelled"


def test_a_finished_job_is_done_anew_only_where_asked() -> None:
    jobs = Jobs()
    first = wait(jobs.submit("a", "work", lambda _: 1))
    assert jobs.submit("a", "work", lambda _: 2) is first
    assert wait(jobs.submit("a", "work", lambda _: 2, again=True)).result == 2


def test_old_results_are_forgotten() -> None:
    jobs = Jobs()
    for k in range(KEPT + 5):
        wait(jobs.submit(k, "work", lambda _: 1))
    assert jobs.get(4) is None
    assert jobs.get(5) is not None
    assert jobs.get(KEPT + 4) is not None


def test_results_are_kept_by_what_they_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by their number: one run over a million bars holds more than a thousand short ones."""
    monkeypatch.setattr("pairs.live.jobs.BUDGET", 3_000_000)
    jobs = Jobs()
    for k in range(6):
        wait(jobs.submit(k, "work", lambda _: np.zeros(100_000)))  # 800 kB
    assert [k for k in range(6) if jobs.get(k)] == [3, 4, 5]
    jobs.get(3)  # used: now the newest
    wait(jobs.submit(6, "work", lambda _: [np.zeros(100_000)]))
    assert [k for k in range(7) if jobs.get(k)] == [3, 5, 6]
    heavy = wait(jobs.submit(7, "work", lambda _: {"a": pd.DataFrame({"x": np.zeros(10**6)})}))
    assert heavy.weight >= 8_000_000
    assert [k for k in range(8) if jobs.get(k)] == [7]  # alone, and yet kept: it was asked for
    wait(jobs.submit(8, "work", lambda _: 1))
    assert [k for k in range(9) if jobs.get(k)] == [8]


def test_a_backtest_is_weighed_whole() -> None:
    index = pd.date_range("2024-01-01", periods=2000, freq="1min", tz="UTC", name="ts")
    rng = np.random.default_rng(1)
    legs = []
    for _ in range(2):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 2000)))
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        legs.append(pd.DataFrame(prices, index=index).assign(volume=1.0))
    result = run(*legs, Rules(window=20, hedge_window=50), Costs())
    held = sum(
        int(np.sum(part.memory_usage(deep=True)))
        for part in (result.equity, result.trades, result.signals)
    )
    assert weight_of(("judged", result)) >= held
    assert weight_of((result, result)) < weight_of(result) + 1000  # counted once


def test_no_two_jobs_have_one_number() -> None:
    """An object's address is used again once it is gone; a number is not."""
    numbers = [Job("a").number for _ in range(100)]
    assert len(set(numbers)) == 100
