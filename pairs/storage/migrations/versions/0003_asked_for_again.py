"""Trades that were given up are asked for again."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0003"
down_revision = "0002"
views = "dcdabfe89f4d0ec3fe3ddd4468ce28e8c782ebb7ebe17bf84a9c4aea838ff0ed"


def upgrade() -> None:
    """When a gap is asked for again. What was given up before, too early perhaps, is as well."""
    run_beside(__file__)
