"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

_BANNED = re.compile(r"banned\s+until\D{0,5}(\d{10,17})", re.IGNORECASE)
LONGEST_BAN_S = 3 * 86_400.0  # by Binance's word
_PASSING = {418: 120.0, 429: 10.0}  # HTTP status → seconds, where no header and no word tells
TOO_MANY = (-1003, -1015)  # numbers of an error that say the same, with whatever status


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


def next_wait_s(waits: Iterator[float], error: Exception) -> float:
    """The next of `waits`, or as long as the exchange has asked for with its error."""
    return max(next(waits), getattr(error, "retry_after_s", 0.0))


def retry_after_s(text: str | None, default: float) -> float:
    """A Retry-After header in seconds; `default` where there is none or it is a date."""
    try:
        seconds = float(text or "")
    except ValueError:
        return default
    return seconds if 0 <= seconds < 1e7 else default


def pause_s(
    status: int, code: int | None, headers: Mapping[str, str], text: str, now_s: float
) -> float:
    """For how many seconds an exchange wants no request, by an answer that is an error; 0 where it
    has no such wish. Of Retry-After and a ban that stands only in the text (`banned until` a moment
    in ms) the longer. The moment is of the exchange's clock, which the header Date tells; `now_s`
    is ours."""
    told = _BANNED.search(text)
    if told is None and status not in _PASSING and code not in TOO_MANY:
        return 0.0
    wait = retry_after_s(headers.get("Retry-After"), -1.0)
    if told is not None:
        moment = float(told[1])
        while moment > 1e11:  # ms or µs
            moment /= 1000
        left = moment - _date_s(headers.get("Date"), now_s) + 1.0
        wait = max(wait, min(left, LONGEST_BAN_S))
    default = _PASSING.get(418 if told else status, _PASSING[429])
    return wait if wait >= 0 else default


def _date_s(text: str | None, default: float) -> float:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except ValueError:
        return default
