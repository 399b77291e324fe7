"""Ports and folders of this machine."""

from __future__ import annotations

import socket
from pathlib import Path


def server_home(data_dir: Path) -> Path:
    """Where the server of a data folder really lives: elsewhere where root runs the tests."""
    moved = data_dir / "location.txt"
    return Path(moved.read_text().strip()) if moved.exists() else data_dir / "postgres"


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
