"""What an enemy writes into names, cells and files."""

from __future__ import annotations

PICTURE = "![x](http://evil.example/p.png)"
TAG = "<img src=http://evil.example/q.png>"
HOSTILE = [
    PICTURE,
    TAG,
    f"{PICTURE} **bold** :red[red] $x^2$ `code`",
    "[a](http://evil.example)",
    "see http://evil.example/x now",
    "www.evil.example",
    "a@evil.example",
    "<b>bold</b>",
    "a<b>c",
    ":material/home: :streamlit: :smile: :100: :+1:",
    ":material_home:",
    "x :small[y] :red :help",
    ":red-background[x] :blue-badge[x]",
    "# heading",
    "- item",
    "+ item",
    "1. first",
    "2) second",
    "> quote",
    "---",
    "***",
    "~~gone~~ ~one~",
    "_a_ __b__ *c* exit_z=3 snake__case",
    "a -> b <- c",
    "x >= 1 -- y ~= 2",
    "$$\\int x$$ $5 and $6",
    "&lt;b&gt; &amp; &#33;",
    "back\\slash \\* \\",
    "``two`` `one ```three",
    "`",
    "[x]: http://evil.example",
    "[^1]",
    "| a | b |",
    "!",
    "a ![",
    "http://evil.example:80/:material/home:",
    "2024-01-01T09:30:00Z 12:00",
    "row 2: open '1,5'",
    "local:ETHUSDT",
    "https://user:pw@evil.example/?q=`x`",
    "日本 _x_ é*y*",
    "{x} :red{.y}",
    "::leaf[x] :::box",
    "<!-- x -->",
    "<https://evil.example>",
    "a\u202eb\u0007c",
    "* * *",
]


def as_shown(text: str) -> str:
    """What a reader should see of it: white space as one, what cannot be seen as a sign."""
    return " ".join(text.replace("\u202e", "\ufffd").replace("\u0007", "\ufffd").split())
