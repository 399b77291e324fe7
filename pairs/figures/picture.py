"""A Plotly figure as plain data, its packing for the page, and what changed between two of one.
Pure.

Plotly's own classes check every value of a figure that is made: 50 times what making it takes.
Tests build them from what is made here, so that a wrong name is found there.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go

from pairs.figures.theme import DARK, Theme

Array = np.ndarray[Any, np.dtype[Any]]
Packed = dict[str, Any]


@dataclass(slots=True)
class Picture:
    """Traces and layout by Plotly's names, in the colours of `theme`."""

    layout: dict[str, Any] = field(default_factory=dict)
    theme: Theme = DARK
    data: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, **trace: Any) -> dict[str, Any]:
        """Add a trace; it may be changed until the picture is packed."""
        made = {"type": kind, **trace}
        self.data.append(made)
        return made

    def shape(self, **shape: Any) -> None:
        """Add a shape of the layout."""
        self.layout.setdefault("shapes", []).append(shape)

    def figure(self) -> go.Figure:
        """The same as Plotly's class, checked."""
        return go.Figure({"data": self.data, "layout": self.layout})


@dataclass(frozen=True, slots=True)
class Parts:
    """A picture apart: a JSON-ready body whose arrays are named by their number, and the arrays.
    One that several traces share is there once."""

    body: dict[str, Any]
    arrays: list[Array]

    @classmethod
    def of(cls, picture: Picture) -> Parts:
        numbers: dict[int, int] = {}
        arrays: list[Array] = []

        def strip(part: Any) -> Any:
            if isinstance(part, dict):
                return {key: strip(value) for key, value in part.items()}
            if isinstance(part, (list, tuple)):
                return [strip(value) for value in part]
            if isinstance(part, np.ndarray):
                if id(part) not in numbers:
                    numbers[id(part)] = len(arrays)
                    arrays.append(part)
                return {"array": numbers[id(part)]}
            return part

        return cls(strip({"data": picture.data, "layout": picture.layout}), arrays)

    def packed(self) -> Packed:
        """As the page takes it."""
        return {"figure": self.body, "arrays": [_encoded(array) for array in self.arrays]}

    def tails(self, now: Parts) -> dict[str, list[Any]] | None:
        """What makes `now` of this: array → how much of it stays, and what follows. None where
        more than arrays changed."""
        if now.body != self.body or len(now.arrays) != len(self.arrays):
            return None
        changed = {}
        for number, (old, new) in enumerate(zip(self.arrays, now.arrays, strict=True)):
            if old.dtype != new.dtype:
                return None
            same = shared_start(old, new)
            if same < max(len(old), len(new)):
                changed[str(number)] = [same, listed(new[same:])]
        return changed


def shared_start(old: Array, new: Array) -> int:
    """How many values two arrays have in common from the first on; NaN equals NaN."""
    most = min(len(old), len(new))
    a, b = old[:most], new[:most]
    differ = np.flatnonzero((a != b) & ~((a != a) & (b != b)))
    return int(differ[0]) if len(differ) else most


def listed(values: Array) -> list[float | None]:
    """As JSON takes it, in the fewest digits that tell the value from its neighbours."""
    short = values.dtype == np.float32
    return [
        None if value != value else float(str(value)) if short else value.item() for value in values
    ]


def pack(figure: go.Figure | Picture) -> Packed:
    """The figure as JSON-ready data with every array sent once, however many traces share it."""
    if isinstance(figure, Picture):
        return Parts.of(figure).packed()
    arrays: dict[tuple[str, str, str], int] = {}

    def strip(part: Any) -> Any:
        if isinstance(part, dict):
            if "bdata" in part:
                key = part["dtype"], part["bdata"], part.get("shape", "")
                return {"array": arrays.setdefault(key, len(arrays))}
            return {key: strip(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return [strip(value) for value in part]
        if isinstance(part, np.ndarray):  # Plotly leaves arrays without values as they are
            return part.tolist()
        return part

    body = strip(figure.to_dict())
    encoded = [dict(zip(("dtype", "bdata", "shape"), key, strict=True)) for key in arrays]
    return {"figure": body, "arrays": encoded}


def _encoded(array: Array) -> dict[str, str]:
    return {
        "dtype": array.dtype.str[1:],
        "bdata": base64.b64encode(array.tobytes()).decode("ascii"),
        "shape": "",
    }
