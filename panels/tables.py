"""Small tables as HTML: aligned numbers, tones, every text escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Cell = str | tuple[str, str]  # text, or text and its tone: good, warn, bad


def table_html(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]],
    numeric: Sequence[int],
) -> str:  # fmt: skip
    """A table; cells are text or (text, tone), columns in `numeric` are aligned right."""

    def cell(k: int, content: Cell) -> str:
        text, tone = (content, "") if isinstance(content, str) else content
        return f'<td class="{"n " if k in numeric else ""}{tone}">{escape(text)}</td>'

    head = "".join(
        f'<th scope="col" class="{"n" if k in numeric else ""}">{escape(name)}</th>'
        for k, name in enumerate(heads)
    )
    body = "".join(
        f"<tr>{''.join(cell(k, content) for k, content in enumerate(row))}</tr>" for row in rows
    )
    return (
        f'<div class="pw"><p class="pw-title">{escape(title)}</p><table class="pw-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
