"""Text from outside on a page that reads Markdown: names, cells of files, errors of servers. Pure.

Most of Streamlit's elements take their text, their label or their help as Markdown, with pictures,
links, colours and formulas in it. What is not a sentence of this program goes through `plain`, and
into a figure through `figure_text`, because Plotly reads tags and links in every title and name.
"""

from __future__ import annotations

import re
from html import escape

_SIGNS = re.compile(r"[\\`*\[\]<>$&~]|(?<![^\W_])_|_(?![^\W_])")
_START = re.compile(r"^(?:[#+-]|\d+(?=[.)]$))")  # headings, lists
_DIRECTIVE = re.compile(r":(?=[^\W\d])")  # :red[…], :small
# What becomes a link, an icon or another sign only after Markdown was read, where no backslash
# helps: addresses, :emoji:, arrows. Within code nothing is replaced.
_REPLACED = re.compile(r"://|www\.|@|:[\w+-]+:|^(?:<->|->|<-|--|>=|<=|~=)$", re.IGNORECASE)
_TIME = re.compile(r"(?<=\d\d):(?=\d\d(?!\d))")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ICON = ":material/"  # Streamlit rewrites it before it reads Markdown, within code too


def plain(text: object) -> str:
    """`text` as Markdown that shows just that, on one line: no picture, link, style or icon."""
    return " ".join(_word(_UNSEEN.sub("\ufffd", word)) for word in str(text).split())


def figure_text(text: object) -> str:
    """`text` as Plotly shows it unchanged: as a name or title, or within a hover template."""
    return escape(_UNSEEN.sub("\ufffd", str(text)), quote=False).replace("%{", "&#37;{")


def _word(word: str) -> str:
    if not _REPLACED.search(_TIME.sub("·", word)):
        word = _START.sub(_escaped_end, _SIGNS.sub(r"\\\g<0>", word))
        return _DIRECTIVE.sub(r"\\:", word).replace(f"\\{_ICON}", f"&#58;{_ICON[1:]}")
    head, icon, tail = word.partition(_ICON)
    return _code(f"{head}:") + "m" + _word(f"aterial/{tail}") if icon else _code(word)


def _escaped_end(found: re.Match[str]) -> str:
    """Of `#` and `-` the sign, of `1.` the dot."""
    start = found.group()
    return f"{start}\\" if start[0].isdigit() else f"\\{start}"


def _code(word: str) -> str:
    """A code span; its fence is longer than any run of backticks within."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", word)), default=0))
    edge = " " if word[0] == "`" or word[-1] == "`" else ""
    return f"{fence}{edge}{word}{edge}{fence}"
