"""Where a thing that leaves the page comes from: in its name, in what it holds, and back again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pairs.backtest.report import Provenance, parameters
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import Result
from pairs.checks import check_number
from pairs.market import Instrument, bar_seconds
from pairs.settings import build

LONGEST = 100_000  # characters of a file of parameters: one holds some 1,000


def file_name(legs: Sequence[Instrument], *parts: str) -> str:
    """A name that says the venue: local_ETHUSDT-BTCUSDT_1min_pair. Legs of two venues name both."""
    venues = list(dict.fromkeys(leg.venue for leg in legs))
    return "_".join(("+".join(venues), "-".join(leg.symbol for leg in legs), *parts))


def provenance_of(legs: tuple[Instrument, Instrument], bar: str, result: Result) -> Provenance:
    """Of a run that was made just now."""
    times = result.equity.index
    return Provenance(
        y=str(legs[0]),
        x=str(legs[1]),
        bar=bar,
        first=times[0] if len(times) else None,
        last=times[-1] if len(times) else None,
        bars=len(times),
        made=pd.Timestamp.now("UTC").floor("s"),
        version=build(),
    )


def parameters_json(result: Result, made_of: Provenance) -> bytes:
    """Rules and costs as JSON, with what a run is to be repeated on."""
    given = parameters(result.rules, result.costs)
    return json.dumps({**given, "provenance": made_of.as_dict()}, indent=2).encode()


def read_parameters(
    content: bytes,
) -> tuple[Rules, Costs, tuple[Instrument, Instrument], str, tuple[pd.Timestamp, pd.Timestamp]]:
    """What `parameters_json` wrote: rules, costs, legs, bar length, first and last bar.

    Raises ValueError that says what is wrong with it.
    """
    whole = _object(content)
    made_of = whole.pop("provenance", None)
    if not isinstance(made_of, dict):
        raise ValueError("it has no provenance: symbols, venue, bar and span")
    costs = {
        name: check_number(name, whole.pop(name, 0.0), 0.0, 10_000.0, open_low=False)
        for name in ("fee_bps", "slippage_bps")
    }
    try:
        rules = Rules(**whole)
        legs = [Instrument(*str(made_of[side]).split(":", 1)) for side in ("y", "x")]
        bar = str(made_of["bar"])
        bar_seconds(bar)
        first, last = (pd.Timestamp(made_of[name]) for name in ("first_bar", "last_bar"))
    except (TypeError, KeyError) as error:
        raise ValueError(f"it is no file of parameters: {error}") from None
    if first.tz is None or last.tz is None or first > last:
        raise ValueError("its first_bar and last_bar are no times in UTC, one after the other")
    return (
        rules,
        Costs(fee_bps=costs["fee_bps"], slippage_bps=costs["slippage_bps"]),
        (legs[0], legs[1]),
        bar,
        (first, last),
    )


def _object(content: bytes) -> dict[str, Any]:
    if len(content) > LONGEST:
        raise ValueError(f"it has {len(content):,} characters, more than {LONGEST:,}")
    try:
        whole = json.loads(content)
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(whole, dict):
        raise ValueError("it is no object of parameters")
    return whole
