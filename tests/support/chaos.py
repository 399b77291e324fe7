"""One seed for all random faults of a run, and the sum of what the run has proven."""

from __future__ import annotations

import os
import random
from collections.abc import Container, Sequence
from typing import Any

# Kept in the environment: the lanes of a run have one seed.
SEED = int(os.environ.setdefault("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))


class Tally:
    """Trades that the exchanges have printed over the ids covered, held against the stored ones."""

    def __init__(self) -> None:
        self.comparisons = self.kills = self.steps = 0
        self.offered = self.lost = self.missing = self.duplicated = self.altered = 0

    def add(self, counts: dict[str, int]) -> None:
        """What another process has counted."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    def compare(
        self,
        tape: Sequence[tuple[Any, ...]],
        stored: Sequence[tuple[Any, ...]],
        lost: Container[int] = (),
    ) -> bool:
        """Whether `stored` is `tape` (rows that begin with the id) without those whose ids are
        `lost`: named as void or unrecoverable. Counts either way."""
        due = [row for row in tape if row[0] not in lost]
        printed = {row[0]: row for row in due}
        found = {row[0]: row for row in stored}
        self.comparisons += 1
        self.offered += len(tape)
        self.lost += len(tape) - len(due)
        self.missing += len(printed.keys() - found.keys())
        self.duplicated += len(stored) - len(found)
        self.altered += sum(printed.get(number) != row for number, row in found.items())
        return due == list(stored)

    def lines(self, passed: int, run: int) -> list[str]:
        return [
            f"scenarios {run} run, {passed} passed · {self.kills} random kills"
            f" · CHAOS_SEED={SEED} repeats it",
            f"trades offered {self.offered:,} in {self.comparisons} comparisons"
            f" · missing {self.missing} · duplicated {self.duplicated} · altered {self.altered}"
            f" · named as void or unrecoverable, as the scenario wanted: {self.lost}",
            f"steps of machines held against their models: {self.steps:,}",
        ]


TALLY = Tally()
