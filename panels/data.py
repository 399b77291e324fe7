"""The data view: upload, download, and a look at the stored bars."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from bars_csv import CsvError, bar_seconds, frame_csv, read_bars_csv, write_bars_csv
from live import Leg, Snapshot
from market import Instrument, bar_label, check_symbol
from pair import PairView, pair_view
from panels.desk import Desk, forget
from panels.theme import decimals_of
from storage.postgres import PostgresStore

SHOWN = 500
SPANS: dict[str, float | None] = {
    "1 h": 3600.0, "1 day": 86_400.0, "7 days": 604_800.0, "Everything": None,
}  # fmt: skip
PAIR_COLUMNS = ["close_y", "close_x", "beta", "intercept", "spread", "zscore", "correlation"]


def draw(desk: Desk) -> None:
    """Downloads on the left, upload on the right, the newest bars below."""
    left, right = st.columns(2, gap="large")
    with right:
        upload(desk.store)
    with left:
        downloads(desk)
    st.subheader("Newest bars", anchor=False)
    desk.live("Newest bars", table)


def downloads(desk: Desk) -> None:
    """One button per file, made from the database at the click. Not refreshed by itself: a
    button must not change under the mouse."""
    st.subheader("Download", anchor=False)
    choice = desk.choice
    span = st.segmented_control(
        "Bars of the last", list(SPANS), required=True, key="span", bind="query-params",
        default="Everything" if choice.y.venue == "upload" else "1 day",
    )  # fmt: skip
    seconds = SPANS[str(span)]
    for side, leg in (("y", choice.y), ("x", choice.x)):
        st.download_button(
            f"{leg.symbol} bars of {choice.bar}", partial(leg_csv, desk, leg, seconds),
            f"{leg.symbol}_{choice.bar}.csv", "text/csv",
            on_click="ignore", width="stretch", key=f"download-{side}",
        )  # fmt: skip
    st.download_button(
        "Spread, z-score, β, correlation", partial(pair_csv, desk, seconds),
        f"{choice.y.symbol}-{choice.x.symbol}_{choice.bar}_pair.csv", "text/csv",
        on_click="ignore", width="stretch", key="download-pair",
    )  # fmt: skip
    st.caption("Closed bars as of the click, times in UTC.")


def leg_csv(desk: Desk, leg: Instrument, seconds: float | None) -> bytes:
    """The bars of one leg."""
    return write_bars_csv(desk.stored(leg, seconds)).encode()


def pair_csv(desk: Desk, seconds: float | None) -> bytes:
    """The pair's figures, warm-up rows included and empty."""
    y, x = (desk.stored(leg, seconds) for leg in desk.choice.pair)
    return frame_csv(pair_view(y, x, desk.choice.spec).frame[PAIR_COLUMNS]).encode()


def table(desk: Desk) -> None:
    """The pair's newest closed bars."""
    snapshot, view = desk.now()
    st.caption(f"The last {SHOWN} closed bars of the pair, newest first.")
    st.dataframe(
        newest(snapshot, view), height=320, width="stretch",
        column_config={
            "ts": st.column_config.DatetimeColumn("time, UTC", format="YYYY-MM-DD HH:mm:ss"),
            snapshot.y.symbol: st.column_config.NumberColumn(format=f"%.{places(snapshot.y)}f"),
            snapshot.x.symbol: st.column_config.NumberColumn(format=f"%.{places(snapshot.x)}f"),
            "beta": st.column_config.NumberColumn("β", format="%.6f"),
            "intercept": st.column_config.NumberColumn("α", format="%.4f"),
            "spread": st.column_config.NumberColumn(format="%.4f"),
            "zscore": st.column_config.NumberColumn("z-score", format="%.3f"),
            "correlation": st.column_config.NumberColumn(format="%.3f"),
        },
    )  # fmt: skip


def places(leg: Leg) -> int:
    return decimals_of(leg.closed["close"].to_numpy())


def newest(snapshot: Snapshot, view: PairView) -> pd.DataFrame:
    """The pair's last rows, newest first, with the legs' names."""
    rows = view.frame[PAIR_COLUMNS].tail(SHOWN).iloc[::-1]
    return rows.rename(columns={"close_y": snapshot.y.symbol, "close_x": snapshot.x.symbol})


def upload(store: PostgresStore) -> None:
    """Take a CSV of bars, say what is in it, store it under a name the user may change."""
    st.subheader("Upload", anchor=False)
    message = st.session_state.pop("uploaded", None)
    if message:
        st.success(message)
    file = st.file_uploader(
        "CSV with timestamp, open, high, low, close, volume", type=["csv"],
        key=f"file-{st.session_state.setdefault('uploads', 0)}",  # a new one after each success
        help="Timestamps in ISO-8601 or epoch s, ms, µs; without a zone they are taken as UTC.",
    )  # fmt: skip
    if file is None:
        return
    try:
        with st.spinner("Reading"):
            bars = read_bars_csv(file.getvalue())
            length = bar_seconds(bars)
    except CsvError as error:
        st.error(f"Nothing was stored. {file.name}: {error}")
        return
    st.write(
        f"{len(bars):,} bars of {bar_label(length)}, "
        f"{bars.index[0]:%Y-%m-%d %H:%M:%S} to {bars.index[-1]:%Y-%m-%d %H:%M:%S} UTC."
    )
    name = st.text_input("Store as", symbol_of(file.name), key=f"name-{file.file_id}")
    if not st.button("Store", type="primary", key="store"):
        return
    try:
        symbol = check_symbol(name)
    except ValueError as error:
        st.error(f"Nothing was stored: {error}")
        return
    with st.spinner("Storing"):
        done = store.write_upload(symbol, length, bars)
    forget()
    st.session_state["uploads"] += 1
    st.session_state["uploaded"] = (
        f"{symbol}: {done.new:,} bars stored, {done.replaced:,} replaced, "
        f"{done.unchanged:,} there already. Find it under venue Uploads; a pair needs two."
    )
    st.rerun()


def symbol_of(file_name: str) -> str:
    """A symbol made of a file's name: BTCUSDT_1min.csv → BTCUSDT."""
    stem = re.sub(r"[^\w.-]", "_", Path(file_name).stem).upper()
    return (re.sub(r"[_-]\d+(S|MIN|M|H|D)$", "", stem) or "UPLOAD")[:40]
