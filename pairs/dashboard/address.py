"""The page in its address: what a link asks for, what is shown, and what could not be honoured.

Streamlit binds a control to the address by its label, leaves out what is at its default, drops
what it cannot use in silence and replaces the entry of the browser's history. Which pair is the
default depends on what runs, and a label may be renamed: a link would open another view. So the
view, the pair, its venue and bars and every choice whose label is not its value are written here,
by keys that stay, and read where somebody has changed them with a link, a reload or the Back
button. Numbers and switches are bound by Streamlit; what it drops of a link is told here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pairs.figures.plain import plain
from pairs.market import Instrument

LEGS = ("pair", "venue", "y", "x")  # the last two as links of earlier versions name them
KEYS = frozenset((*LEGS, "view", "bar", "hedge", "looked_at", "bt_fees", "bt_figure"))
SETTLING_S = 2.0  # until the browser certainly has the address that it was told
_SENT, _ASKED, _LINK, _TOLD, _REFUSED = (
    f"address_{name}" for name in ("sent", "asked", "link", "told", "refused")
)


def follow_address() -> None:
    """Choose what the address names, where it is not what the page has written there. To be
    called before any control is drawn."""
    named = {key: st.query_params[key] for key in st.query_params if key in KEYS}
    sent: list[tuple[dict[str, str], float]] = st.session_state.get(_SENT, [])
    st.session_state[_TOLD] = {}
    if not _navigates():
        # A click that the browser sent before it had heard of the newest addresses names an
        # older one. What it names it has: everything before is no longer on its way.
        known = [k for k, (address, _) in enumerate(sent) if address == named]
        fresh = sent and time.monotonic() - sent[-1][1] < SETTLING_S
        if known and (known[-1] == len(sent) - 1 or fresh):
            st.session_state[_SENT] = sent[known[-1] :]
            return
    if sent:  # an address that leaves a choice out means what the page starts with
        for key in KEYS.difference(LEGS, named):
            st.session_state.pop(key, None)
    st.session_state[_SENT] = [(named, float("-inf"))]
    st.session_state[_ASKED] = dict(named)
    st.session_state[_LINK] = {key: st.query_params.get_all(key) for key in st.query_params}
    st.session_state[_REFUSED] = []


def _navigates() -> bool:
    """Whether this run comes of the browser's Back or Forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def asked(key: str) -> str | None:
    """What the link asks of `key`, once; None where it asks nothing."""
    wanted: dict[str, str] = st.session_state.get(_ASKED, {})
    return wanted.pop(key, None)


def refuse(sentence: str) -> None:
    """Note what a link asked for and could not be had. `sentence`: as `plain` leaves it."""
    st.session_state.setdefault(_REFUSED, []).append(sentence)


def start_with(
    key: str,
    options: Sequence[str],
    start: str,
    label: Callable[[str], str] = str,
    *,
    alias: Callable[[str], str] | None = None,
    always: bool = False,
) -> int:
    """Let the control `key` show what the link asks for, else what was chosen, else `start`; the
    index of what it shows. The control is to be given that as its default: a browser that has not
    had the run in which a link set it shows its default, and acts by it. It stands in the address
    by its option, wherever it is not `start` or `always`; a link may name the label too, or the
    `alias`.
    """
    if (wanted := asked(key)) is not None:
        found = _option(wanted, options, alias or label)
        if found is None:
            offered = ", ".join(plain(label(option)) for option in options[:8])
            refuse(f"{plain(key)}={plain(wanted)}, where {offered} can be had")
        else:
            st.session_state[key] = found
    if st.session_state.get(key) not in options:
        st.session_state[key] = start
    shown = str(st.session_state[key])
    tell(key, shown, None if always else start)
    return list(options).index(shown)


def _option(wanted: str, options: Sequence[str], label: Callable[[str], str]) -> str | None:
    """The option that is meant, by itself or its label, in small letters or large ones."""
    for option in options:
        if wanted == option:
            return option
    meant = wanted.strip().casefold()
    return next((o for o in options if meant in (o.casefold(), label(o).casefold())), None)


def tell(key: str, value: str, start: str | None = None) -> None:
    """Let the address name `value`, unless it is what the page starts with anyway."""
    told = st.session_state.setdefault(_TOLD, {})
    if value == start:
        told.pop(key, None)
    else:
        told[key] = value


def tell_address() -> None:
    """Write what is shown into the address: one entry of the browser's history."""
    told: dict[str, str] = st.session_state[_TOLD]
    sent: list[tuple[dict[str, str], float]] = st.session_state[_SENT]
    if sent[-1][0] != told:
        st.session_state[_SENT] = [*sent[-9:], (dict(told), time.monotonic())]
    if any(st.query_params.get(key) != value for key, value in told.items()):
        st.query_params.update(told)
    for key in [key for key in st.query_params if key in KEYS and key not in told]:
        del st.query_params[key]


# -- the pair


def pair_text(y: Instrument, x: Instrument) -> str:
    """A pair as the address names it: local:SOLUSDT~BNBUSDT, or with the venue of either leg
    where they differ."""
    return f"{y}~{x.symbol if x.venue == y.venue else x}"


def home_of(y: Instrument, x: Instrument) -> str:
    """The venue a pair is at home: a file beside a live market is a guest there."""
    return x.venue if y.venue == "upload" else y.venue


def asked_legs() -> tuple[str | None, str | None, str | None] | None:
    """Venue, y and x as the link names them, each None where it does not; None where it names
    none. A leg of another venue than the pair's is venue:SYMBOL. Once, as `asked`."""
    pair, venue, y, x = (asked(key) for key in LEGS)
    if pair is not None and y is None and x is None:
        y, between, x = pair.partition("~")
        at, named, _ = y.partition(":")
        if not (between and named and x):
            refuse(f"pair={plain(pair)}, which is not of the form venue:Y~X")
            y = x = None
        elif ":" not in x:
            x = f"{at}:{x}"
    return None if (venue, y, x) == (None, None, None) else (venue, y, x)


# -- what could not be honoured


def unhonoured() -> list[str]:
    """What the link asked for and is not shown: what was refused, and what a control of
    Streamlit's has dropped. To be called when all is drawn."""
    link: dict[str, list[str]] = st.session_state.pop(_LINK, {})
    for key, wanted in link.items():
        if key not in KEYS and key in st.session_state:
            shown = st.session_state[key]
            if not _agrees(wanted, shown):
                known = f"{shown:g}" if isinstance(shown, float) else plain(shown)
                told = f"{plain(key)}={plain(', '.join(wanted))}"
                refuse(f"{told}, which cannot be chosen (it is {known})")
    found: list[str] = st.session_state.get(_REFUSED, [])
    return found


def _agrees(wanted: Sequence[str], shown: Any) -> bool:
    """Whether a control shows what was asked for. What it shows of a list may go by labels."""
    if isinstance(shown, list | tuple):
        return len(wanted) == len(shown)
    if len(wanted) != 1:
        return False
    if isinstance(shown, bool):
        return wanted[0].lower() == str(shown).lower()
    if isinstance(shown, int | float):
        try:
            return float(wanted[0]) == float(shown)
        except ValueError:
            return False
    return wanted[0] == str(shown)


def dismiss() -> None:
    """What was told of the link has been read."""
    st.session_state[_REFUSED] = []


def matching(symbol: str, stored: Sequence[str]) -> str | None:
    """The stored symbol that is meant, in small letters or large ones."""
    if symbol in stored:
        return symbol
    return next((name for name in stored if name.casefold() == symbol.strip().casefold()), None)


def labels(names: Mapping[str, str]) -> Callable[[str], str]:
    """The label of a key; what is none is shown as it is."""
    return lambda key: names.get(key, key)
