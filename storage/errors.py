"""What the store's calls raise while the database is away: one tuple for everybody who waits."""

from __future__ import annotations

import subprocess

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from storage.embedded import EmbeddedError

# The driver itself where a raw connection is used, SQLAlchemy around its own, and on the way to a
# new connection the embedded server: its files, its processes, its own refusal.
DATABASE_ERRORS = (
    psycopg2.Error,
    SQLAlchemyError,
    EmbeddedError,
    OSError,
    subprocess.SubprocessError,
)
