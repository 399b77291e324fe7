"""Ids that are no trades are known like those of trades."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0004"
down_revision = "0003"
views = "b4438571a755ea6a4095819ef3cc3cbc069f6b0d81fe7ae1f856ef3c11367962"


def upgrade() -> None:
    """A table for them; v_gaps and v_bars.complete see it."""
    run_beside(__file__)
