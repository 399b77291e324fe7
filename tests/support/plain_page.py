"""A page of hostile texts, each in every kind of element that reads Markdown; see test_plain."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from pairs.figures.plain import plain

for number, text in enumerate(json.loads(os.environ["HOSTILE"])):
    shown = plain(text)
    with st.container(key=f"case-{number}"):
        st.error(f"Nothing was stored: {shown} (row 2)")
        st.markdown(shown)
        st.caption(shown)
        st.button(shown, key=f"button-{number}")
        st.segmented_control("one", [text], key=f"choice-{number}", format_func=plain)
        st.progress(0.5, text=shown)
st.html("<p id='all-drawn'>all drawn</p>")
