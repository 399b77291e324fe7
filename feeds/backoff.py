"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(rng: random.Random, first_s: float = 0.5, cap_s: float = 30.0) -> Iterator[float]:
    """Waits in seconds, without end: full jitter below a ceiling that doubles up to `cap_s`.

    Full jitter spreads the reconnects of many clients best (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog 2015). Each wait is at least a tenth of its ceiling, so that a
    refused handshake never becomes a hot loop.
    """
    ceiling = first_s
    while True:
        yield rng.uniform(ceiling / 10, ceiling)
        ceiling = min(cap_s, ceiling * 2)


def retry_after_s(text: str | None, default: float) -> float:
    """A Retry-After header in seconds; `default` where there is none or it is a date."""
    try:
        seconds = float(text or "")
    except ValueError:
        return default
    return seconds if 0 <= seconds < 1e7 else default
