"""The versions of the schema, each a step from the one before; Alembic runs them.

`versions/NNNN_what.py` names its predecessor, the SQL stands beside it under the same name. The
views are not in there: `storage/views.sql` holds them as they are now, and is run after every step.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_beside(version: str) -> None:
    """Run the SQL that stands beside a version's file, as it is written."""
    sql = Path(version).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})
