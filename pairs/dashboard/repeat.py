"""A backtest repeated from its file of parameters: the same rules, costs, pair and bars."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pairs.backtest.rules import Costs, Rules
from pairs.dashboard.context import Page, symbols_of
from pairs.dashboard.provenance import read_parameters
from pairs.dashboard.sidebar import DELTAS, NOISES, open_pair
from pairs.figures.plain import plain
from pairs.market import Instrument

Span = tuple[pd.Timestamp, pd.Timestamp]
STATE = "bt_between"


def load_parameters(page: Page, place: DeltaGenerator) -> None:
    """A file of parameters, and the button that chooses all that it holds."""
    number = st.session_state.setdefault("bt_loads", 0)
    with place.popover("Load parameters"):
        file = st.file_uploader(
            "parameters.json of an earlier run", type=["json"], key=f"bt_load_{number}"
        )
        if file is None:
            return
        try:
            rules, costs, legs, bar, span = read_parameters(file.getvalue())
            chosen = controls_of(rules, costs, legs, bar)
            _check_stored(page, legs)
        except ValueError as error:
            st.error(f"{plain(file.name)} cannot be loaded: {plain(error)}")
            return
        told = f"{legs[0]} / {legs[1]}, bars of {bar}, {span[0]:%Y-%m-%d %H:%M:%S} to "
        st.caption(plain(told + f"{span[1]:%Y-%m-%d %H:%M:%S} UTC"))
        st.button("Load", key="bt_load", type="primary", on_click=_load, args=(legs, chosen, span))


def _load(legs: tuple[Instrument, Instrument], chosen: dict[str, Any], span: Span) -> None:
    st.session_state["bt_loads"] += 1  # an empty field for the next file
    open_pair(*legs)
    for key, value in chosen.items():
        st.session_state[key] = value
    st.session_state[STATE] = (legs, chosen["bar"], span)


def loaded_span(page: Page, place: DeltaGenerator) -> Span | None:
    """The first and last bar that a loaded file names, while its pair and bars are shown; and the
    button that goes back to the history chosen."""
    legs, bar, span = st.session_state.get(STATE) or (None, None, None)
    if (legs, bar) != (page.choice.pair, page.choice.bar) or span is None:
        return None
    place.button(
        f"✕ bars of the file: {span[0]:%m-%d %H:%M} to {span[1]:%m-%d %H:%M}",
        key="bt_unload",
        on_click=_unload,
        help="Back to the history chosen",
    )
    found: Span = span
    return found


def _unload() -> None:
    st.session_state.pop(STATE, None)


def _check_stored(page: Page, legs: tuple[Instrument, Instrument]) -> None:
    for leg in legs:
        if leg.symbol not in symbols_of(page.store).get(leg.venue, ()):
            raise ValueError(f"{leg} is not stored here")


def controls_of(
    rules: Rules, costs: Costs, legs: tuple[Instrument, Instrument], bar: str
) -> dict[str, Any]:
    """The controls of the page that make these rules and costs. ValueError where one cannot."""
    if rules.rebalance is not None:
        raise ValueError("it rebalances, which the page does not")
    given = rules.delta is not None and rules.observation_variance is not None
    numbers: dict[str, tuple[float, float, float]] = {  # value, least, most
        f"window_{bar}": (rules.window, 2, 1000),
        "entry": (rules.entry_z, 0.1, 10.0),
        "exit": (rules.exit_z, 0.0, 10.0),
        "stop": (rules.stop_z or 0.0, 0.0, 20.0),
        "bt_notional": (rules.notional, 1.0, math.inf),
        "bt_capital": (rules.capital, 1.0, math.inf),
        "bt_slippage": (costs.slippage_bps, 0.0, 1000.0),
        "bt_fee": (costs.fee_bps, 0.0, 1000.0),
        "bt_loss": (100 * (rules.stop_loss or 0.0), 0.0, 100.0),
        "bt_bars": (rules.max_bars or 0, 0, 100_000),
    }
    if rules.hedge == "fixed":
        numbers["beta"] = (rules.beta or 0.0, -math.inf, math.inf)
    elif given:
        numbers["delta"] = (_power(rules.delta), *DELTAS)
        numbers[f"noise_{legs[0].symbol}"] = (_power(rules.observation_variance), *NOISES)
    else:
        numbers[f"fit_{bar}"] = (rules.hedge_window or rules.window, 2, 2000)
    for name, (value, least, most) in numbers.items():
        if not least <= value <= most:
            raise ValueError(f"{name}={value:g} cannot be chosen: {least:g} to {most:g} can")
    chosen: dict[str, Any] = {name: value for name, (value, *_) in numbers.items()}
    if rules.hedge == "kalman":
        chosen["noise_given"] = given
    return {**chosen, "bar": bar, "hedge": rules.hedge, "bt_fees": "own"}


def _power(value: float | None) -> float:
    return round(math.log10(value), 12) if value else -math.inf
