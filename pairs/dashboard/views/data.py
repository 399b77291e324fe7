"""The data view: an explorer of what is stored, and every export."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pandas as pd
import streamlit as st

from pairs.analytics.features import feature_table
from pairs.analytics.pair import pair_view
from pairs.bars.files import frame_csv, write_bars_csv
from pairs.dashboard.context import Page, shared_read
from pairs.dashboard.download import download_button
from pairs.dashboard.files import files_form, files_table
from pairs.dashboard.provenance import file_name
from pairs.figures.plain import plain
from pairs.figures.theme import decimals_of, number
from pairs.live.bars import Leg
from pairs.market import Instrument

SHOWN = 500
MOST_TRADES = 2_000_000
SPANS: dict[str, float | None] = {
    "1 h": 3600.0,
    "1 day": 86_400.0,
    "7 days": 604_800.0,
    "Everything": None,
}
PAIR_COLUMNS = ["close_y", "close_x", "beta", "intercept", "spread", "zscore", "correlation"]
Make = Callable[[], pd.DataFrame]


def draw(page: Page) -> None:
    """Downloads, and what is stored below."""
    downloads(page)
    explorer(page)


# -- downloads


def downloads(page: Page) -> None:
    """One button per file, made from the database at the click. Not refreshed by itself: a
    button must not change under the mouse."""
    st.subheader("Download", anchor=False)
    choice = page.choice
    row = st.container(horizontal=True, vertical_alignment="bottom")
    start = "Everything" if choice.y.venue == "upload" else "1 day"
    span = row.segmented_control(
        "The last",
        list(SPANS),
        required=True,
        key=f"span_{start}".replace(" ", "_"),
        bind="query-params",
        default=start,
    )
    parquet = (
        row.segmented_control(
            "Format",
            ["CSV", "Parquet"],
            default="CSV",
            required=True,
            key="format",
            bind="query-params",
        )
        == "Parquet"
    )
    ahead = int(
        row.number_input(
            "Labels, bars ahead",
            0,
            1000,
            0,
            key="horizon",
            bind="query-params",
            width=150,
            help="Labels for training in the feature table; 0: none. They look into the future.",
        )
    )
    seconds = SPANS[str(span)]
    pair = file_name(choice.pair, choice.bar)
    columns = st.columns(2)
    for column, side, leg in zip(columns, "yx", choice.pair, strict=True):
        with column:
            _button(
                f"{leg.symbol} bars of {choice.bar}",
                file_name([leg], choice.bar),
                partial(page.stored, leg, seconds),
                f"download-{side}",
                parquet,
                bars=True,
            )
            if leg.venue != "upload":
                _button(
                    f"{leg.symbol} trades",
                    file_name([leg], "trades"),
                    partial(trades_of, page, leg, seconds),
                    f"download-trades-{side}",
                    parquet,
                )
    with columns[0]:
        _button(
            "Spread, z-score, β, correlation",
            f"{pair}_pair",
            partial(pair_of, page, seconds),
            "download-pair",
            parquet,
        )
    with columns[1]:
        _button(
            "Feature table",
            f"{pair}_features",
            partial(features_of, page, seconds, ahead),
            "download-features",
            parquet,
            disabled=choice.spec.hedge == "ols",
            why="A whole-sample hedge ratio has seen the future: choose another",
        )
    st.caption(
        f"Closed bars as of the click, times in UTC; of trades the newest {MOST_TRADES:,} at most."
    )


def _button(
    label: str,
    name: str,
    make: Make,
    key: str,
    parquet: bool,
    *,
    bars: bool = False,
    disabled: bool = False,
    why: str | None = None,
) -> None:
    ending, kind = ("parquet", "application/octet-stream") if parquet else ("csv", "text/csv")
    download_button(
        label,
        partial(file_of, make, parquet, bars),
        f"{name}.{ending}",
        kind,
        key=key,
        width="stretch",
        disabled=disabled,
        help=why if disabled else None,
    )


def file_of(make: Make, parquet: bool, bars: bool) -> bytes:
    """The frame as a file whose first column is `timestamp`; bars as CSV can be uploaded again."""
    frame = make()
    if not parquet:
        return (write_bars_csv(frame) if bars else frame_csv(frame)).encode()
    buffer = io.BytesIO()
    frame.rename_axis("timestamp").reset_index().to_parquet(buffer, index=False)
    return buffer.getvalue()


def pair_of(page: Page, seconds: float | None) -> pd.DataFrame:
    """The pair's figures, warm-up rows included and empty."""
    y, x = (page.stored(leg, seconds) for leg in page.choice.pair)
    return pair_view(y, x, page.choice.spec).frame[PAIR_COLUMNS]


def features_of(page: Page, seconds: float | None, ahead: int) -> pd.DataFrame:
    """The feature table of the pair."""
    y, x = (page.stored(leg, seconds) for leg in page.choice.pair)
    return feature_table(y, x, page.choice.spec, horizon=ahead or None)


def trades_of(page: Page, leg: Instrument, seconds: float | None) -> pd.DataFrame:
    """Stored trades up to now, in the order of their ids."""
    end = datetime.now(UTC) + timedelta(days=1)  # the exchange's clock may run ahead of ours
    start = datetime(1970, 1, 1, tzinfo=UTC)
    if seconds is not None:
        start = datetime.now(UTC) - timedelta(seconds=seconds)
    return page.store.reads.ticks(*leg, start, end, MOST_TRADES)


# -- explorer


def explorer(page: Page) -> None:
    """What is stored, newest first."""
    y, x = (leg.symbol for leg in page.choice.pair)
    st.subheader("Stored", anchor=False)
    sets: dict[str, Callable[[Page], None]] = {
        "Pair": pair_table,
        f"{y} bars": partial(bars_table, k=0),
        f"{x} bars": partial(bars_table, k=1),
    }
    for leg in page.choice.pair:
        if leg.venue != "upload":
            sets[f"{leg.symbol} trades"] = partial(trades_table, leg=leg)
    sets |= {"Files": uploads_table, "Gaps": gaps_table, "Quarantine": quarantine_table}
    chosen = st.segmented_control(
        "Show",
        list(sets),
        default="Pair",
        required=True,
        key="stored",
        bind="query-params",
        format_func=plain,
        label_visibility="collapsed",
    )
    page.live("Stored", sets.get(str(chosen), pair_table))
    if chosen == "Files":
        files_form(page)


def _table(frame: pd.DataFrame, formats: dict[str, int], empty: str) -> None:
    """A frame on the page; `formats`: the decimals of its numbers."""
    if frame.empty:
        st.info(plain(empty))
        return
    when = st.column_config.DatetimeColumn
    config = {
        name: when(f"{name}, UTC", format="YYYY-MM-DD HH:mm:ss.SSS")
        for name in frame.columns
        if isinstance(frame[name].dtype, pd.DatetimeTZDtype)
    }
    parts = ".SSS" if "trade_id" in frame else ""
    config["ts"] = when("time, UTC", format=f"YYYY-MM-DD HH:mm:ss{parts}")
    st.dataframe(
        frame.style.format(
            {name: partial(number, decimals=d) for name, d in formats.items() if name in frame}
        ),
        height=320,
        width="stretch",
        column_config=config,
        hide_index=frame.index.name != "ts",
    )


def pair_table(page: Page) -> None:
    """The pair's newest closed bars."""
    snapshot, view = page.now()
    rows = view.frame[PAIR_COLUMNS].tail(SHOWN).iloc[::-1]
    names = {
        "close_y": snapshot.y.symbol,
        "close_x": snapshot.x.symbol,
        "beta": "β",
        "intercept": "α",
        "zscore": "z-score",
    }
    formats = {leg.symbol: places(leg) for leg in snapshot.legs}
    formats |= {
        "β": 6,
        "α": 4,
        "spread": 4,
        "z-score": 3,
        "correlation": 3,
    }
    st.caption(f"The last {SHOWN} closed bars that both legs have, newest first.")
    _table(rows.rename(columns=names), formats, "No closed bar of this pair is stored yet.")


def bars_table(page: Page, k: int) -> None:
    """One leg's newest closed bars."""
    leg = page.snapshot().legs[k]
    formats = dict.fromkeys(("open", "high", "low", "close"), places(leg))
    formats |= dict.fromkeys(("volume", "taker_buy_volume"), 6)
    formats |= {"quote_volume": 2, "trades": 0}
    st.caption(f"The last {SHOWN} closed bars, newest first.")
    _table(leg.closed.tail(SHOWN).iloc[::-1], formats, "No closed bar is stored yet.")


def trades_table(page: Page, leg: Instrument) -> None:
    """One leg's newest trades."""
    end = datetime.now(UTC) + timedelta(days=1)
    start = datetime.now(UTC) - timedelta(days=2)
    trades = shared_read(lambda: page.store.reads.ticks(*leg, start, end, SHOWN), ("trades", leg))
    frame = trades.iloc[::-1].reset_index()  # several may share a time
    frame["aggressor"] = frame.pop("buyer_is_maker").map({True: "sold", False: "bought"})
    formats = {
        "trade_id": 0,
        "price": decimals_of(frame["price"].to_numpy()),
        "size": 6,
    }
    st.caption(f"The last {SHOWN} trades of the last two days, newest first.")
    _table(frame, formats, "No trade of the last two days is stored.")


def uploads_table(page: Page) -> None:
    """The files stored so far."""
    st.caption("What was uploaded: the field for it stands at the left, below the controls.")
    _table(files_table(page), {"bars": 0}, "No file was uploaded yet.")


def gaps_table(page: Page) -> None:
    """Holes in the ids of the pair's legs, and what became of them."""
    st.caption(f"The last {SHOWN} holes in the trade ids of the two legs, newest first.")
    pair = page.choice.pair
    gaps = shared_read(lambda: page.store.reads.gaps(pair, SHOWN), ("gaps", *pair))
    formats = dict.fromkeys(("first id", "last id", "trades"), 0)
    _table(gaps, formats, "No trade of these legs was ever missing.")


def quarantine_table(page: Page) -> None:
    """What arrived and is no trade, with the reason."""
    st.caption(f"The last {SHOWN} frames of any feed that could not be stored as a trade.")
    frames = shared_read(lambda: page.store.reads.quarantine(SHOWN), ("quarantine",))
    _table(frames, {}, "Every frame received was understood.")


def places(leg: Leg) -> int:
    """Decimals of a leg's prices."""
    return decimals_of(leg.closed["close"].to_numpy())
