"""Downloads that are made at the click and stay until the browser has fetched them.

Streamlit forgets a file made at the click after two further runs of any session, which at a fast
refresh or with a few tabs is sooner than the browser asks for it: HTTP 404, and nothing is saved.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator

from pairs.figures.plain import plain

KEEP_S = 30.0  # from made to asked for, on a slow line
PLACES = 64  # files kept at once at most: a further one takes the place of the oldest
_numbers = itertools.count()


def download_button(
    label: str,
    make: Callable[[], bytes],
    file_name: str,
    kind: str,
    *,
    key: str,
    place: DeltaGenerator | None = None,
    **more: Any,
) -> None:
    """A button in `place` (default: here) that saves what `make` gives as a file of MIME type
    `kind`. The page does not run again for it."""
    (place or st).download_button(
        plain(label),
        lambda: lasting(make(), file_name, kind),
        file_name,
        kind,
        key=key,
        on_click="ignore",
        icon=":material/download:",
        **more,
    )


def lasting(content: bytes, file_name: str, kind: str) -> bytes:
    """`content`, held by the server for KEEP_S. Streamlit names files by what is in them, so that
    the one it is about to store is the one held."""
    if runtime.exists():
        files = runtime.get_instance().media_file_mgr
        where = f"{__name__}-{next(_numbers) % PLACES}"

        def hold(what: bytes) -> None:
            files.add(what, kind, where, file_name, is_for_static_download=True)

        hold(content)
        release = threading.Timer(KEEP_S, hold, (b"",))  # nothing takes the place of the file
        release.daemon = True
        release.start()
    return content
