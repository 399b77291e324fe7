"""Opening the database: the embedded PostgreSQL or a server of one's own, waited for or not."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.extensions import parse_dsn

from pairs.messages import CANNOT, NOT_NOW, one_line
from pairs.retry import backoff
from pairs.settings import Settings
from pairs.storage.connecting import connect
from pairs.storage.embedded import EmbeddedServer
from pairs.storage.errors import DATABASE_ERRORS, is_away
from pairs.storage.postgres import PostgresStore
from pairs.storage.schema import SchemaBusyError, SchemaError, stored

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

FIRST_WAIT_S = 30.0
TELL_AGAIN_S = 60.0


class StoreError(RuntimeError):
    """The database cannot be used; the message is one line that says what to do."""

    exit_code = CANNOT


class StoreAwayError(StoreError):
    """The database cannot be reached now. It may be another time, with nobody changing anything."""

    exit_code = NOT_NOW


class StoreBusyError(StoreAwayError):
    """The schema has to change, and its tables are in use: for as long as a backup takes."""


class Database:
    """The database of these settings: an own PostgreSQL (`DATABASE_URL`) or the embedded one."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url
        self._server = None if settings.database_url else EmbeddedServer(settings.data_dir)
        if self._server is not None:
            self._server.start()

    @property
    def url(self) -> str:
        """The DSN in use, password included: for other programs, never for logs."""
        return self._url or (self._server.dsn if self._server else "")

    def connect(self) -> Connection:
        """A new connection. An embedded server that has died is started again, perhaps on
        another port, so its address is looked up at every attempt."""
        if self._server is None:
            return connect(self.url)
        try:
            return connect(self._server.dsn)
        except psycopg2.OperationalError:
            return connect(self._server.start())

    def leave(self) -> None:
        """Let go of the embedded server; it keeps running for others."""
        if self._server is not None:
            self._server.leave()

    def stop(self) -> None:
        """Stop the embedded server, unless other processes use it."""
        if self._server is not None:
            self._server.stop()

    def leave_as_found(self) -> None:
        """Stop the embedded server only where this process has started it."""
        if self._server is not None and self._server.started_here:
            self._server.stop()
        else:
            self.leave()


def open_database(settings: Settings) -> Database:
    """Find or start the database. Raises StoreError in one plain line."""
    try:
        return Database(settings)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            f"{one_line(error)}: set DATA_DIR to a folder that may be written, or DATABASE_URL to "
            "a PostgreSQL server of your own"
        ) from error
    except DATABASE_ERRORS as error:
        raise _store_error(error, one_line(error)) from error


def open_store(database: Database, *, as_it_is: bool = False) -> PostgresStore:
    """Open the store on this database, its schema made or brought to this program's version.

    Parameters
    ----------
    database : Database
        The database, as `open_database` gives it.
    as_it_is : bool, default False
        True: the schema is left as it is, and only held to be no later one than this program knows.

    Returns
    -------
    PostgresStore
        The store, to be closed by the caller with `close()`.

    Raises
    ------
    StoreError
        In one line that says what to do, where the database cannot be used: its schema is of a
        later program or of another application, or access is refused. StoreAwayError, a kind of it,
        where the database cannot be reached now; StoreBusyError, a kind of that, where the schema
        has to change and its tables are in use.

    See Also
    --------
    open_database : Finds or starts the database.
    open_patiently : Waits for a database that is away.

    Examples
    --------
    >>> from pairs.settings import load_settings
    >>> database = open_database(load_settings())  # doctest: +SKIP
    >>> store = open_store(database)  # doctest: +SKIP
    >>> store.close()  # doctest: +SKIP
    >>> database.leave_as_found()  # doctest: +SKIP
    """
    store = PostgresStore(database.connect)
    try:
        if as_it_is:
            with store.reading() as cursor:
                stored(cursor)
        else:
            store.init()
    except (SchemaError, SchemaBusyError) as error:
        store.close()
        busy = isinstance(error, SchemaBusyError)
        raise (StoreBusyError if busy else StoreError)(str(error)) from error
    except DATABASE_ERRORS as error:
        store.close()
        raise _store_error(
            error,
            f"cannot use the database: {one_line(error)}; check DATABASE_URL, or leave it empty "
            "for the embedded PostgreSQL",
        ) from error
    return store


def _store_error(error: BaseException, message: str) -> StoreError:
    return (StoreAwayError if is_away(error) else StoreError)(message)


def open_patiently(
    database: Database,
    tell: Callable[[str], None],
    pause: Callable[[float], object] = time.sleep,
    seconds: float = FIRST_WAIT_S,
) -> PostgresStore:
    """`open_store` at a program's start, where the server may be starting too: a database that is
    away is waited for, told once. StoreAwayError after `seconds`. `pause` may raise to end it.

    A schema that has to change while somebody reads its tables is waited for without end, told
    again every `TELL_AGAIN_S`: a backup may take hours, and nothing else can be done meanwhile.
    """
    waits = backoff(random.Random(), 0.5, 3.0)  # noqa: S311 - jitter, not cryptography
    deadline = time.monotonic() + seconds
    told = False
    told_busy = -TELL_AGAIN_S
    while True:
        try:
            return open_store(database)
        except StoreBusyError as error:
            if time.monotonic() - told_busy >= TELL_AGAIN_S:
                tell(f"{error}: waiting until they are not")
                told_busy = time.monotonic()
            pause(next(waits))
        except StoreAwayError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if not told:
                tell(f"{error}: waiting for it, {seconds:g} s at most")
                told = True
            pause(min(next(waits), left))


SERVICE = "pairs"
# What of a connection by a service says where the database is and who asks.
KEPT = (
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "options",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
)


def write_service(dsn: str, folder: Path) -> Path:
    """Write `pg_service.conf` for this database, readable by its owner alone; the file. Other
    programs find the database by it (PGSERVICEFILE), and nobody finds the password in `ps`."""
    parts = _resolved(dsn)
    for key, value in parts.items():
        if value != value.rstrip() or len(value.splitlines()) > 1:
            raise StoreError(f"a service file cannot hold the {key}: it ends in a space or a line")
    lines = [f"{key}={value}\n" for key, value in parts.items()]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pg_service.conf"
    partial = folder / f"pg_service.{os.getpid()}.partial"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.writelines([f"[{SERVICE}]\n", *lines])
    partial.replace(file)
    return file


def _resolved(dsn: str) -> dict[str, str]:
    """The parameters of a connection string. A service file may name no further service, so one
    that the string names is looked up, by connecting: only libpq knows all of its places."""
    parts: dict[str, str] = parse_dsn(dsn)
    if "service" not in parts:
        return parts
    with contextlib.closing(connect(dsn)) as connection:
        used = {**connection.info.dsn_parameters, "password": connection.info.password or ""}
    return {key: value for key, value in used.items() if value and key in KEPT}
