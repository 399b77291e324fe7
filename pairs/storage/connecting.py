"""A connection as this program needs it, whatever stands between it and the server.

What a session is set to is set by SQL after connecting: a pooler refuses startup options, and the
user's own (`?options=`, PGOPTIONS) would be lost. Behind a pooler a session belongs to nobody, and
what one transaction leaves behind the next one of somebody else finds: there every transaction is
set up for itself.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, make_dsn, parse_dsn
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from psycopg2.extensions import cursor as RawCursor  # noqa: N812

from pairs.storage.errors import UnfitDatabaseError

# What is asked here takes milliseconds: compiling it would take longer.
SETTINGS = {"timezone": "UTC", "jit": "off"}
OLDEST = 140_000
# A server that has vanished without a word is noticed within half a minute, also while it owes an
# answer to what was sent. The user's own values win.
DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_ENVIRONMENT = {
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


class Session(RawConnection):
    """A connection that knows whether a pooler stands before the server."""

    pooled = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.settings: dict[str, str] = {}  # of every transaction, where the session is not ours


class _Cursor(RawCursor):
    """A cursor that sets up each transaction it begins."""

    def _begin(self) -> None:
        connection: Any = self.connection
        idle = connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        if idle and not connection.autocommit and connection.settings:
            RawCursor(connection).execute(_statement("SET LOCAL", connection.settings))

    def execute(self, query: Any, vars: Any = None) -> None:
        self._begin()
        super().execute(query, vars)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        self._begin()
        super().copy_expert(sql, file, size)


def connect(dsn: str) -> Session:
    """A new connection to the database of `dsn`: UTC, UTF-8, without compiled plans. Of several
    hosts the one that takes writes."""
    given = parse_dsn(dsn)
    wanted = dict(DEFAULTS)
    if "," in given.get("host", given.get("hostaddr", os.environ.get("PGHOST", ""))):
        wanted["target_session_attrs"] = "read-write"
    for name in wanted.keys() & given.keys() | {
        name for name, variable in _ENVIRONMENT.items() if variable in os.environ
    }:
        wanted.pop(name, None)
    connection = psycopg2.connect(
        make_dsn(dsn, **wanted, client_encoding="UTF8"), connection_factory=Session
    )
    try:
        _refuse_unfit(connection)
        _look_for_pooler(connection)
        set_up(connection, **SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_unfit(connection: Session) -> None:
    """Refuse a server that lacks what the schema needs, and a database whose encoding lacks
    characters that trades' frames, files and alerts may hold. Both are told at every connection:
    nothing is asked for it."""
    encoding = connection.get_parameter_status("server_encoding")
    name = connection.info.dbname
    if connection.server_version < OLDEST:
        told = connection.get_parameter_status("server_version")
        raise UnfitDatabaseError(
            f"PostgreSQL {told} is too old: {OLDEST // 10_000} or newer is needed"
        )
    if encoding not in ("UTF8", None):
        raise UnfitDatabaseError(
            f"database {name} holds text as {encoding}, not as UTF8: make another one, "
            "createdb -E UTF8 -T template0"
        )


def _look_for_pooler(connection: Session) -> None:
    """A pooler tells its client a process of its own making, for the client to cancel by."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        connection.pooled = cursor.fetchone() != (connection.info.backend_pid,)
    connection.rollback()
    if connection.pooled:
        connection.cursor_factory = _Cursor


def set_up(connection: RawConnection, **settings: str) -> None:
    """Set a new connection's session; behind a pooler each of its transactions to come."""
    if isinstance(connection, Session) and connection.pooled:
        connection.settings.update(settings)
        return
    with connection.cursor() as cursor:
        cursor.execute(_statement("SET", settings))
    connection.commit()


def is_pooled(connection: RawConnection) -> bool:
    """Whether what a session remembers, its locks and whom it listens to, is to be relied on not
    at all."""
    return isinstance(connection, Session) and connection.pooled


def _statement(command: str, settings: dict[str, str]) -> str:
    return ";".join(f"{command} {name} = '{value}'" for name, value in settings.items())
