"""A record may be halted."""

from __future__ import annotations

from pairs.storage.migrations import run_beside

revision = "0006"
down_revision = "0005"
views = "b4438571a755ea6a4095819ef3cc3cbc069f6b0d81fe7ae1f856ef3c11367962"


def upgrade() -> None:
    """A feed may say why nothing more is taken of it."""
    run_beside(__file__)
