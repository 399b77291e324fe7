"""Small tables as HTML: aligned numbers, tones, every text escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pairs.figures.hints import hint_html

Cell = str | tuple[str, str]  # text, or text and its tone: good, warn, bad; y, x


def table_html(
    title: str,
    heads: Sequence[Cell],
    rows: Sequence[Sequence[Cell]],
    numeric: Sequence[int],
    *,
    dense: bool = False,
    label: str = "",
) -> str:
    """A table; cells are text or (text, tone), columns in `numeric` are aligned right. `label`
    names it to a screen reader where there is no title. A first cell of which there is more to
    say has a "?"."""

    def cell(k: int, content: Cell, tag: str = "td", more: str = "") -> str:
        text, tone = (content, "") if isinstance(content, str) else content
        style, hint = f"{'n ' if k in numeric else ''}{tone}", "" if k else hint_html(text)
        return f'<{tag}{more} class="{style}">{escape(text)}{hint}</{tag}>'

    head = "".join(cell(k, name, "th", ' scope="col"') for k, name in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(cell(k, content) for k, content in enumerate(row))}</tr>" for row in rows
    )
    name = f'<p class="pw-title">{escape(title)}{hint_html(title)}</p>' if title else ""
    style = "pw-table pw-dense" if dense else "pw-table"
    return (
        f'<div class="pw">{name}<table class="{style}" aria-label="{escape(title or label)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def note_html(*sentences: str) -> str:
    """A muted line under a table or a chart."""
    return f'<p class="pw pw-note">{escape(" ".join(sentences))}</p>'
