"""Reading with an end: a database that hangs, or a lock that is held, is told within seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

from pairs.storage.connecting import set_up

if TYPE_CHECKING:
    from psycopg2.extensions import connection as RawConnection  # noqa: N812

Source = Engine | Connection
LOCK_S = 2  # a reader waits so long for a lock; a schema change or a repair by hand may hold one
STATEMENT_S = 5  # what a page or the watcher asks at every refresh
BULK_S = 600  # a whole history for a file or a backtest


def bounded(connect: Callable[[], RawConnection]) -> Callable[[], RawConnection]:
    """Connections whose statements end in time."""

    def made() -> RawConnection:
        connection = connect()
        set_up(connection, statement_timeout=f"{STATEMENT_S}s", lock_timeout=f"{LOCK_S}s")
        return connection

    return made


@contextmanager
def connected(source: Source) -> Iterator[Connection]:
    """A connection of the engine for the time being, or the one that is given."""
    if isinstance(source, Connection):
        yield source
        return
    with source.connect() as connection:
        yield connection


@contextmanager
def moment(source: Source) -> Iterator[Connection]:
    """A connection on which everything is read as of one and the same moment."""
    with connected(source) as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection
