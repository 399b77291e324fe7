"""Symbols and alerts are owned by lease."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0005"
down_revision = "0004"
views = "b4438571a755ea6a4095819ef3cc3cbc069f6b0d81fe7ae1f856ef3c11367962"


def upgrade() -> None:
    """Two columns for the owner of a symbol, one for that of the alerts."""
    run_beside(__file__)
