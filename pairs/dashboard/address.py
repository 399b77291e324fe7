"""The pair in the address: venue, legs and bar length always stand there, whoever chose them.

Streamlit can bind a control to the address, but leaves out what is at its default and what was not
clicked. Which pair is the default depends on what runs, and what x is on y: a link would open
another pair. So these four are written by the page itself, and read where somebody has changed
them, with a link or a reload.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import streamlit as st

KEYS = ("venue", "y", "x", "bar")
SETTLING_S = 2.0  # until the browser certainly has the address that it was told
_STATE = "address"


def follow_address() -> None:
    """Choose what the address names, where it is not what the page has written there last. To be
    called before the controls are drawn."""
    named = {key: st.query_params[key] for key in KEYS if key in st.query_params}
    told, before, when = st.session_state.get(_STATE, ({}, {}, 0.0))
    on_its_way = named == before and time.monotonic() - when < SETTLING_S
    if named != told and not on_its_way:
        st.session_state[_STATE] = (named, {}, 0.0)  # the browser has it: nothing is on its way
        for key, value in named.items():
            st.session_state[key] = value


def tell_address(chosen: Mapping[str, str]) -> None:
    """Write what was chosen into the address."""
    told, *_ = st.session_state.get(_STATE, ({}, {}, 0.0))
    if told != chosen:
        st.session_state[_STATE] = (dict(chosen), told, time.monotonic())
    if any(st.query_params.get(key) != value for key, value in chosen.items()):
        st.query_params.update(chosen)


def start_with(key: str, options: Sequence[str], start: str) -> int:
    """Let the control `key` begin at `start` unless one of its options is chosen; the index of
    what it shows."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = start
    return list(options).index(st.session_state[key])
