"""Ids that the exchange has told and that are no trades, inside the caller's transaction.

Up to four of ten aggregates of a USD-M market have a size of zero. A row for each would outgrow the
trades; here a row holds those of a thousand ids as ranges. They are known ids like those of
trades: no hole is seen where they are, and a gap that they complete is filled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

IDS_PER_ROW = 1000

ADD = """
INSERT INTO void_ids AS k (instrument_id, chunk, ids, n)
SELECT %s, %s, new.ids, (SELECT sum(upper(run) - lower(run)) FROM unnest(new.ids) AS run)
FROM (SELECT %s::int8multirange AS ids) AS new
ON CONFLICT (instrument_id, chunk) DO UPDATE SET ids = k.ids + excluded.ids, changed = now(),
    n = (SELECT sum(upper(run) - lower(run)) FROM unnest(k.ids + excluded.ids) AS run)
WHERE NOT k.ids @> excluded.ids
"""
TAKE = """
UPDATE void_ids SET ids = ids - %(ids)s::int8multirange, changed = now(),
    n = coalesce((SELECT sum(upper(run) - lower(run))
                  FROM unnest(ids - %(ids)s::int8multirange) AS run), 0)
WHERE instrument_id = %(number)s AND chunk BETWEEN %(low)s AND %(high)s
  AND ids && %(ids)s::int8multirange
"""


def runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Ids as ranges, both ends included, ascending."""
    found: list[tuple[int, int]] = []
    for i in sorted(ids):
        if found and i <= found[-1][1] + 1:
            found[-1] = (found[-1][0], i)
        else:
            found.append((i, i))
    return found


def add_void(cursor: Cursor, number: int, ids: Iterable[int]) -> None:
    """Note ids that are no trades, none of them stored as one."""
    chunks: dict[int, list[int]] = defaultdict(list)
    for i in ids:
        chunks[i // IDS_PER_ROW].append(i)
    for chunk in sorted(chunks):
        cursor.execute(ADD, (number, chunk, _multirange(chunks[chunk])))


def take_void(cursor: Cursor, number: int, ids: set[int]) -> None:
    """Trades have come with these ids after all."""
    if ids:
        low, high = min(ids) // IDS_PER_ROW, max(ids) // IDS_PER_ROW
        asked = {"number": number, "ids": _multirange(ids), "low": low, "high": high}
        cursor.execute(TAKE, asked)


def cut_void(cursor: Cursor, number: int, first: int) -> None:
    """Forget those below `first`: the record begins there from now on."""
    cursor.execute(
        "DELETE FROM void_ids WHERE instrument_id = %s AND chunk < %s",
        (number, first // IDS_PER_ROW),
    )
    bottom = first // IDS_PER_ROW * IDS_PER_ROW
    take_void(cursor, number, set(range(bottom, first)))


def void_in(cursor: Cursor, number: int, first: int, last: int) -> int:
    """How many ids of first … last are known to be no trades."""
    cursor.execute(
        "SELECT coalesce(sum(least(upper(run) - 1, %(last)s) - greatest(lower(run), %(first)s)"
        " + 1), 0)::bigint FROM void_ids, unnest(ids) AS run WHERE instrument_id = %(number)s"
        " AND chunk BETWEEN %(low)s AND %(high)s"
        " AND lower(run) <= %(last)s AND upper(run) > %(first)s",
        {
            "number": number,
            "first": first,
            "last": last,
            "low": first // IDS_PER_ROW,
            "high": last // IDS_PER_ROW,
        },
    )
    return int((cursor.fetchone() or (0,))[0])


def _multirange(ids: Iterable[int]) -> str:
    return "{" + ",".join(f"[{low},{high}]" for low, high in runs(ids)) + "}"


def void_of(cursor: Cursor, number: int | None = None) -> int:
    """How many ids of a record, or of all, are known to be no trades. A schema that is older than
    the table holds none."""
    cursor.execute("SELECT to_regclass('void_ids') IS NOT NULL")
    if not (cursor.fetchone() or (False,))[0]:
        return 0
    cursor.execute(
        "SELECT coalesce(sum(n), 0)::bigint FROM void_ids WHERE coalesce(instrument_id = %s, true)",
        (number,),
    )
    return int((cursor.fetchone() or (0,))[0])
