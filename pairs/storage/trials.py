"""The sets of rules tried on the bars of a pair: each is a trial, and the best of many is luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pairs.market import Instrument

if TYPE_CHECKING:
    from pairs.storage.postgres import PostgresStore

KEPT = 100_000  # trials of all samples, the newest


@dataclass(frozen=True, slots=True)
class Sample:
    """The bars something was tried on: two legs in either order, the length of a bar in seconds,
    and the open times of the first and the last bar."""

    legs: tuple[Instrument, Instrument]
    bar_s: int
    first: datetime
    last: datetime

    @property
    def pair(self) -> str:
        """The legs, whichever was explained: who swaps them looks at the same bars."""
        return " ".join(sorted(map(str, self.legs)))


def count_trials(store: PostgresStore, sample: Sample, tried: Mapping[str, float]) -> list[float]:
    """Note what was `tried` (a set's key → its Sharpe ratio per return, NaN: it never traded), and
    return the ratio of every set ever tried on bars of this pair and length that overlap these.

    A live window moves on with every bar, so a set tried again on overlapping bars is the same
    trial with its newest ratio, and covers all bars it was ever tried on.
    """
    keys, ratios = list(tried), list(tried.values())
    span = {"pair": sample.pair, "bar_s": sample.bar_s, "first": sample.first, "last": sample.last}
    with store.transaction() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        cursor.execute(
            "INSERT INTO trial (pair, bar_s, rules, first_bar, last_bar, sharpe)"
            " SELECT %(pair)s, %(bar_s)s, rules, %(first)s, %(last)s, sharpe"
            " FROM unnest(%(keys)s::text[], %(ratios)s::float8[]) AS tried (rules, sharpe)"
            " ORDER BY rules ON CONFLICT (pair, bar_s, rules) DO UPDATE SET"
            " first_bar = least(trial.first_bar, excluded.first_bar),"
            " last_bar = greatest(trial.last_bar, excluded.last_bar),"
            " sharpe = excluded.sharpe, tried = clock_timestamp()",
            {**span, "keys": keys, "ratios": ratios},
        )
        cursor.execute(
            "DELETE FROM trial WHERE tried <"
            " (SELECT tried FROM trial ORDER BY tried DESC OFFSET %(kept)s LIMIT 1)",
            {"kept": KEPT},
        )
        cursor.execute(
            "SELECT sharpe FROM trial WHERE pair = %(pair)s AND bar_s = %(bar_s)s"
            " AND first_bar <= %(last)s AND last_bar >= %(first)s ORDER BY rules",
            span,
        )
        return [float(row[0]) for row in cursor.fetchall()]
