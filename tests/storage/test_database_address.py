"""Addresses of databases as libpq takes them, each tried on a real server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from database_utils import main
from pairs.messages import CANNOT
from pairs.settings import load_settings
from pairs.storage.database import open_database, open_store, write_service
from tests.support.machine import free_port

PASSWORD = "o'd\\d @:/?#[]%&= é✓ \"x,y"

RAW = PASSWORD.translate({ord(character): None for character in "@/%"})


@pytest.fixture
def odd(database_url: str) -> Iterator[dict[str, str]]:
    """Where a role whose password holds every awkward character may do what it likes."""
    parts = parse_dsn(database_url)
    with contextlib.closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("DROP ROLE IF EXISTS odd")
        cursor.execute("CREATE ROLE odd LOGIN PASSWORD %s", (PASSWORD,))
        cursor.execute(f"ALTER DATABASE {parts['dbname']} OWNER TO odd")
        cursor.execute("GRANT ALL ON SCHEMA public TO odd")
        yield {**parts, "user": "odd", "password": PASSWORD}
        cursor.execute("REASSIGN OWNED BY odd TO CURRENT_USER; DROP OWNED BY odd; DROP ROLE odd")


def forms(odd: dict[str, str], folder: Path) -> dict[str, str]:
    """The same database, said in several ways."""
    secret = quote(PASSWORD, safe="")
    raw = quote(PASSWORD, safe=RAW)
    where = f"{odd['host']}:{odd['port']}"
    (folder / "services.conf").write_text(
        "[desk]\n" + "".join(f"{key}={value}\n" for key, value in odd.items())
    )
    return {
        "an address": f"postgresql://odd:{secret}@{where}/{odd['dbname']}",
        "raw but for @ / %": f"postgresql://odd:{raw}@{where}/{odd['dbname']}",
        "a dead host first": (
            f"postgresql://odd:{secret}@127.0.0.1:{free_port()},{where}/{odd['dbname']}"
        ),
        "key=value": make_dsn(**odd),
        "in the query": (
            f"postgres:///{odd['dbname']}?host={odd['host']}&port={odd['port']}&user=odd"
            f"&password={secret}"
        ),
        "a service": "postgresql://?service=desk",
    }


def test_the_store_opens_by_every_form(
    odd: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
    for form, url in forms(odd, tmp_path).items():
        store = open_store(open_database(load_settings({"DATABASE_URL": url})))
        try:
            with store.transaction() as cursor:
                cursor.execute("SELECT current_user, current_database()")
                assert cursor.fetchone() == ("odd", odd["dbname"]), form
        finally:
            store.close()


def test_a_service_file_is_written_of_every_form(
    odd: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form, url in forms(odd, tmp_path).items():
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services.conf"))
        file = write_service(url, tmp_path / "made")
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        with contextlib.closing(psycopg2.connect("service=pairs")) as opened:
            assert opened.info.dbname == odd["dbname"], form


def test_no_part_of_the_password_is_shown(
    odd: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of a good address that leads nowhere, nor of one that libpq misreads."""
    secret = quote(PASSWORD, safe="")
    gone = free_port()
    for url in (
        f"postgresql://odd:{secret}@127.0.0.1:{gone}/db",
        f"postgresql://odd:{secret}wrong@{odd['host']}:{odd['port']}/{odd['dbname']}",
        f"postgresql://odd:{PASSWORD}@127.0.0.1:{gone}/db",
        f"host=127.0.0.1 port={gone} password={PASSWORD}",
    ):
        monkeypatch.setenv("DATABASE_URL", url)
        assert main(["health"]) == CANNOT
        shown = capsys.readouterr()
        assert len(shown.err.splitlines()) == 1
        for part in ("o'd", "d\\d", "é✓", "x,y", "wrong", quote("é✓")):
            assert part not in shown.err + shown.out, url
