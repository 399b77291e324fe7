"""The upload in the sidebar, on every view: a user's CSV of bars is read beside the page, told,
named, and stored whole or not at all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from pairs.bars.files import bar_seconds
from pairs.dashboard.context import base_of, follow, forget, jobs, symbols_of
from pairs.dashboard.sidebar import bars_offered, open_pair
from pairs.figures.plain import plain
from pairs.live.jobs import Job, Progress
from pairs.live.reading import read_bars
from pairs.market import Instrument, bar_label, check_symbol
from pairs.market import bar_seconds as seconds_of
from pairs.storage.postgres import PostgresStore, Uploaded

PARTNERS = 20  # instruments tried as the other leg of a new file


def upload(store: PostgresStore, legs: tuple[Instrument, ...] = ()) -> None:
    """Take a CSV, say what is in it, store it under a name the user may change, offer to open it:
    beside one of `legs`, those chosen now, where they have bars at the same time."""
    _told()
    file = st.file_uploader(
        "CSV with timestamp, open, high, low, close, volume",
        type=["csv"],
        key=f"file-{st.session_state.setdefault('uploads', 0)}",  # a new one after each success
        help="Timestamps are open times: ISO-8601, digits such as 20240131 or 20240131134500, or "
        "epoch s, ms, µs; without a zone they are UTC. Up to 1,000,000 rows.",
    )
    if file is None:
        return
    st.session_state.pop("uploaded", None)
    key = ("read", file.file_id)
    reading = jobs().get(key) or jobs().submit(
        key, f"Reading {file.name}", partial(_read, file.getvalue())
    )
    if _going_on(reading, f"Nothing was stored. {file.name}"):
        bars, length = reading.result
        st.caption(
            f"{len(bars):,} bars of {bar_label(length)}, {bars.index[0]:%Y-%m-%d %H:%M:%S} to "
            f"{bars.index[-1]:%Y-%m-%d %H:%M:%S} UTC{plain(_missing(bars, length))}."
        )
        _store(store, legs, file.file_id, file.name, bars, length)


def _told() -> None:
    """What became of the last file, and the way to it."""
    done = st.session_state.get("uploaded")
    if done is None:
        return
    message, pair = done
    st.success(plain(message))
    if pair is None:
        st.caption("It makes a pair with another file, or with a live market of the same time.")
        return
    y, x = pair
    st.button(
        f"Open {plain(y.symbol)} / {plain(x.symbol)}",
        key="open-upload",
        type="primary",
        width="stretch",
        on_click=_open,
        args=pair,
    )


def _open(y: Instrument, x: Instrument) -> None:
    st.session_state.pop("uploaded", None)
    open_pair(y, x, "Pair")


def _going_on(job: Job, failed: str) -> bool:
    """Whether the job has its result; else how far it is, or what went wrong."""
    if not job.finished:
        follow(job)
    elif job.error == "cancelled":
        st.info("Stopped: nothing was stored. Choose the file again to go on.")
    elif job.error is not None:
        st.error(f"{plain(failed)}: {plain(job.error)}")
    else:
        return True
    return False


def _store(
    store: PostgresStore,
    legs: tuple[Instrument, ...],
    file_id: str,
    file_name: str,
    bars: pd.DataFrame,
    length: int,
) -> None:
    name = st.text_input("Store as", symbol_of(file_name), key=f"name-{file_id}")
    wanted = st.button("Store", type="primary", key="store", width="stretch")
    state = f"storing-{file_id}"  # under which name: it may be changed while it is stored
    storing = jobs().get(st.session_state.get(state))
    if wanted and (storing is None or storing.finished):
        try:
            symbol = check_symbol(name)
        except ValueError as error:
            st.error(f"Nothing was stored: {plain(error)}")
            return
        key = ("store", file_id, symbol)
        work = partial(_write, store, symbol, length, bars)
        storing = jobs().submit(key, f"Storing {symbol}", work, again=True)
        st.session_state[state] = key
    if storing is None or not _going_on(storing, "Nothing was stored"):
        return
    symbol, done = storing.result
    forget()
    jobs().forget(("read", file_id))
    jobs().forget(st.session_state.pop(state))
    st.session_state["uploads"] += 1
    st.session_state["uploaded"] = (
        f"{symbol}: {done.new:,} bars stored, {done.replaced:,} replaced, "
        f"{done.unchanged:,} there already. Venue Uploads has it.",
        partner_of(store, Instrument("upload", symbol), legs, bars.index[0], bars.index[-1]),
    )
    st.rerun()


def partner_of(
    store: PostgresStore,
    file: Instrument,
    legs: tuple[Instrument, ...],
    first: pd.Timestamp,
    last: pd.Timestamp,
) -> tuple[Instrument, Instrument] | None:
    """A pair to open with the file: beside x or y as chosen, else beside another file; the first
    that has bars of a common length between `first` and `last`. None where nothing has."""
    files = [Instrument("upload", symbol) for symbol in symbols_of(store).get("upload", ())]
    for other in [leg for leg in (*reversed(legs), *files) if leg != file][:PARTNERS]:
        for bar in bars_offered(store, (file, other))[:1]:
            base = base_of(store, other, bar)
            until = last + pd.Timedelta(seconds=seconds_of(bar))
            if store.reads.has_bars(*other, base, first.to_pydatetime(), until.to_pydatetime()):
                return file, other
    return None


def _write(
    store: PostgresStore, symbol: str, length: int, bars: pd.DataFrame, progress: Progress
) -> tuple[str, Uploaded]:
    return symbol, store.write_upload(symbol, length, bars, progress)


def _missing(bars: pd.DataFrame, length: int) -> str:
    """How much of the time between the first and the last bar has none."""
    span = (bars.index[-1] - bars.index[0]).total_seconds() / length + 1
    lacking = 1 - len(bars) / span
    return f"; {max(0.1, 100 * lacking):.1f} % of that time has none" if lacking > 0 else ""


def _read(content: bytes, progress: Progress) -> tuple[pd.DataFrame, int]:
    bars = read_bars(content, progress)
    return bars, bar_seconds(bars)


def symbol_of(file_name: str) -> str:
    """A symbol made of a file's name: BTCUSDT_1min.csv → BTCUSDT."""
    stem = re.sub(r"[^\w.-]", "_", Path(file_name).stem).upper()
    return (re.sub(r"[_-]\d+(S|MIN|M|H|D)$", "", stem) or "UPLOAD")[:40]
