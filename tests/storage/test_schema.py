"""Versions of the schema: a database of the first, with data, is brought up and loses nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from pairs.market import Trade
from pairs.settings import load_settings
from pairs.storage import schema
from pairs.storage.audit import audit
from pairs.storage.database import StoreError, open_database, open_patiently, open_store
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.schema import MIGRATIONS, SchemaBusyError, SchemaError, versions
from tests.support.daemon import ROOT

FIRST_SQL = (MIGRATIONS / "versions" / "0001_as_it_was.sql").read_text()
T0 = 1_723_161_600_000_000  # 2024-08-09 00:00:00 UTC

# What the first version's daemon had stored: ten trades, of which retention dropped the first
# three, a hole that is open and one that is filled, a symbol never pruned, an alert, a file.
OLD_DATA = """
INSERT INTO instrument (venue, symbol) VALUES ('binance', 'BTCUSDT'), ('binance', 'ETHUSDT'),
    ('upload', 'FILE');
CREATE TABLE trade_1 (LIKE trade INCLUDING ALL) PARTITION BY RANGE (trade_id);
ALTER TABLE trade ATTACH PARTITION trade_1 FOR VALUES IN (1);
CREATE TABLE trade_1_0 (LIKE trade_1 INCLUDING ALL);
CREATE INDEX trade_1_0_ts ON trade_1_0 USING brin (ts);
ALTER TABLE trade_1 ATTACH PARTITION trade_1_0 FOR VALUES FROM (0) TO (1000000);
CREATE TABLE bar_2024_08 (LIKE bar INCLUDING ALL) WITH (fillfactor = 70);
ALTER TABLE bar ATTACH PARTITION bar_2024_08
    FOR VALUES FROM ('2024-08-01 UTC') TO ('2024-09-01 UTC');
CREATE TABLE trade_2 (LIKE trade INCLUDING ALL) PARTITION BY RANGE (trade_id);
ALTER TABLE trade ATTACH PARTITION trade_2 FOR VALUES IN (2);
CREATE TABLE trade_2_0 (LIKE trade_2 INCLUDING ALL);
ALTER TABLE trade_2 ATTACH PARTITION trade_2_0 FOR VALUES FROM (0) TO (1000000);
INSERT INTO trade VALUES (2, 5, '2024-08-09 UTC', 10, 1, false, '2024-08-09 UTC');
INSERT INTO bar SELECT 2, s, '2024-08-09 UTC', 10, 10, 10, 10, 1, 10, 1, 1, 5, 5
    FROM unnest(ARRAY[1, 60]) AS s;
INSERT INTO trade SELECT 1, i, '2024-08-09 UTC'::timestamptz + i * interval '1 second', 100 + i,
    0.5, i % 2 = 0, '2024-08-09 UTC'::timestamptz + i * interval '1.1 seconds'
    FROM generate_series(13, 19) AS i;
INSERT INTO bar SELECT 1, 1, '2024-08-09 UTC'::timestamptz + i * interval '1 second', 100 + i,
    100 + i, 100 + i, 100 + i, 0.5, (100 + i) * 0.5, CASE WHEN i % 2 = 1 THEN 0.5 ELSE 0 END, 1,
    i, i FROM generate_series(10, 19) AS i;
INSERT INTO bar VALUES (1, 60, '2024-08-09 UTC', 110, 119, 110, 119, 5, 572.5, 2.5, 10, 10, 19);
INSERT INTO feed (instrument_id, first_id, high_id, last_trade, last_received, state, stored)
    VALUES (1, 13, 22, '2024-08-09 00:00:19 UTC', '2024-08-09 00:00:20.9 UTC', 'stopped', 10),
           (2, 5, 5, '2024-08-09 UTC', '2024-08-09 UTC', 'stopped', 1);
INSERT INTO gap (instrument_id, first_id, last_id, state, closed)
    VALUES (1, 20, 22, 'open', NULL), (1, 14, 15, 'filled', now());
INSERT INTO kline VALUES (3, 60, '2024-08-09 UTC', 1, 2, 0.5, 1.5, 10);
INSERT INTO alert_rule (rule) VALUES ('{}');
INSERT INTO alert_event (rule_id, revision, ts, edge, known_at, rule, value, figures, title, body)
    VALUES (1, 1, '2024-08-09 UTC', 'up', '2024-08-09 UTC', '{}', 2, '{}', 'above', 'z above 2');
"""
KEPT = {
    "v_ticks": "SELECT * FROM v_ticks ORDER BY trade_id",
    "v_bars": "SELECT venue, symbol, bar_s, ts, open, high, low, close, volume, quote_volume,"
    " taker_buy_volume, trades, source FROM v_bars ORDER BY 1, 2, 3, 4",
    "v_gaps": "SELECT * FROM v_gaps ORDER BY first_id",
    "v_feed": "SELECT * FROM v_feed ORDER BY symbol",
    "alerts": "SELECT title, body, value FROM alert_event",
}


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def execute(url: str, statements: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute(statements)
        connection.commit()


@pytest.fixture
def old(database_url: str) -> str:
    """A database of the first version, as its program left it."""
    execute(database_url, FIRST_SQL)
    execute(database_url, OLD_DATA)
    return database_url


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[[], PostgresStore]]:
    """Stores on the database, as several processes have them, none of them made ready."""
    made: list[PostgresStore] = []

    def one() -> PostgresStore:
        made.append(PostgresStore(lambda: psycopg2.connect(database_url)))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_the_first_version_with_data_is_brought_up_twice_and_loses_nothing(
    old: str, opened: Callable[[], PostgresStore]
) -> None:
    before = {name: rows(old, query) for name, query in KEPT.items()}
    assert all(before.values())
    for _ in range(2):
        opened().init()
        assert {name: rows(old, query) for name, query in KEPT.items()} == before
        assert rows(old, "SELECT version_num FROM alembic_version") == [(versions()[-1],)]
    limits = rows(old, "SELECT kept_from, whole_from FROM feed ORDER BY instrument_id")
    assert limits == [(13, 0), (None, 0)]
    store = opened()
    assert store.write("binance", [trade(11), trade(20)]).expired == 1
    assert store.write("binance", [trade(21), trade(22)]).stored == 2
    assert store.write("binance", [trade(4)._replace(symbol="ETHUSDT")]).stored == 1
    counted = "SELECT sum(trades) FROM v_bars WHERE bar_s = 60 AND symbol = 'BTCUSDT'"
    assert rows(old, counted) == [(10 + 3,)]
    assert rows(old, "SELECT bool_and(complete) FROM v_bars") == [(True,)]
    assert rows(old, "SELECT last_trade_id FROM v_feed WHERE symbol = 'BTCUSDT'") == [(22,)]
    assert audit(store)["ok"]


def trade(trade_id: int) -> Trade:
    ts_us = T0 + trade_id * 1_000_000
    return Trade("BTCUSDT", trade_id, ts_us, 100.0, 0.5, False, ts_us)


@pytest.mark.parametrize("made", [FIRST_SQL + OLD_DATA, ""], ids=["first version", "empty"])
def test_two_processes_bring_it_up_at_once(
    database_url: str, made: str, opened: Callable[[], PostgresStore]
) -> None:
    execute(database_url, made or "SELECT 1")
    environment = {**os.environ, "DATABASE_URL": database_url}
    both = [
        subprocess.Popen(
            [sys.executable, "database_utils.py", "init"],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.endswith("schema is complete\n")
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [(versions()[-1],)]
    assert audit(opened())["ok"]


def test_a_database_of_the_second_version_that_does_not_say_so_is_stamped(
    old: str, opened: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program without versions left it: nothing is made again, nobody waited for."""
    monkeypatch.setattr(schema, "versions", lambda: ["0001", "0002"])
    execute(
        old,
        "CREATE TABLE void_ids (instrument_id int, chunk bigint, ids int8multirange,"
        " detected timestamptz, changed timestamptz)",
    )  # the views are those of now
    opened().init()
    execute(old, "DROP TABLE alembic_version")
    with holding(old):
        opened().init()
    assert rows(old, "SELECT version_num FROM alembic_version") == [("0002",)]


def test_a_part_of_the_second_version_is_completed(
    old: str, opened: Callable[[], PostgresStore]
) -> None:
    execute(old, "ALTER TABLE feed ADD kept_from bigint, ADD whole_from bigint DEFAULT 0")
    opened().init()
    # whole_from stays as it was; the last second and its minute lie beside the open hole
    assert rows(old, "SELECT count(*) FROM v_bars WHERE NOT complete") == [(2,)]


@contextlib.contextmanager
def holding(url: str) -> Iterator[None]:
    """Every table is read in a transaction that stays open, as pg_dump does."""
    backup = contextlib.closing(psycopg2.connect(url, application_name="pg_dump"))
    with backup as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('LOCK TABLE %s IN ACCESS SHARE MODE', string_agg(oid::regclass::text,"
            " ', ')) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace ="
            " 'public'::regnamespace"
        )
        cursor.execute((cursor.fetchone() or ("",))[0])
        yield


def test_beside_a_backup_health_and_audit_answer_and_a_start_waits_and_says_so(old: str) -> None:
    """The schema is behind, so a change is due; it waits for the backup, and others for neither."""
    database = open_database(load_settings({"DATABASE_URL": old}))
    told: list[str] = []
    paused: list[float] = []
    with contextlib.ExitStack() as backup:
        backup.enter_context(holding(old))

        def pause(seconds: float) -> None:
            paused.append(seconds)
            reader = open_store(database, as_it_is=True)
            report = health(reader)
            assert not report["healthy"]
            assert "version 0001" in report["problems"][0]
            assert report["feeds"]["binance"]["BTCUSDT"]["state"] == "stopped"
            assert audit(reader)["venues"]["binance"]["BTCUSDT"]["missing_unnamed"] == 0
            reader.close()
            assert rows(old, "SELECT to_regclass('alembic_version')") == [(None,)]
            if len(paused) == 2:
                backup.close()

        open_patiently(database, told.append, pause, seconds=0).close()
    assert len(paused) == 2
    assert len(told) == 1
    assert "in use by pg_dump (process " in told[0]
    assert rows(old, "SELECT version_num FROM alembic_version") == [(versions()[-1],)]


def test_a_reader_waits_for_a_change_half_a_second_at_most(
    old: str, opened: Callable[[], PostgresStore]
) -> None:
    """The change waits for a backup and a reader stands behind it: the change gives way."""
    failed: list[BaseException] = []

    def bring_up() -> None:
        try:
            opened().init()
        except SchemaBusyError as error:
            failed.append(error)

    with holding(old), contextlib.closing(psycopg2.connect(old)) as connection:
        changing = threading.Thread(target=bring_up)
        changing.start()
        cursor = connection.cursor()
        cursor.execute("SET lock_timeout = '10s'; SELECT count(*) FROM v_bars")
        while changing.is_alive():
            cursor.execute("SELECT count(*) FROM v_bars, v_feed, v_gaps")
            connection.rollback()
        changing.join()
    assert len(failed) == 1


def test_a_start_with_the_newest_version_writes_nothing(
    store: PostgresStore, opened: Callable[[], PostgresStore], database_url: str
) -> None:
    execute(
        database_url,
        f"ALTER DATABASE {database_url.rpartition('/')[2]} SET default_transaction_read_only = on",
    )
    opened().init()
    assert "no daemon" in health(opened())["problems"][0]
    assert audit(opened())["ok"]


@pytest.mark.parametrize("command", ["init", "health", "audit", "prune"])
def test_a_later_version_is_refused_in_one_line(
    store: PostgresStore, database_url: str, command: str
) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    database = open_database(load_settings({"DATABASE_URL": database_url}))
    with pytest.raises(StoreError, match="is of version 9999, which a later program has made"):
        open_store(database, as_it_is=command in ("health", "audit"))
    done = subprocess.run(
        [sys.executable, "database_utils.py", command],
        cwd=ROOT,
        text=True,
        timeout=60,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_the_versions_of_another_application_are_not_ours(
    database_url: str, opened: Callable[[], PostgresStore]
) -> None:
    execute(
        database_url,
        "CREATE TABLE alembic_version (version_num text);"
        "INSERT INTO alembic_version VALUES ('0002')",
    )
    with pytest.raises(SchemaError, match="another application"):
        opened().init()


def test_without_a_schema_health_says_so_and_audit_refuses(
    database_url: str, opened: Callable[[], PostgresStore]
) -> None:
    assert "holds no schema" in health(opened())["problems"][0]
    with pytest.raises(SchemaError, match="holds no schema"):
        audit(opened())
    assert rows(database_url, "SELECT to_regclass('instrument')") == [(None,)]


def test_a_view_that_is_gone_is_made_again(store: PostgresStore, database_url: str) -> None:
    execute(database_url, "DROP VIEW v_gaps")
    store.init()
    assert rows(database_url, "SELECT * FROM v_gaps") == []


def test_a_schema_of_its_own_is_found_by_the_search_path(database_url: str) -> None:
    """Quoted, and not the first on the path when it is opened again."""
    execute(database_url, 'CREATE SCHEMA "The Desk"; CREATE SCHEMA later')

    def path(names: str) -> Callable[[], Any]:
        return lambda: psycopg2.connect(database_url, options=f"-c search_path={names}")

    for names in (r'"The\ Desk"', r'later,"The\ Desk"'):
        store = PostgresStore(path(names))
        store.init()
        store.close()
    found = (
        "SELECT count(*), count(DISTINCT relnamespace) FROM pg_class"
        " WHERE relname IN ('feed', 'alembic_version')"
    )
    assert rows(database_url, found) == [(2, 1)]
