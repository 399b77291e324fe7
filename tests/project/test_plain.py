"""No text from outside is Markdown, HTML or a tag in a figure, wherever the page shows it."""

from __future__ import annotations

import ast
import json
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict

from pairs.alerts.store import create_rule
from pairs.figures import market, pair
from pairs.figures.plain import figure_text, plain
from pairs.figures.statistics import correlation_figure
from pairs.market import Instrument, Rejected, check_symbol
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import price_rule
from tests.support.hostile import PICTURE, TAG
from tests.support.pages import fill, snapshot, view
from tests.support.rows import trade
from tests.support.sink import Sink
from watch_alerts import open_channels

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]
PAGE = [ROOT / "dashboard_streamlit.py", *sorted((ROOT / "pairs/dashboard").rglob("*.py"))]
# What reads Markdown: by the name of the call, which of its arguments.
MARKDOWN: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(
        (
            "write",
            "markdown",
            "caption",
            "error",
            "warning",
            "info",
            "success",
            "title",
            "header",
            "subheader",
            "toast",
            "badge",
        ),
        (0, "body", "help"),
    ),
    **dict.fromkeys(
        (
            "button",
            "download_button",
            "link_button",
            "checkbox",
            "toggle",
            "radio",
            "selectbox",
            "multiselect",
            "pills",
            "segmented_control",
            "number_input",
            "text_input",
            "text_area",
            "slider",
            "date_input",
            "time_input",
            "file_uploader",
            "form_submit_button",
            "expander",
            "popover",
            "tabs",
            "metric",
            "status",
            "spinner",
            "Column",
            "NumberColumn",
            "DatetimeColumn",
        ),
        (0, "label", "help"),
    ),
    "progress": ("text",),
}
SAFE = {
    "_about",  # each of its parts is plain
    "link_words",
    "our_words",  # docs/methods.md
    "plain",
    "number",
    "percent",
    "significant",
    "duration",
    "stretch",
    "clock",
    "bar_label",
    "len",
    "max",
    "min",
    "abs",
    "round",
    "int",
    "float",
}


def is_ours(node: ast.expr) -> bool:
    """Whether an expression can only hold this program's own words and figures."""
    match node:
        case ast.Constant():
            return True
        case ast.JoinedStr():
            return all(is_ours(part) for part in node.values)
        case ast.FormattedValue():  # a format of numbers or times refuses text
            form = node.format_spec
            return form is not None or is_ours(node.value)
        case ast.Call(func=ast.Name(id=name)):
            return name in SAFE
        case ast.IfExp():
            return is_ours(node.body) and is_ours(node.orelse)
        case ast.BinOp():
            return is_ours(node.left) and is_ours(node.right)
        case ast.Name(id=name):
            return name.isupper()
        case ast.Subscript(value=ast.Name(id=name)):
            return name.isupper()
    return False


def doubtful(path: Path) -> list[str]:
    found = []
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        wanted = MARKDOWN.get(call.func.attr, ())
        given = {**dict(enumerate(call.args)), **{k.arg: k.value for k in call.keywords if k.arg}}
        found += [
            f"{path.name}:{call.lineno} {call.func.attr}({ast.unparse(given[key])})"
            for key in wanted
            if key in given and not is_ours(given[key])
        ]
    return found


def test_what_reads_markdown_is_given_our_words_or_plain_text() -> None:
    assert [place for path in PAGE for place in doubtful(path)] == []


# -- every place, in Streamlit's own harness


READS_MARKDOWN = ("body", "label", "help", "text", "content")


def hostile_store(store: PostgresStore) -> None:
    """Everything that others write, written by an enemy; names too, past every check."""
    fill(store)
    store.write("local", [trade(900, time.time_ns() // 1000, symbol="ETHUSDT", price=2_500.0)])
    store.quarantine("local", [Rejected(f"{PICTURE} {TAG}", f"{PICTURE} {TAG}", PICTURE)])
    legs = [Instrument("local", "ETHUSDT"), Instrument("local", "BTCUSDT")]
    create_rule(store, price_rule(y=legs[0], x=legs[1], bar="1s", name="name", threshold=1.0))
    bad = f"{PICTURE} {TAG}"
    with store.transaction() as cursor:
        for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT"):
            cursor.execute(
                "UPDATE instrument SET symbol = %s WHERE symbol = %s", (f"{symbol}{bad}", symbol)
            )
        cursor.execute(
            "UPDATE feed SET detail = %s, state = 'disconnected', heartbeat = now()", (bad,)
        )
        cursor.execute("UPDATE gap SET reason = %s", (bad,))
        cursor.execute(
            "UPDATE alert_rule SET rule = jsonb_set(rule, '{name}', to_jsonb(%s::text))", (bad,)
        )
        cursor.execute("INSERT INTO alert_channel VALUES (%s, true, NULL, %s, now())", (bad, bad))
        cursor.execute(
            "INSERT INTO alert_event (rule_id, revision, ts, edge, known_at, rule, value, figures,"
            " title, body) SELECT rule_id, 1, now(), 'up', now(), rule, 1, %s, %s, %s"
            " FROM alert_rule",
            (json.dumps({bad: 1.0}), bad, bad),
        )


def shown_texts(page: AppTest) -> Iterator[tuple[str, str]]:
    """Type of element and text of everything on the page that is read as Markdown or HTML; code
    spans, in which nothing is read, are left out."""

    def strings(message: Any, key: str = "") -> Iterator[tuple[str, str]]:
        if isinstance(message, str):
            yield key, message
        elif isinstance(message, list):
            for part in message:
                yield from strings(part, key)
        elif isinstance(message, dict):
            for name, part in message.items():
                yield from strings(part, name)

    def nodes(node: Any) -> Iterator[Any]:
        yield node
        for child in getattr(node, "children", {}).values():
            yield from nodes(child)

    for node in nodes(page._tree):
        proto = getattr(node, "proto", None)
        if proto is not None and hasattr(proto, "DESCRIPTOR"):
            for key, text in strings(MessageToDict(proto)):
                if key in READS_MARKDOWN:
                    yield str(node.type), re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def test_no_view_shows_an_enemys_words_as_markdown_or_html(
    page: AppTest, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    toasts: list[str] = []
    monkeypatch.setattr("streamlit.toast", lambda text, **_: toasts.append(text))
    hostile_store(store)
    page.session_state["alerts_seen"] = 0
    page.query_params["y"] = f"{PICTURE}{TAG}"
    page.run()
    seen = 0
    for name in ("Market", "Pair", "Statistics", "Scanner", "Backtest", "Alerts", "Data", "System"):
        page.segmented_control(key="view").set_value(name).run()
        sets = page.segmented_control(key="stored").options if name == "Data" else [None]
        for chosen in sets:
            if chosen is not None:
                page.segmented_control(key="stored").set_value(chosen).run()
            assert not page.exception
            for kind, text in shown_texts(page):
                assert "![x](" not in text or kind == "html", (name, kind, text)
                assert "<img" not in text.replace("\\<img", ""), (name, kind, text)
                seen += "evil.example" in text
    assert seen > 10
    assert toasts
    assert not any("![x](" in re.sub("`.*?`", "", text) for text in toasts)


def test_a_refused_file_cannot_write_on_the_page(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    text = f"timestamp,open,high,low,close,volume\n2024-01-01,{PICTURE},{TAG},1,1,1\n"
    page.sidebar.file_uploader[0].upload(f"{PICTURE}.csv".replace("/", ""), text.encode()).run()
    deadline = time.monotonic() + 30
    while not page.sidebar.error and time.monotonic() < deadline:
        time.sleep(0.1)
        page.run()
    assert "is no number" in page.sidebar.error[0].value
    assert [shown for shown in shown_texts(page) if "![x](" in shown[1]] == []
    assert "!\\[x\\](" in page.sidebar.error[0].value  # the file's name


@pytest.mark.parametrize("text", ["<b>x</b>", "<a href='http://evil.example'>x</a>", "%{y}&lt;"])
def test_no_name_is_a_tag_in_a_figure(text: str) -> None:
    def strings(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            part = part.values()
        if isinstance(part, str):
            yield part
        elif not isinstance(part, bytes) and hasattr(part, "__iter__"):
            for inner in part:
                yield from strings(inner)

    legs = tuple(
        replace(leg, instrument=Instrument("local", f"{text}{k}"))
        for k, leg in enumerate(snapshot().legs)
    )
    names, made = tuple(leg.symbol for leg in legs), view()
    matrix = made.frame[["close_y", "close_x"]].corr().set_axis(names).set_axis(names, axis=1)
    for figure in (
        pair.figure(made, pair.Asked(names, "1s", 600, 2, 0, 4)).figure(),
        pair.scatter_figure(made, names, "u").figure(),
        market.figure(legs, "1s", bars=240, overlays=market.Overlays(), uirevision="u").figure(),
        correlation_figure(matrix, "u"),
    ):
        found = list(strings(figure.to_dict()))
        assert any(figure_text(names[0]) in part for part in found)
        assert not any(names[0] in part for part in found)


def test_plain_leaves_ordinary_words_alone() -> None:
    for text in (
        "row 2: high 2.0 is below low",
        "exit_z=3 is not usable with entry_z=2",
        "2024-01-01T09:30:00Z",
        "ETHUSDT / BTCUSDT z-score above 2.5 (once)",
    ):
        assert plain(text) == text
    assert plain("a\n\nb\tc") == "a b c"


def test_an_alert_delivered_as_html_holds_no_tag() -> None:
    """Channels of apprise write HTML or Markdown by themselves (mail, Telegram)."""
    sink = Sink()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # apprise's imports, not ours
            (channel,) = open_channels([sink.url("?format=html")])
            assert channel.send("title", f"{TAG} & more") is None
        assert sink.received[0]["message"].startswith("&lt;img")
    finally:
        sink.close()


@pytest.mark.parametrize("name", ["=1+1", "+A", "-A", "@A", "\tA", "|A", "A,B", 'A"'])
def test_no_symbol_is_a_formula_in_a_table_that_is_saved(name: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        check_symbol(name if name != "\tA" else "A\t=1")
