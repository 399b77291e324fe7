"""Partitions of trades have a digest."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0007"
down_revision = "0006"
views = "b4438571a755ea6a4095819ef3cc3cbc069f6b0d81fe7ae1f856ef3c11367962"


def upgrade() -> None:
    """One table; partitions that are there already get their rows from the daemon."""
    run_beside(__file__)
