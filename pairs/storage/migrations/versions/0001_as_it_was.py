"""The schema before its versions were counted, views included."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make it on an empty database."""
    run_beside(__file__)
