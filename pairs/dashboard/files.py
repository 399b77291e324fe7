"""The users' files: what is stored of them, and the form that renames or removes one."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from pairs.dashboard.context import Page, forget, uploads_of
from pairs.figures.plain import plain
from pairs.market import bar_label
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.files import remove_upload, rename_upload
from pairs.storage.postgres import PostgresStore

ASKED = "remove_asked"  # the file that is removed once that is said again


def files_table(page: Page) -> pd.DataFrame:
    """A row per file and length of its bars."""
    table = uploads_of(page.store).copy()
    table.insert(1, "bar", [bar_label(int(length)) for length in table.pop("bar_s")])
    return table


def files_form(page: Page) -> None:
    """Choose a file, give it another name, or remove it, which is asked once more."""
    told = st.session_state.pop("file_told", None)
    if told is not None:
        (st.error if told[0] == "bad" else st.success)(told[1])
    table = uploads_of(page.store)
    names = list(dict.fromkeys(table["symbol"]))
    if not names:
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    symbol = str(row.selectbox("File", names, key="file", width=240, format_func=plain))
    name = row.text_input("New name", symbol, key=f"rename_{symbol}", width=240)
    row.button(
        "Rename",
        key="file_rename",
        disabled=name.strip().upper() == symbol,
        on_click=_rename,
        args=(page.store, symbol, name),
    )
    if st.session_state.get(ASKED) != symbol:
        row.button("Remove …", key="file_remove", on_click=_ask, args=(symbol,))
        return
    bars = int(table.loc[table["symbol"] == symbol, "bars"].sum())
    st.warning(f"Remove {bars:,} bars of {plain(symbol)}? They cannot be had back from here.")
    answer = st.container(horizontal=True)
    answer.button(
        f"Remove {plain(symbol)}",
        key="file_remove_yes",
        type="primary",
        on_click=_remove,
        args=(page.store, symbol),
    )
    answer.button("Keep it", key="file_remove_no", on_click=_ask, args=(None,))


def _ask(symbol: str | None) -> None:
    st.session_state[ASKED] = symbol


def _rename(store: PostgresStore, symbol: str, name: str) -> None:
    def rename() -> str:
        new = rename_upload(store, symbol, name)
        for key in ("y", "x"):  # whoever looks at it goes on looking at it
            for old, now in ((symbol, new), (f"upload:{symbol}", f"upload:{new}")):
                if st.session_state.get(key) == old and (old != symbol or _at_home()):
                    st.session_state[key] = now
        return f"{plain(symbol)} is called {plain(new)} from now on."

    _tell(rename)


def _at_home() -> bool:
    """Whether symbols alone are those of files."""
    return st.session_state.get("venue") == "upload"


def _remove(store: PostgresStore, symbol: str) -> None:
    def remove() -> str:
        return f"{plain(symbol)} was removed: {remove_upload(store, symbol):,} bars."

    st.session_state[ASKED] = None
    _tell(remove)


def _tell(change: Callable[[], str]) -> None:
    try:
        st.session_state["file_told"] = ("good", change())
    except (ValueError, *DATABASE_ERRORS) as error:
        st.session_state["file_told"] = ("bad", f"Nothing was changed: {plain(error)}")
    forget()
