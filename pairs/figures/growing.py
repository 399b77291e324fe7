"""A live picture as it is sent: once whole, then what each closed bar adds to it. Pure.

Whoever looks holds the picture that was sent whole. What has come since is sent in one piece, of
all bars since then: a piece that was lost, or came to a browser that was away, is missed by
nobody. Where more than the ends of the lines changed, or the piece has grown large, the picture
is sent whole again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from pairs.figures.picture import Packed, Parts, Picture

MOST_BYTES = 8_000  # of a piece


@dataclass(frozen=True, slots=True)
class Sent:
    """The whole picture, as JSON, by what it is known, and what makes the newest of it."""

    packed: str
    version: str
    tails: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Growing:
    """One picture over time, for all who look at it."""

    _whole: tuple[Parts, Sent] | None = None
    _lock: Lock = field(default_factory=Lock)

    def advance(self, picture: Picture, version: str) -> Sent:
        """How to send the picture as it is now; `version` is what it is known by if it is sent
        whole."""
        now = Parts.of(picture)
        with self._lock:
            if self._whole is not None:
                whole, sent = self._whole
                tails = whole.tails(now)
                if tails is not None and len(json.dumps(tails)) <= MOST_BYTES:
                    return Sent(sent.packed, sent.version, tails)
            made = Sent(as_json(now.packed()), version)
            self._whole = now, made
            return made


def as_json(packed: Packed) -> str:
    """In as few bytes as JSON takes."""
    return json.dumps(packed, separators=(",", ":"), allow_nan=False)
