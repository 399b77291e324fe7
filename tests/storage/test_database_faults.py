"""The database restarts, refuses, deadlocks, fills up, falls silent: nothing is lost or doubled.

The daemon is a process, the errors are PostgreSQL's own; the server is the embedded one and, where
its binaries are on this machine, PostgreSQL 15.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from exchange.server import Exchange
from exchange.testing import running
from pairs.storage.audit import audit
from pairs.storage.postgres import PostgresStore
from tests.support.chaos import SEED
from tests.support.daemon import ROOT, count, daemon, eventually
from tests.support.proxy import CuttingProxy
from tests.support.records import assert_complete, no_open_gap, source
from tests.support.servers import OwnServer, chaos


@contextlib.contextmanager
def store_of(dsn: str) -> Iterator[PostgresStore]:
    store = PostgresStore(lambda: psycopg2.connect(dsn, options="-c timezone=UTC"))
    try:
        yield store
    finally:
        store.close()


def patient_count(store: PostgresStore, query: str = "SELECT count(*) FROM v_ticks") -> int:
    """As `count`, waiting for a database that is away or not yet made."""
    while True:
        try:
            return int(count(store, query) or 0)
        except psycopg2.Error:
            time.sleep(0.2)


@pytest.mark.processes
def test_postgresql_restarts_under_load_and_the_first_start_finds_it_empty(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """Crashed and shut down in turn, in the middle of whatever it is doing."""
    with running(source(1650)) as exchange, store_of(own_server.dsn) as store:
        with daemon(own_server.dsn, (exchange.ws_url, exchange.rest_url), tmp_path / "log"):
            for mode in ("immediate", "fast", "immediate"):
                before = patient_count(store)
                eventually(lambda n=before: patient_count(store) > n + 1000, "trades")  # type: ignore[misc]
                own_server.restart(mode)
            before = patient_count(store)
            eventually(lambda: patient_count(store) > before + 2000, "trades again")
            eventually(lambda: no_open_gap(store), "no open gap")
        assert_complete(store, exchange)
        assert "starting_anew" not in (tmp_path / "log").read_text()


def test_connections_are_cut_between_a_commit_and_its_answer(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    duplicates = "SELECT coalesce(sum(duplicates), 0) FROM feed"
    with running(source()) as exchange, CuttingProxy(database_url, seed=SEED) as proxy:
        with daemon(proxy.dsn, (exchange.ws_url, exchange.rest_url), tmp_path / "log"):
            eventually(lambda: count(store) > 300, "trades")
            proxy.chance = 0.3
            eventually(lambda: proxy.cut >= 12, "twelve answers lost")
            # Which answers these are is chance: one of a commit of trades is to be among them.
            eventually(lambda: count(store, duplicates) > 0, "one of them a commit's")
            proxy.chance = 0.0
            before = count(store)
            eventually(lambda: count(store) > before + 500, "trades again")
            eventually(lambda: no_open_gap(store), "no open gap")
        assert_complete(store, exchange)
        assert count(store, duplicates) > 0


REFUSALS = {
    "disk full": ("53100", "could not extend file: No space left on device"),
    "deadlock": ("40P01", "deadlock detected"),
    "serialization": ("40001", "could not serialize access"),
    "read only": ("25006", "cannot execute INSERT in a read-only transaction"),
    "out of memory": ("53200", "out of memory"),
}


@pytest.mark.parametrize(
    "kind", [k if k == "disk full" else pytest.param(k, marks=chaos) for k in REFUSALS]
)
def test_the_server_refuses_every_insert_for_a_while(
    store: PostgresStore, database_url: str, tmp_path: Path, kind: str
) -> None:
    """A trigger raises the server's own error. It is told aloud, the state reads stale, and
    afterwards everything is there."""
    state, message = REFUSALS[kind]
    with running(source()) as exchange:
        with daemon(database_url, (exchange.ws_url, exchange.rest_url), tmp_path / "log"):
            eventually(lambda: count(store) > 300, "trades")
            with store.transaction() as cursor:
                cursor.execute(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                    f" $$BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '{state}'; END$$;"
                    "CREATE TRIGGER refuse BEFORE INSERT ON trade FOR STATEMENT"
                    " EXECUTE FUNCTION refuse()"
                )
            eventually(lambda: message in (tmp_path / "log").read_text(), "it is told aloud")
            eventually(
                lambda: count(store, "SELECT count(*) FROM v_feed WHERE state = 'stale'") == 2,
                "the state is stale",
                10,
            )
            with store.transaction() as cursor:
                cursor.execute("DROP TRIGGER refuse ON trade")
            before = count(store)
            eventually(lambda: count(store) > before + 2000, "trades again")
            eventually(lambda: no_open_gap(store), "no open gap")
        assert_complete(store, exchange)


def test_a_privilege_is_taken_away_and_given_back(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """As a role that owns nothing but may do everything, until it may not."""
    role = f"clerk_{os.getpid()}"
    with store.transaction() as cursor:
        cursor.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'clerk'; ALTER SCHEMA public OWNER TO {role};"
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v')"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {name} OWNER TO {role}")
    dsn = database_url.replace(database_url.split("//")[1].split("@")[0], f"{role}:clerk")
    try:
        with running(source()) as exchange:
            with daemon(dsn, (exchange.ws_url, exchange.rest_url), tmp_path / "log"):
                eventually(lambda: count(store) > 300, "trades")
                with store.transaction() as cursor:
                    cursor.execute(f"REVOKE INSERT ON trade FROM {role}")
                eventually(
                    lambda: "permission denied" in (tmp_path / "log").read_text(), "told aloud"
                )
                with store.transaction() as cursor:
                    cursor.execute(f"GRANT INSERT ON trade TO {role}")
                before = count(store)
                eventually(lambda: count(store) > before + 500, "trades again")
                eventually(lambda: no_open_gap(store), "no open gap")
            assert_complete(store, exchange)
    finally:
        with store.transaction() as cursor:
            cursor.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@chaos
def test_a_stop_ends_although_the_database_never_answers(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """In bounded time, and not with 0: what was received is not stored. The next start has it."""
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, tmp_path / "log") as process:
            eventually(lambda: count(store) > 300, "trades")
            with store.transaction() as cursor:
                cursor.execute("LOCK TABLE trade IN ACCESS EXCLUSIVE MODE")
                time.sleep(1)
                process.send_signal(signal.SIGTERM)
                assert process.wait(25) == 1
        text = (tmp_path / "log").read_text()
        assert "drain_failed" in text
        assert "everything received is stored" not in text
        with daemon(database_url, addresses, tmp_path / "log"):
            before = count(store)
            eventually(lambda: count(store) > before + 100 and no_open_gap(store), "repaired")
        assert_complete(store, exchange)


def test_a_commit_wakes_whoever_listens(store: PostgresStore) -> None:
    """NOTIFY comes with the commit, not before it, and names the venue."""
    from tests.support.rows import trade

    listener = store.connect()
    try:
        listener.autocommit = True
        listener.cursor().execute("LISTEN trades")
        assert not select.select([listener], [], [], 0)[0]
        threading.Timer(0.2, lambda: store.write("binance", [trade(1)])).start()
        assert select.select([listener], [], [], 10)[0]
        listener.poll()
        assert [(n.channel, n.payload) for n in listener.notifies] == [("trades", "binance")]
        assert count(store) == 1
    finally:
        listener.close()


def shell(database_url: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "database_utils.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "DATABASE_URL": database_url},
    )
    return done.returncode, done.stdout


def test_health_from_the_shell_tells_a_killed_daemon_within_10_s(
    store: PostgresStore, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two markets' daemons too, although the other one lives."""
    monkeypatch.setattr(Exchange, "_say_simulated", lambda *_: None)  # silent about it, as Binance
    with running(source()) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with (
            daemon(database_url, addresses, tmp_path / "spot"),
            daemon(database_url, addresses, tmp_path / "usdm", MARKET="usdm") as futures,
        ):
            eventually(lambda: shell(database_url, "health")[0] == 0, "healthy")
            report = json.loads(shell(database_url, "health")[1])
            assert set(report["feeds"]) == {"binance", "binance-usdm"}
            futures.kill()
            futures.wait()
            # Timed in the database: how long a shell takes to start is the machine's business.
            states = "SELECT string_agg(DISTINCT state, ',') FROM v_feed WHERE venue = '{}'"
            eventually(lambda: count(store, states.format("binance-usdm")) == "stopped", "told", 20)
            assert shell(database_url, "health")[0] == 1
            problems = json.loads(shell(database_url, "health")[1])["problems"]
            assert all("binance-usdm" in problem for problem in problems)
            assert count(store, states.format("binance")) == "live"
    code, text = shell(database_url, "audit")
    assert code == 0
    assert json.loads(text)["ok"] is True
    with store.transaction() as cursor:
        cursor.execute(
            "DELETE FROM trade WHERE (instrument_id, trade_id) IN"
            " (SELECT instrument_id, max(trade_id) - 5 FROM trade GROUP BY 1 LIMIT 1)"
        )
    assert shell(database_url, "audit")[0] == 1
    assert not audit(store)["ok"]
