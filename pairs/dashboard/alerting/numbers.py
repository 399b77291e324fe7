"""Numbers as people type them: what is none is refused in words, never made into another. Pure.

A browser's number field makes 0 of what is too large and 3 of 3.7; so the fields of a rule are
text, and are read here.
"""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"\+?\d+", re.ASCII)


def typed_number(name: str, text: str, *, whole: bool = False) -> float:
    """The number that was typed. Raises ValueError naming the field and what is allowed."""
    written = text.strip().replace("−", "-")
    shape, allowed = (
        (_WHOLE, "a whole number, such as 3,") if whole else (_NUMBER, "a number, such as -0.5,")
    )
    if not shape.fullmatch(written):
        raise ValueError(f"{name}: “{text.strip()}” is not usable: {allowed} is allowed")
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"{name}: “{text.strip()}” is not usable: it is too large")
    return value


def as_typed(value: float) -> str:
    """A number as one would type it."""
    return f"{value:.10g}"
