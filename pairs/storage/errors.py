"""What the store's calls raise while the database is away: one tuple for everybody who waits, and
whether waiting can help."""

from __future__ import annotations

import subprocess

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from pairs.messages import NOT_NOW, exit_code
from pairs.storage.embedded import EmbeddedAwayError, EmbeddedError

# The driver itself where a raw connection is used, SQLAlchemy around its own, and on the way to a
# new connection the embedded server: its files, its processes, its own refusal.
DATABASE_ERRORS = (
    psycopg2.Error,
    SQLAlchemyError,
    EmbeddedError,
    OSError,
    subprocess.SubprocessError,
)


# What is wrong with the batch and not with the database: to be cut until its culprit is alone.
BATCH_REFUSED = (psycopg2.DataError, psycopg2.IntegrityError)
LOCK_HELD = psycopg2.errors.LockNotAvailable  # a transaction of somebody else's takes long


class UnfitDatabaseError(psycopg2.NotSupportedError):
    """The database can never hold what is stored in it; the message is one line that says what to
    do."""


# libpq gives no code where no session came about, only its and the server's words. In another
# language a refusal is waited for like an absence: not for ever, and told.
_REFUSALS = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "not permitted to log in",
    "permission denied",
    "does not support SSL",
    "certificate",
    "SSL error",
    "invalid",
    "definition of service",
    "service file",
    "could not match",
)


# A server that takes no writes (any more), ends its sessions or is not there: another one may have
# its place by now, and a new connection finds that one.
_GONE = ("08", "57P0", "25006")


def is_gone(error: BaseException | None) -> bool:
    """Whether every connection to this server had better be made anew."""
    return str(getattr(error, "pgcode", None) or "").startswith(_GONE)


def is_away(error: BaseException) -> bool:
    """Whether the database may be there another time, with nobody changing anything."""
    if isinstance(error, SQLAlchemyError):
        error = getattr(error, "orig", None) or error
    if isinstance(error, UnfitDatabaseError):
        return False
    if is_gone(error):
        return True
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return not any(words in str(error) for words in _REFUSALS)
    if isinstance(error, OSError):
        return exit_code(error) == NOT_NOW
    return isinstance(error, EmbeddedAwayError | subprocess.SubprocessError)
