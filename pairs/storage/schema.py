"""The version of the schema: looked at by every start, and changed only where it is behind.

The versions are Alembic's (storage/migrations). A start asks which one is stored, in two statements
and without Alembic; where it is the newest no DDL is run: it would wait for every reader, and every
later reader for it. A change waits for nobody longer than half a second at a time: whoever reads
meanwhile stands behind it no longer than that.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy.exc import DBAPIError

from pairs.storage.gaps import one
from pairs.storage.partitions import SCHEMA_LOCK

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from sqlalchemy import Connection, Engine

log = logging.getLogger("store")

MIGRATIONS = Path(__file__).with_name("migrations")
VIEWS_FILE = Path(__file__).with_name("views.sql")
VIEWS = ("v_ticks", "v_bars", "v_gaps", "v_feed")
TABLES = ("instrument", "trade", "bar", "kline", "feed", "gap", "quarantine")
LOCK_MS = 500  # waited for each table's lock; whoever reads waits behind it that long
TURN_S = 5  # waited for another process that changes the schema

FIRST, SECOND = "0001", "0002"  # a store made before versions were noted is one of these
_ADDED = (
    "instrument.revision",
    "bar_change.revision",
    "trade.trades",
    "feed.kept_from",
    "feed.whole_from",
    "feed.watermark",
    "feed.clock_ahead_us",
    "gap.klines_asked",
    "quarantine.trade_id",
    "kline_wanted.until_ts",
    "alert_event.remark",
    "trial.sharpe",
    "missing.ids",
    "v_bars.complete",
)

_alone = threading.Lock()  # Alembic keeps what it is at work on in its modules


class SchemaError(RuntimeError):
    """The schema that is stored cannot be used; the message is one line that says what to do."""


class SchemaBusyError(RuntimeError):
    """The schema has to change, and somebody reads the tables or changes it just now."""


def versions() -> list[str]:
    """The versions that this program knows, oldest first."""
    return sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def stored(cursor: Cursor) -> str | None:
    """The version that is stored; None where there is no schema. SchemaError where this program
    cannot use it: it is of a later one, or not ours."""
    counted, found = _counted(cursor)
    if counted is None:
        return _uncounted(cursor) if found == len(TABLES) else None
    if not found:
        raise SchemaError(
            f"table alembic_version (of version {counted}) belongs to another application: give "
            "this program a database of its own, or a schema (?options=-csearch_path%3DNAME)"
        )
    if counted not in versions():
        raise SchemaError(
            f"the database's schema is of version {counted}, which a later program has made; this "
            f"one knows {versions()[-1]} at most: run the later program"
        )
    return counted


def is_complete(cursor: Cursor) -> bool:
    """Whether the schema is of the newest version, noted as such, and its views are there."""
    if stored(cursor) != versions()[-1] or _counted(cursor)[0] is None:
        return False
    cursor.execute(
        "SELECT bool_and(to_regclass(v) IS NOT NULL) FROM unnest(%s) AS v", (list(VIEWS),)
    )
    return bool(one(cursor)[0])


def _counted(cursor: Cursor) -> tuple[str | None, int]:
    """The version that is noted, and how many of our tables there are."""
    cursor.execute(
        "SELECT to_regclass('alembic_version') IS NOT NULL, count(to_regclass(name))"
        " FROM unnest(%s) AS name",
        (list(TABLES),),
    )
    noted, found = one(cursor)
    version = None
    if noted:
        cursor.execute("SELECT max(version_num) FROM alembic_version")
        (version,) = one(cursor)
    return version, int(found)


def bring_up(engine: Engine) -> None:
    """Bring the schema to the newest version, all in one transaction and one process at a time.
    SchemaBusyError where that would have to wait for somebody; it may be called again."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # of its plug-ins it says a dozen lines
    import alembic.command  # noqa: F401 - it takes its time: not while others wait for the lock

    try:
        with _alone, engine.connect() as connection, connection.begin():
            _bring_up(connection)
    except (DBAPIError, psycopg2.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg2.errors.LockNotAvailable | psycopg2.errors.DeadlockDetected):
            raise SchemaBusyError(_busy(engine)) from error
        raise


def _bring_up(connection: Connection) -> None:
    cursor: Any = connection.connection.cursor()
    cursor.execute(
        f"SET LOCAL lock_timeout = '{TURN_S}s'; SET LOCAL statement_timeout = 0;"
        f"SELECT pg_advisory_xact_lock(%s); SET LOCAL lock_timeout = '{LOCK_MS}ms'",
        (SCHEMA_LOCK,),
    )
    before, newest = stored(cursor), versions()[-1]
    if before is not None and _counted(cursor)[0] is None:
        _alembic(connection, "stamp", before)
    if before != newest:
        _alembic(connection, "upgrade", newest)
        log.info("schema_changed from=%s to=%s", before or "none", newest)
    if before != newest or not is_complete(cursor):  # unless another process was faster
        cursor.execute(VIEWS_FILE.read_text(encoding="utf-8"))


def _uncounted(cursor: Cursor) -> str:
    """Which version a schema is that was made before they were counted."""
    cursor.execute(
        "SELECT count(*) FROM unnest(%s) AS name, split_part(name, '.', 1) AS rel"
        " JOIN pg_attribute a ON a.attrelid = to_regclass(rel) WHERE a.attname ="
        " split_part(name, '.', 2) AND NOT attisdropped",
        (list(_ADDED),),
    )
    return SECOND if one(cursor)[0] == len(_ADDED) else FIRST


def _alembic(connection: Connection, command: str, version: str) -> None:
    import alembic.command
    from alembic.config import Config

    cursor: Any = connection.connection.cursor()
    cursor.execute(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass('instrument')"
    )
    row = cursor.fetchone()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_schema=row[0] if row else None)
    getattr(alembic.command, command)(config, version)


def _busy(engine: Engine) -> str:
    """Why the schema cannot change now: who has held a lock on one of its tables for longest."""
    with engine.connect() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute(
            "SELECT a.application_name, a.pid, extract(epoch FROM now() - a.xact_start)::int"
            " FROM pg_stat_activity a JOIN pg_locks l USING (pid) JOIN pg_class c"
            " ON c.oid = l.relation WHERE l.granted AND a.datname = current_database()"
            " AND a.pid <> pg_backend_pid() AND c.relkind IN ('r', 'p', 'v')"
            " AND c.relnamespace = (SELECT relnamespace FROM pg_class"
            "  WHERE oid = to_regclass('instrument')) ORDER BY a.xact_start LIMIT 1"
        )
        who = cursor.fetchone()
    by = f"{who[0] or 'a client'} (process {who[1]}, for {who[2]} s)" if who else "somebody"
    return (
        f"the schema has to change to version {versions()[-1]}, and its tables are in use by {by}"
    )
