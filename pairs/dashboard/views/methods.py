"""The methods view: docs/methods.md, a section at a time, as the page's "?" point to it."""

from __future__ import annotations

import re
from functools import lru_cache

import streamlit as st

from pairs.dashboard.context import Page
from pairs.settings import ROOT

FILE = ROOT / "docs" / "methods.md"
_HEADING = re.compile(r"^(#{2,4}) (.+)$")


def draw(page: Page) -> None:
    """The view on the page."""
    del page  # it is the same for every pair
    sections = sections_of(FILE.read_text(encoding="utf-8"))
    names = list(sections)
    asked = str(st.query_params.get("topic", ""))
    start = next((k for k, name in enumerate(names) if asked and asked in name), 0)
    chosen = st.selectbox("How it is computed", names, index=start, key=f"topic_{asked}")
    st.markdown(our_words(sections, chosen))


def our_words(sections: dict[str, str], chosen: object) -> str:
    """A section of our own page: Markdown, and meant to be."""
    return sections[str(chosen)]


@lru_cache(maxsize=2)
def sections_of(text: str) -> dict[str, str]:
    """Heading → the text below it, up to the next heading; headings without text are left out."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            lines = found.setdefault(heading[2].replace("`", ""), [])
        else:
            lines.append(_line(line))
    bodies = {name: "\n".join(body).strip() for name, body in found.items()}
    return {name: body for name, body in bodies.items() if body}


def _line(text: str) -> str:
    """A line of the source stays one on the page, but within a table."""
    return text if not text or text.startswith("|") else f"{text}  "
