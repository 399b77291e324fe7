"""Taking a user's CSV of bars: read beside the page, told, named, stored whole or not at all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from bars_csv import bar_seconds, read_bars_csv
from jobs import Progress
from market import bar_label, check_symbol
from panels.desk import follow, forget, jobs
from storage.postgres import PostgresStore, Uploaded


def upload(store: PostgresStore) -> None:
    """Take a CSV, say what is in it, store it under a name the user may change."""
    st.subheader("Upload", anchor=False)
    message = st.session_state.pop("uploaded", None)
    if message:
        st.success(message)
    file = st.file_uploader(
        "CSV with timestamp, open, high, low, close, volume", type=["csv"],
        key=f"file-{st.session_state.setdefault('uploads', 0)}",  # a new one after each success
        help="Timestamps in ISO-8601 or epoch s, ms, µs; without a zone they are taken as UTC. "
        "Up to 1,000,000 rows.",
    )  # fmt: skip
    if file is None:
        return
    reading = jobs().submit(
        ("read", file.file_id), f"Reading {file.name}", partial(_read, file.getvalue())
    )
    if not reading.finished:
        follow(reading)
        return
    if reading.error is not None:
        st.error(f"Nothing was stored. {file.name}: {reading.error}")
        return
    bars, length = reading.result
    st.write(
        f"{len(bars):,} bars of {bar_label(length)}, "
        f"{bars.index[0]:%Y-%m-%d %H:%M:%S} to {bars.index[-1]:%Y-%m-%d %H:%M:%S} UTC."
    )
    _store(store, file.file_id, file.name, bars, length)


def _store(
    store: PostgresStore, file_id: str, file_name: str, bars: pd.DataFrame, length: int
) -> None:
    name = st.text_input("Store as", symbol_of(file_name), key=f"name-{file_id}")
    wanted = st.button("Store", type="primary", key="store")
    try:
        symbol = check_symbol(name)
    except ValueError as error:
        st.error(f"Nothing was stored: {error}")
        return
    key = ("store", file_id, symbol)
    storing = jobs().get(key)
    if wanted and (storing is None or storing.finished):
        storing = jobs().submit(key, f"Storing {symbol}",
                                partial(store.write_upload, symbol, length, bars),
                                again=True)  # fmt: skip
    if storing is None:
        return
    if not storing.finished:
        follow(storing)
        return
    if storing.error is not None:
        st.error(f"Nothing was stored: {storing.error}")
        return
    done: Uploaded = storing.result
    forget()
    st.session_state["uploads"] += 1
    st.session_state["uploaded"] = (
        f"{symbol}: {done.new:,} bars stored, {done.replaced:,} replaced, "
        f"{done.unchanged:,} there already. Find it under venue Uploads, or beside a live market."
    )
    st.rerun()


def _read(content: bytes, progress: Progress) -> tuple[pd.DataFrame, int]:
    progress(0, 2)
    bars = read_bars_csv(content)
    progress(1, 2)
    return bars, bar_seconds(bars)


def symbol_of(file_name: str) -> str:
    """A symbol made of a file's name: BTCUSDT_1min.csv → BTCUSDT."""
    stem = re.sub(r"[^\w.-]", "_", Path(file_name).stem).upper()
    return (re.sub(r"[_-]\d+(S|MIN|M|H|D)$", "", stem) or "UPLOAD")[:40]
