"""The process itself: killed, frozen, told to stop with work left — and nothing is lost."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from exchange.testing import running
from pairs.storage.postgres import PostgresStore
from tests.support.chaos import SEED, TALLY
from tests.support.daemon import count, daemon, eventually
from tests.support.machine import free_port
from tests.support.records import assert_complete, no_open_gap, source

KILLS = 100


@pytest.mark.parametrize("kills", [4, pytest.param(KILLS, marks=pytest.mark.chaos)])
def test_killed_at_random_points(
    store: PostgresStore, database_url: str, tmp_path: Path, kills: int
) -> None:
    """While it starts, begins, ingests and repairs."""
    log = tmp_path / "log"
    rng = random.Random(SEED)
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        for _ in range(kills):
            before = log.stat().st_size if log.exists() else 0
            with daemon(database_url, addresses, log) as process:
                if rng.random() < 0.3:
                    time.sleep(rng.uniform(0.2, 1.5))
                else:
                    eventually(
                        lambda n=before: b"connected url" in log.read_bytes()[n:],  # type: ignore[misc]
                        "connected",
                        every=0.02,
                    )
                    time.sleep(rng.uniform(0.0, 1.2))
                process.kill()
                process.wait()
            TALLY.kills += 1
        with daemon(database_url, addresses, tmp_path / "log"):
            before = count(store)
            eventually(lambda: count(store) > before + 100, "trades")
            eventually(lambda: no_open_gap(store), "no open gap", 120)
            time.sleep(1)
            eventually(lambda: no_open_gap(store), "no open gap", 120)
        assert_complete(store, exchange)


def test_frozen_while_another_waits_and_back_again(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """SIGSTOP leaves the lock where it is: the second waits, the first repairs what it missed."""
    first, second = tmp_path / "first", tmp_path / "second"
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, first) as owner:
            eventually(lambda: count(store) > 100, "trades")
            with daemon(database_url, addresses, second):
                eventually(lambda: "another daemon ingests" in second.read_text(), "it waits")
                owner.send_signal(signal.SIGSTOP)
                time.sleep(4)
                owner.send_signal(signal.SIGCONT)
                before = count(store)
                eventually(lambda: count(store) > before + 1500, "what was missed")
            eventually(lambda: no_open_gap(store), "no open gap")
        assert_complete(store, exchange)


def test_two_daemons_that_both_believe_they_own_it(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Even without the lock, the transactions alone keep the data right."""
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, tmp_path / "first") as owner:
            eventually(lambda: count(store) > 100, "trades")
            owner.send_signal(signal.SIGSTOP)
            with store.transaction() as cursor:  # the server loses sight of the frozen one
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            with daemon(database_url, addresses, tmp_path / "second"):
                before = count(store)
                eventually(lambda: count(store) > before + 500, "the second ingests")
                owner.send_signal(signal.SIGCONT)
                eventually(
                    lambda: "taken over" in (tmp_path / "first").read_text(), "the first steps back"
                )
                before = count(store)
                eventually(lambda: count(store) > before + 300, "trades go on")
            before = count(store)  # the second has left: the first owns them again
            eventually(lambda: count(store) > before + 300, "trades go on once more")
            eventually(lambda: no_open_gap(store), "no open gap")
        assert_complete(store, exchange)


def test_told_to_stop_with_a_backlog(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """The queue is written before the process ends, with 0."""
    with running(source(1650)) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, tmp_path / "log") as process:
            eventually(lambda: count(store) > 100 and no_open_gap(store), "trades")
            with store.transaction() as cursor:
                cursor.execute("SELECT FROM feed ORDER BY instrument_id FOR UPDATE")
                time.sleep(3)
                process.send_signal(signal.SIGTERM)
                time.sleep(1)
                assert process.poll() is None
            assert process.wait(30) == 0
        assert "everything received is stored" in (tmp_path / "log").read_text()
        assert_complete(store, exchange)


def test_metrics_are_told_on_loopback(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    import urllib.request

    port = free_port()
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, tmp_path / "log", METRICS_PORT=str(port)):
            eventually(lambda: count(store) > 500, "trades")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
    for name in (
        "pairs_trades_stored_total",
        "pairs_trades_duplicate_total",
        "pairs_queue_frames",
        "pairs_commit_seconds_bucket",
        "pairs_trade_to_commit_seconds_bucket",
        "pairs_gaps_open",
        "pairs_feed_live",
    ):
        assert name in text
    line = next(
        part
        for part in text.splitlines()
        if part.startswith('pairs_trades_stored_total{symbol="BTCUSDT"')
    )
    assert float(line.split()[-1]) > 0
