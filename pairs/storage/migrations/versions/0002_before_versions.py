"""What was added before versions were counted. A database may hold a part of it: each statement
leaves alone what is there."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0002"
down_revision = "0001"
views = "dcdabfe89f4d0ec3fe3ddd4468ce28e8c782ebb7ebe17bf84a9c4aea838ff0ed"


def upgrade() -> None:
    """Revisions, lost klines, watermarks, retention's limits, tried sets of rules."""
    run_beside(__file__)
