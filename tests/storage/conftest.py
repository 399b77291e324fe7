"""Servers of a test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairs.storage.embedded import EmbeddedServer
from tests.support.servers import POSTGRES_15, OwnServer, chaos


@pytest.fixture(params=["embedded", pytest.param("15", marks=chaos)])
def own_server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    """A server of its own, of the embedded version or of 15."""
    folder = Path(tempfile.mkdtemp(prefix="own-pg-"))
    folder.chmod(0o755)
    binaries = POSTGRES_15
    if request.param == "embedded":
        carrier = EmbeddedServer(folder)
        carrier.home.mkdir(parents=True, exist_ok=True)
        binaries = Path(carrier._bin("postgres")).parent
    elif not binaries.exists():
        pytest.skip("no PostgreSQL 15 on this machine")
    data = folder / "own"
    data.mkdir(mode=0o700)
    server = OwnServer(binaries, data)
    yield server
    server.stop()
    shutil.rmtree(folder)
