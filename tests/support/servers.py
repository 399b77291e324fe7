"""PostgreSQL servers of the test, of the embedded version or of 15."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")

chaos = pytest.mark.chaos


class OwnServer:
    """A PostgreSQL for one test, to be restarted at will. Trust on loopback, its port kept."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.dsn = f"postgresql://desk@127.0.0.1:{self._port}/postgres"
        self._run("initdb", "-A", "trust", "-U", "desk")
        with (folder / "pg" / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"port = {self._port}\nlisten_addresses = '127.0.0.1'\n"
                "unix_socket_directories = ''\n"
            )
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / name), "-D", str(self._folder / "pg"), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            **self._as,  # type: ignore[call-overload]
        )

    def restart(self, mode: str) -> None:
        self._run("pg_ctl", "-w", "-m", mode, "-l", str(self._folder / "log"), "restart")

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")
