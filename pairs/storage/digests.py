"""A digest per partition of trades: a stored trade that is changed past the program shows.

The digest is the exclusive or of a hash of each row. It does not depend on their order, and what
goes is taken out as it was put in: whoever adds or drops trades does so in the same transaction,
with the feed's row locked. Every column is hashed, the id among them, so that no two rows cancel
each other. PostgreSQL's hashes are the same from version to version, since partitions by hash rest
on them, not from one byte order to the other. They tell accidents, not an enemy who can count.

Usual batches go into the newest partition. What that has got since it became the newest stands in
the feed's row (`tail_…`), which every batch writes anyway: one row more for each symbol cost a
quarter of a batch. Its digest is both together. With the first trade of a later partition it moves
over.

A partition that was there before it had a digest gets one from the daemon that ingests its symbol
(`storage/covering.py`): not in the step of the schema's versions, which nobody is to wait for, and
not in `audit`, which writes nothing. What is stored then counts as what was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from psycopg2.extras import execute_values

from pairs.storage.gaps import TRADES_PER_PARTITION, one

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# Of one trade. Hash on hash costs half of what one of the whole record does.
HASH = """
    hashfloat8extended(price, hashfloat8extended(size, interval_hash_extended(ts - 'epoch',
        interval_hash_extended(received - 'epoch', hashint8extended(trade_id,
            2::bigint * trades + buyer_is_maker::int)))))
"""
# Of some trades of one partition.
SUMMED = f"SELECT count(*) AS n, coalesce(bit_xor({HASH}), 0) AS digest FROM {{rows}}"  # noqa: S608 - our own

# What partitions got, all together: with what the feed's row holds of its newest one.
WRITTEN = """
SELECT d.instrument_id, d.chunk, d.whole, d.n + coalesce(f.tail_n, 0) AS n,
       d.digest # coalesce(f.tail_digest, 0) AS digest
FROM partition_digest d
LEFT JOIN feed f ON f.instrument_id = d.instrument_id AND f.tail_chunk = d.chunk
"""

# Partitions whose trades are not those of their digest, and such as have none.
CHANGED = f"""
SELECT count(*) FILTER (WHERE d.whole
                        AND (d.n, d.digest) <> (coalesce(t.n, 0), coalesce(t.digest, 0))),
       count(*) FILTER (WHERE d.whole IS NOT TRUE AND t.n > 0)
FROM (SELECT trade_id / {TRADES_PER_PARTITION} AS chunk, count(*) AS n, bit_xor({HASH}) AS digest
      FROM trade WHERE instrument_id = %(number)s GROUP BY 1) AS t
FULL JOIN ({WRITTEN} WHERE d.instrument_id = %(number)s) AS d USING (chunk)
"""  # noqa: S608

# Of a partition that was dropped past the program the feed's row may still hold something.
BEGIN = """
INSERT INTO partition_digest (instrument_id, chunk, whole, n, digest)
SELECT %(number)s, %(chunk)s, true, -coalesce(max(tail_n), 0), coalesce(max(tail_digest), 0)
FROM feed WHERE instrument_id = %(number)s AND tail_chunk = %(chunk)s
ON CONFLICT (instrument_id, chunk) DO UPDATE
SET n = excluded.n, digest = excluded.digest, whole = true
"""

ADD = """
UPDATE partition_digest d SET n = d.n + v.n, digest = d.digest # v.digest
FROM (VALUES %s) AS v (instrument_id, chunk, n, digest)
WHERE d.instrument_id = v.instrument_id AND d.chunk = v.chunk
"""


class Digest(NamedTuple):
    """Of some trades of one partition: how many, and the exclusive or of their hashes."""

    chunk: int | None  # trade_id // TRADES_PER_PARTITION; None: no trades yet
    n: int
    digest: int


def joined(tail: Digest, new: Iterable[Digest]) -> tuple[Digest, list[Digest]]:
    """What a feed's row holds after a batch, and what goes into the rows of other partitions."""
    rest = []
    for added in sorted(new):
        if tail.chunk == added.chunk:
            tail = Digest(tail.chunk, tail.n + added.n, tail.digest ^ added.digest)
        elif tail.chunk is None:
            tail = added
        else:
            lower, tail = sorted((tail, added))
            rest.append(lower)
    return tail, rest


def add_to_digests(cursor: Cursor, added: Sequence[tuple[int, Digest]]) -> None:
    """Add to the rows of partitions, by instrument; those that have none are counted later."""
    if added:
        execute_values(cursor, ADD, [(number, *digest) for number, digest in added])


def changed_partitions(cursor: Cursor, number: int) -> tuple[int, int]:
    """Partitions of an instrument that are not what their digest says, and those without one."""
    cursor.execute("SELECT to_regclass('partition_digest') IS NOT NULL")
    if not one(cursor)[0]:
        return 0, 0  # an earlier version of the schema
    cursor.execute(CHANGED, {"number": number})
    changed, without = one(cursor)
    return changed, without


def begin_digest(cursor: Cursor, instrument: int, chunk: int) -> None:
    """Note a partition that has just been made, and is empty: whatever was noted of one before."""
    cursor.execute(BEGIN, {"number": instrument, "chunk": chunk})


def drop_digests(cursor: Cursor, instrument: int, chunks: Sequence[int]) -> None:
    """Forget partitions that are dropped."""
    cursor.execute(
        "DELETE FROM partition_digest WHERE instrument_id = %s AND chunk = ANY(%s)",
        (instrument, list(chunks)),
    )


def take_from_digest(cursor: Cursor, instrument: int, leaf: str, chunk: int, until: int) -> None:
    """Take the trades of a partition below an id out of its digest, before they are deleted."""
    gone = SUMMED.format(rows=f"{leaf} WHERE trade_id < %s")
    cursor.execute(
        "UPDATE partition_digest d SET n = d.n - t.n, digest = d.digest # t.digest"  # noqa: S608
        f" FROM ({gone}) AS t WHERE d.instrument_id = %s AND d.chunk = %s",
        (until, instrument, chunk),
    )
