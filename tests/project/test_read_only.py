"""An installation that whoever runs it may not write: everything written is in DATA_DIR."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from pairs.dashboard import chart
from tests.support.machine import free_port

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(
    ".git*", ".venv*", "tests", "benchmarks", "artifacts", "data", "docs", "__pycache__", ".*cache"
)


def installed(folder: Path) -> Path:
    """A copy of what is installed, as `make install` leaves it."""
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    (folder / "static").mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-c", "from pairs.dashboard import chart; chart.provide_script()"],
        cwd=folder,
        check=True,
        timeout=60,
    )
    assert (folder / "static" / chart.SCRIPT).exists()
    return folder


@pytest.mark.processes
def test_the_page_starts_in_a_folder_that_nobody_may_write(
    tmp_path: Path, database_url: str
) -> None:
    """Root may write everywhere: there the refusal is simulated by a file system's own word."""
    folder = installed(tmp_path / "app")
    refuse = tmp_path / "refuse"
    refuse.mkdir()
    (refuse / "sitecustomize.py").write_text(
        "import sys\n"
        "def audit(event, arguments):\n"
        "    writes = event == 'open' and isinstance(arguments[1], str)"
        " and set(arguments[1]) & set('wax+')\n"
        "    writes = writes or event in ('os.mkdir', 'os.rename', 'os.remove')\n"
        f"    if writes and str(arguments[0]).startswith({str(folder)!r}):\n"
        "        if '__pycache__' not in str(arguments[0]):\n"
        "            print('WROTE', event, arguments[0], file=sys.stderr, flush=True)\n"
        "        raise OSError(30, 'Read-only file system', str(arguments[0]))\n"
        "sys.addaudithook(audit)\n"
    )
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    port = free_port()
    page = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "dashboard_streamlit.py",
            f"--server.port={port}",
            "--server.scriptHealthCheckEnabled=true",
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "PYTHONPATH": str(refuse),
            "HOME": str(tmp_path),
            "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        },
    )
    try:
        told = answer(page, f"http://127.0.0.1:{port}/_stcore/script-health-check")
        script = answer(page, f"http://127.0.0.1:{port}/app/static/{chart.SCRIPT}")
    finally:
        page.terminate()
        said, _ = page.communicate(timeout=30)
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            path.chmod(0o755)
    assert told == b"ok", said[-2000:]
    assert len(script) > 1_000_000
    assert re.findall("WROTE.*", said) == []


def answer(page: subprocess.Popen[str], url: str, seconds: float = 400) -> bytes:
    """What the page says, once it does."""
    deadline = time.monotonic() + seconds
    while True:
        assert page.poll() is None, "the page has ended"
        try:
            with urllib.request.urlopen(url, timeout=200) as got:
                return bytes(got.read())
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.3)


def test_a_script_that_is_missing_and_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chart, "ROOT", tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    chart.provide_script()
    script = tmp_path / "static" / chart.SCRIPT
    assert script.exists()
    monkeypatch.setattr("shutil.copyfile", refuse)
    chart.provide_script()  # there already: nothing is written
    script.write_text("of another version")
    with pytest.raises(OSError, match="run `make install` as the owner of the folder"):
        chart.provide_script()
