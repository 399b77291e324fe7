"""Poolers and failovers: what a session remembers is not relied upon, and old connections are let
go. PgBouncer is the real one; two databases of one server play the two servers of a failover."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from exchange.testing import running
from pairs.alerts.lock import Watch
from pairs.settings import load_settings
from pairs.storage.connecting import connect, is_pooled
from pairs.storage.database import Database, StoreAwayError, open_database, open_store
from pairs.storage.ownership import Ownership, OwnershipLostError, identity, is_dead
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from pairs.storage.retention import prune
from tests.support.daemon import count, daemon, eventually
from tests.support.machine import free_port
from tests.support.pooler import Failover, pgbouncer
from tests.support.records import assert_complete, no_open_gap, source
from tests.support.rows import rows, trade

LIVE = {"BTCUSDT": ("live", "")}


def opened(url: str) -> PostgresStore:
    """The store as every door opens it."""
    return open_store(open_database(load_settings({"DATABASE_URL": url})))


@contextlib.contextmanager
def stores(*urls: str) -> Iterator[list[PostgresStore]]:
    made: list[PostgresStore] = []
    try:
        made += [opened(url) for url in urls]
        yield made
    finally:
        for store in made:
            store.close()


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, database_url: str) -> Iterator[str]:
    with pgbouncer(database_url, request.param, free_port()) as dsn:
        yield dsn


@pytest.fixture
def shared_sessions(database_url: str) -> Iterator[str]:
    """Transaction pooling where every client gets the same session of the server."""
    with pgbouncer(database_url, "transaction", free_port(), default_pool_size="2") as dsn:
        yield dsn


# -- poolers


def test_a_store_is_made_and_written_through_pgbouncer_as_it_comes(pooled: str) -> None:
    with stores(pooled) as (store,):
        written = store.write("binance", [trade(i) for i in (1, 2, 3, 3)])
        assert (written.stored, written.duplicates) == (3, 1)
        prune(store, 36_500)
        assert prune(store, 36_500)["blocked"] == []
        assert [feed.symbol for feed in read_feeds(store.engine, "binance")] == ["BTCUSDT"]


def test_every_transaction_is_set_up_and_none_sets_up_another(shared_sessions: str) -> None:
    """Readers end in time and writers do not, whichever session of the server they get."""
    names = ("statement_timeout", "jit", "timezone")
    shown = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with stores(shared_sessions) as (store,):
        for _ in range(3):
            with store.reading() as cursor:
                cursor.execute(shown)
                assert cursor.fetchone() == ("5s", "off", "UTC")
            assert rows(store, shown) == [("0", "off", "UTC")]
            with store.engine.connect() as connection:
                assert connection.exec_driver_sql(shown).one() == ("5s", "off", "UTC")
        with contextlib.closing(psycopg2.connect(shared_sessions)) as other:
            cursor = other.cursor()
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)


def test_leases_are_given_back_through_a_pooler(pooled: str) -> None:
    with stores(pooled) as (store,):
        first, second = (Ownership(store.connect, "binance") for _ in range(2))
        assert first.claim(["BTCUSDT", "ETHUSDT"]) == []
        assert second.claim(["ETHUSDT", "SOLUSDT"]) == ["ETHUSDT"]
        first.heartbeat(LIVE)
        first.close()
        assert second.claim(["ETHUSDT", "SOLUSDT"]) == []
        second.close()
        one, two = Watch(store.connect), Watch(store.connect)
        assert one.claim()
        assert not two.claim()
        one.close()
        assert two.claim()
        two.close()


def test_a_watcher_that_cannot_listen_looks(shared_sessions: str) -> None:
    silent = os.pipe()[0]
    with stores(shared_sessions) as (store,):
        watch = Watch(store.connect)
        assert watch.claim()
        watch.heartbeat()
        watch.wait(0.0, silent)
        assert watch.wait(0.0, silent).venues == frozenset()
        store.write("binance", [trade(1)])
        assert watch.wait(0.0, silent).venues == {"binance"}
        assert watch.wait(0.0, silent).venues == frozenset()
        watch.close()
    os.close(silent)


def test_a_pooler_is_seen_and_a_server_is_none(pooled: str, database_url: str) -> None:
    for dsn, expected in ((pooled, True), (database_url, False)):
        with contextlib.closing(connect(dsn)) as connection:
            assert is_pooled(connection) == expected


@pytest.mark.processes
def test_a_daemon_that_has_stopped_cleanly_owns_nothing_behind_a_pooler(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Some seconds: two daemons, one after the other, are the point."""
    with running(source()) as exchange, pgbouncer(database_url, "transaction", free_port()) as dsn:
        for name in ("first", "second"):
            log = tmp_path / name
            with daemon(dsn, (exchange.ws_url, exchange.rest_url), log):
                before = count(store)
                eventually(lambda n=before: count(store) > n + 100, "trades")  # type: ignore[misc]
                eventually(lambda: no_open_gap(store), "no open gap")
            assert "another daemon" not in log.read_text()
            assert "heartbeat_failed" not in log.read_text()
        assert_complete(store, exchange)


# -- whose options


@pytest.mark.parametrize("by", ["address", "environment"])
def test_the_users_own_options_are_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    wanted = "-c search_path=desk -c application_name=mine"
    with contextlib.closing(psycopg2.connect(database_url)) as connection:
        connection.cursor().execute("CREATE SCHEMA desk")
        connection.commit()
    url = database_url
    if by == "address":
        url += f"?options={quote(wanted)}"
    else:
        monkeypatch.setenv("PGOPTIONS", wanted)
    with stores(url) as (store,):
        store.write("binance", [trade(1)])
        assert rows(
            store,
            "SELECT DISTINCT schemaname, current_setting('application_name') FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        ) == [("desk", "mine")]


# -- leases


def test_a_lease_expires_and_a_dead_process_of_this_machine_holds_none(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Ownership(store.connect, "binance", owner="another-machine/1/1.00/x")
    mine = Ownership(store.connect, "binance")
    assert elsewhere.claim(["BTCUSDT"]) == []
    assert mine.claim(["BTCUSDT"]) == ["BTCUSDT"]
    for expired in ("- interval '1 s'", "+ interval '1 h'"):  # an hour: the clock was set back
        with store.transaction() as cursor:
            cursor.execute(f"UPDATE feed SET owned_until = clock_timestamp() {expired}")
        assert mine.claim(["BTCUSDT"]) == []
        with pytest.raises(OwnershipLostError):
            elsewhere.heartbeat(LIVE)
        mine.close()
        assert elsewhere.claim(["BTCUSDT"]) == []
    elsewhere.close()
    done = subprocess.run(
        [sys.executable, "-c", "from pairs.storage.ownership import identity; print(identity())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    dead = Ownership(store.connect, "binance", owner=done.stdout.strip())
    assert dead.claim(["BTCUSDT"]) == []
    assert mine.claim(["BTCUSDT"]) == []
    mine.close()


def test_who_is_alive_is_not_taken_for_dead() -> None:
    me = identity()
    place, pid, born, token = me.split("/")
    assert not is_dead(me)
    assert not is_dead(f"elsewhere/{pid}/{born}/{token}")
    assert not is_dead("made by hand")
    assert is_dead(f"{place}/{pid}/{float(born) - 100:.2f}/{token}")  # its number was given again


def test_one_who_has_lost_its_lease_without_knowing_writes_nothing(
    store: PostgresStore, database_url: str
) -> None:
    """The batch's own transaction looks: no moment is left between the look and the commit."""
    late = PostgresStore(lambda: psycopg2.connect(database_url))
    first, second = (Ownership(store.connect, "binance") for _ in range(2))
    late.owner, store.owner = first.owner, second.owner
    first.claim(["BTCUSDT"])
    late.write("binance", [trade(1)])
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET owned_until = now() - interval '1 s'")
    late.write("binance", [trade(2)])  # expired, and nobody else's: still its own
    assert second.claim(["BTCUSDT"]) == []
    with pytest.raises(OwnershipLostError, match="BTCUSDT"):
        late.write("binance", [trade(3)])
    store.write("binance", [trade(3, price=101.0)])
    assert rows(store, "SELECT trade_id, price FROM v_ticks ORDER BY 1")[-1] == (3, 101.0)
    second.close()
    late.close()


# -- failover


@pytest.fixture
def two(
    database_url: str, server: Database, request: pytest.FixtureRequest
) -> Iterator[tuple[Failover, str, str]]:
    """A proxy, the database it leads to at first, and a copy that it can lead to afterwards. The
    first takes no writes once `demote` has been called; the copy does."""
    opened(database_url).close()
    copy = f"{parse_dsn(database_url)['dbname']}_copy"
    with contextlib.closing(server.connect()) as admin:
        admin.autocommit = True
        cursor = admin.cursor()
        cursor.execute(f"CREATE DATABASE {copy} TEMPLATE {parse_dsn(database_url)['dbname']}")
        cursor.execute(f"ALTER DATABASE {copy} SET default_transaction_read_only = off")
        with Failover(database_url) as proxy:
            yield proxy, database_url, make_dsn(database_url, dbname=copy)
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
        cursor.execute("SELECT pg_reload_conf()")


def fail_over(proxy: Failover, server: Database, copy: str) -> None:
    """The old primary stays, read-only; new connections find the new one."""
    proxy.leads_to = parse_dsn(copy)["dbname"]
    with contextlib.closing(server.connect()) as admin:
        admin.autocommit = True
        admin.cursor().execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.cursor().execute("SELECT pg_reload_conf()")


def patiently(act: Any, tries: int = 20) -> Any:
    """As the daemon: again after an error of the database."""
    for _ in range(tries):
        try:
            return act()
        except (psycopg2.Error, OSError):
            continue
    raise AssertionError("the old server is still asked")


def test_after_a_failover_writers_readers_and_leases_go_to_the_new_server(
    two: tuple[Failover, str, str], server: Database
) -> None:
    proxy, _, copy = two
    with stores(proxy.dsn, proxy.dsn, copy) as (store, page, behind):
        mine = Ownership(store.connect, "binance")
        mine.claim(["BTCUSDT"])
        store.owner = mine.owner
        store.write("binance", [trade(1)])
        rows(store, "SELECT 1")
        assert read_feeds(page.engine, "binance")
        fail_over(proxy, server, copy)
        # Told between two statements, a connection has been left before the next transaction.
        eventually(
            lambda: (
                rows(store, "SHOW transaction_read_only") != [("off",)]
                or rows(store, "SELECT current_database()") == [(parse_dsn(copy)["dbname"],)]
            ),
            "told",
            15,
        )
        mine_again = patiently(lambda: mine.claim(["BTCUSDT"]))
        assert mine_again == []  # what was not copied is made anew
        assert patiently(lambda: store.write("binance", [trade(1), trade(2)])).stored == 2
        mine.heartbeat(LIVE)
        eventually(
            lambda: [f.state for f in read_feeds(page.engine, "binance")] == ["live"],
            "one who only reads sees the new one",
            15,
            every=0.0,
        )
        assert rows(behind, "SELECT count(*) FROM v_ticks") == [(2,)]
        mine.close()


def test_a_start_on_a_server_that_takes_no_writes_may_be_tried_again(
    database_url: str, server: Database
) -> None:
    name = parse_dsn(database_url)["dbname"]
    with contextlib.closing(server.connect()) as admin:
        admin.autocommit = True
        admin.cursor().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreAwayError, match="read-only"):
        opened(database_url)


def test_of_several_hosts_the_one_that_takes_writes(
    database_url: str, server: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = parse_dsn(database_url)["dbname"]
    with contextlib.closing(server.connect()) as admin:
        admin.autocommit = True
        cursor = admin.cursor()
        cursor.execute(f"CREATE DATABASE {name}_standby")
        cursor.execute(f"ALTER DATABASE {name}_standby SET default_transaction_read_only = on")
    with Failover(database_url) as standby:
        standby.leads_to = f"{name}_standby"
        both = {
            "host": "127.0.0.1,127.0.0.1",
            "sslmode": "disable",
            "gssencmode": "disable",
            "port": f"{parse_dsn(standby.dsn)['port']},{parse_dsn(database_url)['port']}",
        }
        dsn = make_dsn(database_url, **both)
        with contextlib.closing(connect(dsn)) as connection:
            assert connection.info.dbname == name
            cursor = connection.cursor()
            cursor.execute("SELECT current_database()")
            assert cursor.fetchone() == (name,)
        with contextlib.closing(connect(make_dsn(dsn, target_session_attrs="any"))) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT current_database()")
            assert cursor.fetchone() == (f"{name}_standby",)
