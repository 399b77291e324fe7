"""Digests of partitions that were stored before they had one, counted while writing goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg2

from pairs.storage.digests import SUMMED, WRITTEN
from pairs.storage.gaps import lock_feed

if TYPE_CHECKING:
    from pairs.storage.postgres import PostgresStore

# The newest partition of some symbols that has no digest, or none that is whole.
UNCOVERED = """
SELECT i.instrument_id, i.chunk, i.leaf FROM (
    SELECT f.instrument_id, c.relname AS leaf,
           split_part(c.relname, '_', 3)::bigint AS chunk
    FROM feed f JOIN instrument USING (instrument_id)
    JOIN pg_inherits h ON h.inhparent = to_regclass('trade_' || f.instrument_id)
    JOIN pg_class c ON c.oid = h.inhrelid
    WHERE venue = %s AND symbol = ANY(%s)
      AND c.relname ~ ('^trade_' || f.instrument_id || '_[0-9]+$')) AS i
LEFT JOIN partition_digest d USING (instrument_id, chunk)
WHERE d.whole IS NOT TRUE ORDER BY 2 DESC, 1 LIMIT 1
"""


def cover(store: PostgresStore, venue: str, symbols: Sequence[str]) -> bool:
    """Give one partition of these symbols a digest that has none, the newest first; whether there
    was one. Only for symbols that no program writes which knows of no digests.

    Writing goes on meanwhile. From the first step on its trades are added to the row, which is not
    yet `whole`. The second reads partition and row as they were at one moment: what differs is what
    was stored before, whatever comes or goes later. The third adds it, once.
    """
    with store.transaction() as cursor:
        cursor.execute(UNCOVERED, (venue, list(symbols)))
        found = cursor.fetchone()
        if found is None:
            return False
        number, chunk, leaf = found
        lock_feed(cursor, number)
        cursor.execute(
            "INSERT INTO partition_digest (instrument_id, chunk, whole) VALUES (%s, %s, false)"
            " ON CONFLICT DO NOTHING",
            (number, chunk),
        )
    before = _before(store, number, chunk, leaf)
    with store.transaction() as cursor:
        if before is None:  # retention has dropped it
            cursor.execute(
                "DELETE FROM partition_digest WHERE instrument_id = %s AND chunk = %s"
                " AND NOT whole",
                (number, chunk),
            )
        else:
            cursor.execute(
                "UPDATE partition_digest SET n = n + %s, digest = digest # %s, whole = true"
                " WHERE instrument_id = %s AND chunk = %s AND NOT whole",
                (*before, number, chunk),
            )
    return True


def _before(store: PostgresStore, number: int, chunk: int, leaf: str) -> tuple[int, int] | None:
    """What a partition holds and its row does not: count and hash. None where it is gone."""
    try:
        with store.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(
                f"SELECT t.n - d.n, t.digest # d.digest FROM ({SUMMED.format(rows=leaf)}) AS t"  # noqa: S608
                f" CROSS JOIN ({WRITTEN}) d WHERE instrument_id = %s AND chunk = %s",
                (number, chunk),
            )
            found: tuple[int, int] | None = cursor.fetchone()
            return found
    except psycopg2.errors.UndefinedTable:
        return None
