"""Databases that can never hold what is stored are refused in one line, at the start."""

from __future__ import annotations

import contextlib

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from database_utils import main
from pairs.market import Rejected
from pairs.messages import CANNOT
from pairs.settings import load_settings
from pairs.storage.database import Database, StoreAwayError, StoreError, open_database, open_store
from pairs.storage.postgres import PostgresStore
from tests.support.pooler import Failover
from tests.support.rows import rows


def refusal(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `init` says, in one line."""
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["init"]) == CANNOT
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    return shown.err


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_database_that_cannot_hold_every_character(
    encoding: str,
    database_url: str,
    server: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"{parse_dsn(database_url)['dbname']}_{encoding.lower()}"
    with contextlib.closing(server.connect()) as admin:
        admin.autocommit = True
        admin.cursor().execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
    said = refusal(make_dsn(database_url, dbname=name), monkeypatch, capsys)
    assert f"database {name} holds text as {encoding}, not as UTF8" in said


def test_a_server_that_is_too_old(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Failover(database_url) as proxy:
        proxy.major = b"13"
        assert "is too old: 14 or newer is needed" in refusal(proxy.dsn, monkeypatch, capsys)
        with pytest.raises(StoreError) as caught:  # and nobody waits for it
            open_store(open_database(load_settings({"DATABASE_URL": proxy.dsn})))
        assert not isinstance(caught.value, StoreAwayError)
        proxy.major = b"14"
        open_store(open_database(load_settings({"DATABASE_URL": proxy.dsn}))).close()


@pytest.mark.parametrize("by", ["environment", "address"])
def test_the_clients_encoding_is_ours_whatever_is_asked_for(
    by: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1" if by == "environment" else "")
    url = database_url + ("?client_encoding=LATIN1" if by == "address" else "")
    store: PostgresStore = open_store(open_database(load_settings({"DATABASE_URL": url})))
    try:
        store.quarantine("binance", [Rejected("é✓ 何", "{}", None)])
        assert rows(store, "SELECT reason FROM quarantine") == [("é✓ 何",)]
    finally:
        store.close()
