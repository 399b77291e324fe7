"""What Alembic runs: the versions, within the transaction that storage/schema.py has begun."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=context.config.attributes["version_schema"],
)
with context.begin_transaction():
    context.run_migrations()
