"""Work beside the page: one at a time, with progress, kept, cancelled, and told where it fails."""

from __future__ import annotations

import threading
import time

import pytest

from jobs import KEPT, Job, Jobs, Progress


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
    assert jobs.get(0) is None
    assert jobs.get(KEPT + 4) is not None
