"""No password where others look: `ps`, logs, the page, stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
import pytest

from pairs.storage.database import write_service
from tests.support.machine import server_home
from tests.support.running import ROOT, System

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

pytestmark = pytest.mark.processes


def test_no_process_of_the_system_shows_the_password(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    system = System(data_dir, HISTORY_HOURS="0")
    try:
        system.wait_for(r"alerts \|.*watching channels=none")
        secret = (server_home(data_dir) / "password").read_text().strip()
        shown = []
        for process in psutil.process_iter():
            try:
                shown.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        assert any("watch_alerts.py" in line for line in shown)
        assert not any(secret in line for line in shown)
        assert system.interrupt() == 0
    finally:
        system.close()
    assert not any(secret in line for line in system.lines)


def test_a_service_file_serves_other_programs_and_is_private(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's a folder"
    done = subprocess.run(
        [sys.executable, "database_utils.py", "service"],
        cwd=ROOT,
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "DATABASE_URL": database_url, "DATA_DIR": str(folder)},
    )
    file = folder / "pg_service.conf"
    assert file.stat().st_mode & 0o777 == 0o600
    shell = f'{done.stdout}\nprintf \'%s %s\' "$PGSERVICEFILE" "$PGSERVICE"'
    told = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert told == f"{file} pairs"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    connection = psycopg2.connect("service=pairs")
    connection.close()
    password = database_url.split(":")[2].split("@")[0]
    assert password not in done.stdout + done.stderr


def test_a_password_of_any_characters_comes_through_the_service_file(tmp_path: Path) -> None:
    file = write_service("postgresql://me:a%40%3A%2F%23%25%20b%3D@host:1/db", tmp_path)
    assert "password=a@:/#% b=\n" in file.read_text()


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter22@127.0.0.1:9/db", "postgresql://me:hun@ter22@host/db"]
)
def test_the_page_shows_no_password(
    url: str, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    page.run()
    assert "cannot start" in page.error[0].value
    assert "hunter22" not in str(page.main)
    assert "ter22" not in page.error[0].value
