"""Holes in the trade ids: finding, closing and settling them, inside the caller's transaction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg2.extras import execute_values

from pairs.storage.void import IDS_PER_ROW, cut_void, runs, void_in

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

TRADES_PER_PARTITION = 1_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Trade ids first_id … last_id (both included) that were not received."""

    symbol: str
    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Again:
    """When trades that were given up are asked for again: at a start, and after `seconds` where
    that is finite; None: never. `refused`: the exchange may have them and would not say."""

    seconds: float | None
    refused: bool = False


NEVER = Again(None)
AT_A_START = Again(math.inf)


def ask_again(cursor: Cursor, number: int, gap: Gap, again: Again) -> None:
    """Note of a gap that was given up when it is asked for again."""
    finite = again.seconds is not None and math.isfinite(again.seconds)
    cursor.execute(
        "UPDATE gap SET refused = %(refused)s, ask_again ="
        " coalesce(now() + make_interval(secs => %(seconds)s), %(otherwise)s::timestamptz)"
        " WHERE instrument_id = %(number)s AND first_id = %(first)s AND last_id = %(last)s"
        " AND state = 'unrecoverable'",
        {
            "number": number,
            "first": gap.first_id,
            "last": gap.last_id,
            "refused": again.refused,
            "seconds": again.seconds if finite else None,
            "otherwise": None if again.seconds is None else "infinity",
        },
    )


def holes(ids: set[int], first: int | None, high: int | None) -> list[tuple[int, int]]:
    """The ranges of ids that lie between known ones and are neither in `ids` nor in first … high.

    `first` = `high` + 1 is a record that begins at `first` and holds nothing yet. Holes inside
    the known range are not looked for: they stand in the gap table already.
    """
    edges = [(i, i) for i in ids if high is None or first is None or not first <= i <= high]
    if first is not None and high is not None:
        edges.append((first, high))
    edges.sort()
    return [
        (left[1] + 1, right[0] - 1)
        for left, right in itertools.pairwise(edges)
        if right[0] > left[1] + 1
    ]


def lock_feed(cursor: Cursor, number: int) -> str | None:
    """Lock the feed's row: whoever changes its record or its gaps holds it. Its owner."""
    cursor.execute("SELECT owner FROM feed WHERE instrument_id = %s FOR UPDATE", (number,))
    row = cursor.fetchone()
    return row[0] if row else None


def extend_back(cursor: Cursor, number: int, first_id: int) -> bool:
    """Let a record begin at `first_id` where it begins later or not at all; what lies between
    becomes a gap. Whether that changed anything."""
    cursor.execute(
        "SELECT first_id, high_id FROM feed WHERE instrument_id = %s FOR UPDATE", (number,)
    )
    known, high = one(cursor)
    if high is not None and known < first_id:
        return False
    cursor.execute(
        "UPDATE feed SET first_id = %(first)s, whole_from = %(first)s,"
        " high_id = coalesce(high_id, %(first)s - 1)"
        " WHERE instrument_id = %(number)s",
        {"first": first_id, "number": number},
    )
    if high is None or known == first_id:
        return high is None
    cursor.execute(
        "INSERT INTO gap (instrument_id, first_id, last_id) VALUES (%s, %s, %s)",
        (number, first_id, known - 1),
    )
    return True


def first_missing(cursor: Cursor, number: int, first: int, last: int) -> int | None:
    """The lowest id in first … last that is not stored; None where all are. What retention has
    dropped is not missing."""
    cursor.execute("SELECT coalesce(kept_from, 0) FROM feed WHERE instrument_id = %s", (number,))
    low = max(first, int(one(cursor)[0]))
    while low <= last:  # one partition after the other: most often the first one tells
        top = min(
            last, low // TRADES_PER_PARTITION * TRADES_PER_PARTITION + TRADES_PER_PARTITION - 1
        )
        if runs := missing_runs(cursor, number, low, top):
            return runs[0][0]
        low = top + 1
    return None


def missing_runs(cursor: Cursor, number: int, first: int, last: int) -> list[tuple[int, int]]:
    """The ranges of ids in first … last that are neither stored nor known to be no trades,
    ascending."""
    if first > last:
        return []
    cursor.execute(
        "SELECT before + 1, trade_id - 1 FROM (SELECT trade_id,"
        "  lag(trade_id, 1, %(first)s::bigint - 1) OVER (ORDER BY trade_id) AS before"
        "  FROM (SELECT trade_id FROM trade WHERE instrument_id = %(number)s"
        "   AND trade_id BETWEEN %(first)s AND %(last)s"
        "   UNION ALL SELECT i FROM void_ids, unnest(ids) AS run,"
        "    generate_series(greatest(lower(run), %(first)s),"
        "                    least(upper(run) - 1, %(last)s)) AS i"
        "    WHERE instrument_id = %(number)s AND chunk BETWEEN %(low)s AND %(high)s"
        "   UNION ALL SELECT %(last)s::bigint + 1) AS stored) AS pairs"
        " WHERE trade_id > before + 1 ORDER BY 1",
        {
            "number": number,
            "first": first,
            "last": last,
            "low": first // IDS_PER_ROW,
            "high": last // IDS_PER_ROW,
        },
    )
    return [(int(low), int(high)) for low, high in cursor.fetchall()]


def cut(cursor: Cursor, number: int, first: int) -> None:
    """Let the record begin at `first`, before the trades below it are dropped. What is missing
    below it is lost and stays named, for its bars will always lack it."""
    cursor.execute(
        "SELECT first_id, last_id, detected FROM gap WHERE instrument_id = %s AND state = 'open'"
        " AND first_id < %s",
        (number, first),
    )
    reaching = cursor.fetchall()
    lost = [
        (number, detected, *run)
        for low, high, detected in reaching
        for run in missing_runs(cursor, number, low, min(high, first - 1))
    ]
    cursor.execute(
        "DELETE FROM gap WHERE instrument_id = %(n)s AND last_id < %(first)s"
        " AND state <> 'unrecoverable';"
        "INSERT INTO gap (instrument_id, first_id, last_id, state, reason, detected, closed)"
        " SELECT instrument_id, first_id, %(first)s - 1, state, reason, detected, closed FROM gap"
        " WHERE instrument_id = %(n)s AND first_id < %(first)s AND last_id >= %(first)s"
        " AND state = 'unrecoverable';"
        "UPDATE gap SET first_id = %(first)s WHERE instrument_id = %(n)s"
        " AND first_id < %(first)s AND last_id >= %(first)s",
        {"n": number, "first": first},
    )
    cut_void(cursor, number, first)
    if reaching:  # what is left of the one across `first` may be stored
        close_filled(cursor, number, first, first)
    if lost:
        execute_values(
            cursor,
            "INSERT INTO gap (instrument_id, detected, first_id, last_id, state, reason, closed)"
            " VALUES %s",
            lost,
            "(%s, %s, %s, %s, 'unrecoverable', 'older than the trades that are kept', now())",
        )
    cursor.execute(
        "UPDATE feed SET first_id = greatest(first_id, %(first)s),"
        " kept_from = greatest(kept_from, %(first)s), revision = revision + %(cut)s"
        " WHERE instrument_id = %(n)s",
        {"n": number, "first": first, "cut": len(reaching)},
    )


def times_of(
    cursor: Cursor, number: int, gap: Gap
) -> tuple[datetime | None, datetime | None, datetime | None]:
    """The times of the stored trades beside a gap, before and behind, and of the newest one."""
    cursor.execute(
        "SELECT first_id, high_id, last_trade FROM feed WHERE instrument_id = %s", (number,)
    )
    first, high, newest = one(cursor)
    if high is None:
        return None, None, newest
    before = _time_of_one(cursor, number, first, gap.first_id - 1, newest_first=True)
    after = _time_of_one(cursor, number, gap.last_id + 1, high, newest_first=False)
    return before, after, newest


_OLDEST = (
    "SELECT ts FROM trade WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s ORDER BY trade_id"
)
_NEWEST = _OLDEST + " DESC"


def _time_of_one(
    cursor: Cursor, number: int, low: int, high: int, *, newest_first: bool
) -> datetime | None:
    """The time of the lowest or highest id stored in low … high. Looked for partition by
    partition, the ids written out: the planner sees few, however long the record is."""
    partitions = 1
    while low <= high:
        first, last = low, high
        if newest_first:
            first = max(low, (high // TRADES_PER_PARTITION - partitions + 1) * TRADES_PER_PARTITION)
        else:
            last = min(high, (low // TRADES_PER_PARTITION + partitions) * TRADES_PER_PARTITION - 1)
        cursor.execute(
            (_NEWEST if newest_first else _OLDEST) + " LIMIT 1",
            (number, first, last),
        )
        if row := cursor.fetchone():
            found: datetime = row[0]
            return found
        low, high = (low, first - 1) if newest_first else (last + 1, high)
        partitions *= 2
    return None


def close_filled(cursor: Cursor, number: int, low: int, high: int) -> int:
    """Mark the gaps touching low … high as filled where every id of theirs is stored; those
    given up too, whose trades came after all. Returns how many.

    The ends are looked at first: a repair runs upwards, so counting waits for its last page. All
    ids are written out, so that the planner sees the few partitions they lie in.
    """
    cursor.execute(
        "SELECT gap_id, first_id, last_id FROM gap WHERE instrument_id = %s AND state <> 'filled'"
        " AND first_id <= %s AND last_id >= %s",
        (number, high, low),
    )
    touched = cursor.fetchall()
    if not touched:
        return 0
    stored = stored_of(cursor, number, {end for _, *both in touched for end in both})
    filled = [
        gap_id
        for gap_id, first, last in touched
        if all(end in stored or void_in(cursor, number, end, end) for end in (first, last))
        and _all_stored(cursor, number, first, last)
    ]
    if filled:
        cursor.execute(
            "UPDATE gap SET state = 'filled', closed = clock_timestamp() WHERE gap_id = ANY(%s)",
            (filled,),
        )
    return len(filled)


def let_read_anew(cursor: Cursor, number: int) -> None:
    """A new revision of an instrument, of which nothing tells what it has changed: its readers
    read all they hold again. For what makes bars complete without a trade."""
    cursor.execute("UPDATE feed SET revision = revision + 1 WHERE instrument_id = %s", (number,))


def _all_stored(cursor: Cursor, number: int, first: int, last: int) -> bool:
    """Whether every id of first … last is stored, or known to be no trade."""
    if last - first < 2:
        return True  # its ends are
    cursor.execute(
        "SELECT count(*) FROM trade WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s",
        (number, first, last),
    )
    missing = last - first + 1 - int(one(cursor)[0])
    return missing == 0 or missing == void_in(cursor, number, first, last)


def settle(
    cursor: Cursor,
    number: int,
    gap: Gap,
    lost: Sequence[tuple[int, int]],
    state: str,
    why: str,
    again: Again = NEVER,
) -> None:
    """Declare ranges of ids inside an open gap, ascending, `void` or `unrecoverable`, to be asked
    for `again`.

    What lies before, between and after them in the gap becomes rows of its own: `filled` where
    stored, otherwise still open. Without effect where the gap is no longer open.
    """
    cursor.execute(
        "DELETE FROM gap WHERE instrument_id = %s AND first_id = %s AND last_id = %s"
        " AND state = 'open' RETURNING detected",
        (number, gap.first_id, gap.last_id),
    )
    row = cursor.fetchone()
    if row is None:
        return
    now, low = datetime.now(UTC), gap.first_id
    parts: list[tuple[int, int, str, str, datetime | None]] = []
    for first, last in lost:
        parts += [(low, first - 1, "open", "", None), (first, last, state, why, now)]
        low = last + 1
    parts.append((low, gap.last_id, "open", "", None))
    execute_values(
        cursor,
        "INSERT INTO gap (instrument_id, detected, first_id, last_id, state, reason, closed)"
        " VALUES %s",
        [(number, row[0], *part) for part in parts if part[0] <= part[1]],
        page_size=1000,
    )
    for first, last in lost if again != NEVER else ():
        ask_again(cursor, number, Gap(gap.symbol, first, last), again)
    closed = close_filled(cursor, number, gap.first_id, gap.last_id)
    if closed or state == "void":  # the bars beside it lack nothing any more
        let_read_anew(cursor, number)


def lose(cursor: Cursor, number: int, ids: set[int], why: str, known: range) -> int:
    """Name ids as `unrecoverable`: those beyond the `known` ones and those in open gaps. Any
    other is stored, or settled before. How many it was."""
    beyond = runs(i for i in ids if i not in known)
    if beyond:
        execute_values(
            cursor,
            "INSERT INTO gap (instrument_id, first_id, last_id, state, reason, closed) VALUES %s",
            [(number, *run, "unrecoverable", why, datetime.now(UTC)) for run in beyond],
        )
    count = sum(last - first + 1 for first, last in beyond)
    cursor.execute(
        "SELECT first_id, last_id FROM gap WHERE instrument_id = %s AND state = 'open'"
        " AND first_id <= %s AND last_id >= %s ORDER BY first_id",
        (number, max(ids), min(ids)),
    )
    for first, last in cursor.fetchall():
        inside = {i for i in ids if first <= i <= last}
        inside -= stored_of(cursor, number, inside)
        if inside:
            settle(cursor, number, Gap("", first, last), runs(inside), "unrecoverable", why)
        count += len(inside)
    return count


def stored_of(cursor: Cursor, number: int, ids: set[int]) -> set[int]:
    """Which of these ids are stored as trades."""
    if not ids:
        return set()
    cursor.execute(
        "SELECT trade_id FROM trade WHERE instrument_id = %s AND trade_id IN %s",
        (number, tuple(ids)),
    )
    return {int(row[0]) for row in cursor.fetchall()}


def one(cursor: Cursor) -> tuple[Any, ...]:
    """The row that must be there."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a row that this program writes at start is missing: run init")
    return row
