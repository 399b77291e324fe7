"""Partitions, made as trades ask for them: trades by instrument and range of ids, bars by month."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pairs.storage.digests import begin_digest
from pairs.storage.gaps import TRADES_PER_PARTITION, one

__all__ = [
    "SCHEMA_LOCK",
    "TRADES_PER_PARTITION",
    "Partition",
    "bar_partitions",
    "create_partition",
    "trade_partitions",
]

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMA_LOCK = 0x70616972  # any constant: serialises schema changes between processes


class Partition(NamedTuple):
    """A table to be made. Every part is made of numbers, none of it comes from outside."""

    name: str
    parent: str
    bounds: str
    instrument: int | None


def trade_partitions(instrument: int, chunks: Iterable[int]) -> list[Partition]:
    """The partitions of the chunks (id // TRADES_PER_PARTITION) of one instrument."""
    made = []
    for k in chunks:
        low, high = k * TRADES_PER_PARTITION, min((k + 1) * TRADES_PER_PARTITION, 2**63 - 1)
        bounds = f"FROM ({low}) TO ({high})"
        made.append(Partition(f"trade_{instrument}_{k}", f"trade_{instrument}", bounds, instrument))
    return made


def bar_partitions(months: Iterable[tuple[int, int]]) -> list[Partition]:
    """The partitions of the bars of some (year, month)."""
    made = []
    for year, month in months:
        after = (year + month // 12, month % 12 + 1)
        bounds = f"FROM ('{year}-{month:02}-01 UTC') TO ('{after[0]}-{after[1]:02}-01 UTC')"
        made.append(Partition(f"bar_{year}_{month:02}", "bar", bounds, None))
    return made


def create_partition(cursor: Cursor, wanted: Partition) -> None:
    """Make the partition unless it is there. ATTACH rather than CREATE … PARTITION OF: it does
    not lock readers out."""
    name, parent, bounds, instrument = wanted
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
    if instrument is not None and not _exists(cursor, parent):
        cursor.execute(
            f"CREATE TABLE {parent} (LIKE trade INCLUDING ALL) PARTITION BY RANGE (trade_id);"
            f"ALTER TABLE trade ATTACH PARTITION {parent} FOR VALUES IN ({instrument})"
        )
    if _exists(cursor, name):
        return
    # Bars of the current second are rewritten ten times a second: leave room for HOT updates.
    storage = " WITH (fillfactor = 70)" if instrument is None else ""
    cursor.execute(f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL){storage}")
    if instrument is not None:
        cursor.execute(
            f"CREATE INDEX {name}_ts ON {name} USING brin (ts)"
            " WITH (pages_per_range = 32, autosummarize = on)"
        )
    cursor.execute(f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}")
    if instrument is not None:
        begin_digest(cursor, instrument, int(name.rpartition("_")[2]))


def _exists(cursor: Cursor, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
    return bool(one(cursor)[0])
