"""The page under random choices: whatever is chosen, its address opens the same view, nothing
fails, and nothing of another pair is shown.

A few in every run, many in `make chaos`; CHAOS_SEED=N repeats a run, PAGE_STEPS=N makes it longer.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.chaos import SEED
from tests.support.pages import fill

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

STEPS = int(os.environ.get("PAGE_STEPS", "1000"))
# What may be told of choices that cannot be: a sentence of its own, not a failure.
ALLOWED = re.compile(r"These rules cannot be traded|No rule was added")
# Buttons begin work or change the store: not what a link is to repeat.
CONTROLS = ("selectbox", "button_group", "number_input", "toggle", "multiselect")
# What is being filled in to become a rule: nothing that a link shows to somebody else.
DRAFT = "rule_"
SYMBOLS = {"BTCUSDT", "ETHUSDT", "XRPUSDT", "FILEA", "FILEB", "SECONDS"}


def fill_all(store: PostgresStore) -> None:
    """A live market, two files of minutes of another time, one of seconds beside the market."""
    fill(store)
    index = pd.date_range("2024-01-01", periods=700, freq="1min", tz="UTC", name="ts")
    walk = pd.Series(range(700), index=index)
    for k, name in enumerate(("FILEA", "FILEB")):
        close = 100.0 * (k + 1) + (walk * (k + 7) % 23) / 10
        bars = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1.0}
        store.write_upload(name, 60, pd.DataFrame(bars))
    store.write_upload("SECONDS", 1, read_bars(store.engine, "local", "XRPUSDT", 1))


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", {}).values():
        yield from nodes(child)


def widgets(page: AppTest) -> dict[str, Any]:
    """The controls on the page that can be used, by their key."""
    return {
        node.key: node
        for node in nodes(page._tree)
        if node.type in CONTROLS and node.key and not getattr(node.proto, "disabled", False)
    }


def shown_value(widget: Any) -> Any:
    """What a control shows, in the words of its options."""
    value = widget.value
    if widget.type == "number_input":
        return round(float(value), 9)
    return sorted(map(str, value)) if isinstance(value, list | tuple) else value


def address(page: AppTest) -> dict[str, Any]:
    """The address that the browser shows: what the page wrote, and the bound controls that are
    not at their default, as Streamlit's front end writes them."""
    found: dict[str, Any] = dict(page.query_params)
    for key, widget in widgets(page).items():
        proto = widget.proto
        if not getattr(proto, "query_param_key", ""):
            continue
        found.pop(key, None)
        if widget.type in ("number_input", "toggle"):
            if widget.value != proto.default:
                found[key] = str(widget.value).lower()
            continue
        if widget.type == "selectbox":
            chosen, default = [widget.index], [proto.default]
            names = list(proto.options)
        else:
            chosen, default = sorted(widget.indices), sorted(proto.default)
            names = [getattr(o, "content", o) for o in proto.options]
        if chosen != default:
            found[key] = [names[k] for k in chosen]
    return found


def look(page: AppTest) -> dict[str, Any]:
    """What is on the page, but for what moves with time."""
    charts = [(name, [t.get("name") for t in figure["data"]]) for name, figure in charts_of(page)]
    return {
        "controls": {
            key: shown_value(widget)
            for key, widget in widgets(page).items()
            if not key.startswith(DRAFT)
        },
        "charts": charts,
        "titles": titles(page),
        "tables": [list(table.value.columns) for table in page.dataframe],
        "said": [e.value for kind in (page.warning, page.error, page.info) for e in kind],
    }


def charts_of(page: AppTest) -> list[tuple[str, dict[str, Any]]]:
    """Label and figure of every chart."""
    found = []
    for node in nodes(page._tree):
        if node.type == "bidi_component" and node.proto.component_name.endswith("pairs_chart"):
            data = json.loads(node.proto.json)
            found.append((data["label"], json.loads(data["payload"]["packed"])["figure"]))
    return found


def titles(page: AppTest) -> list[str]:
    html = "\n".join(str(e.proto.body) for e in page.get("html"))
    return re.findall(r"<h1>(.*?)</h1>|class=\"pw-title\"[^>]*>(.*?)<", html)


def symbols_in(text: str) -> set[str]:
    return {symbol for symbol in SYMBOLS if re.search(rf"\b{symbol}\b", text)}


class Page(RuleBasedStateMachine):
    """Choices of one reader."""

    open_page: ClassVar[Any]
    steps: ClassVar[int] = 0
    links: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        self.page: AppTest = Page.open_page({})
        self.choices = 0

    @rule(number=st.integers(0, 2**32 - 1))
    def choose(self, number: int) -> None:
        """Any control, set to anything it offers; now and then the address is opened again. One
        rule and one number: what a short walk draws must not be its simplest values."""
        self.choices += 1
        chance = random.Random(number * 1009 + self.choices)
        offered = widgets(self.page)
        # The pair and the view lead everywhere else: chosen more often.
        often = [k for k in ("view", "y", "x", "venue", "bar", "bt_page", "stored") if k in offered]
        key = chance.choice(often * 2 + list(offered))
        value = self.value_for(offered[key], chance)
        note(f"{key} = {value!r}")
        offered[key].set_value(value)
        self.page.run()
        Page.steps += 1
        if chance.random() < 0.4:
            self.open_link()

    def value_for(self, widget: Any, chance: random.Random) -> Any:
        if widget.type == "toggle":
            return not widget.value
        if widget.type == "number_input":
            proto = widget.proto
            low = proto.min if proto.has_min else -1e6
            high = min(proto.max if proto.has_max else 1e6, 3000)
            if proto.data_type == proto.INT:
                return chance.choice([int(low), int(high), chance.randint(int(low), int(high))])
            return chance.choice([low, high, round(chance.uniform(low, high), 2)])
        options = list(widget.options)
        if widget.type == "multiselect" or (
            widget.type == "button_group" and widget.proto.click_mode == widget.proto.MULTI_SELECT
        ):
            return chance.sample(options, chance.randint(0, min(2, len(options))))
        return chance.choice(options)

    def open_link(self) -> None:
        """Somebody else opens the address."""
        link = address(self.page)
        other = Page.open_page(link)
        Page.links += 1
        assert look(other) == look(self.page), link

    @invariant()
    def nothing_fails(self) -> None:
        if not hasattr(self, "page"):
            return
        assert not self.page.exception
        assert [e.value for e in self.page.error if not ALLOWED.search(e.value)] == []

    @invariant()
    def only_the_pair_is_shown(self) -> None:
        if not hasattr(self, "page") or not [w for w in self.page.selectbox if w.key == "y"]:
            return
        legs = {self.page.selectbox(key=k).value.rpartition(":")[2] for k in ("y", "x")}
        shown = widgets(self.page)
        beside = shown["more_symbols"].value if "more_symbols" in shown else ()
        more = {name.rpartition(":")[2] for name in beside}
        for label, data in charts_of(self.page):
            assert symbols_in(label) == legs
            drawn = symbols_in(json.dumps(data))
            venue_wide = label.startswith("Correlations")
            assert venue_wide or drawn <= legs | more, (label, drawn)
        heads = [head for head, _ in titles(self.page) if head]
        assert all(symbols_in(head) == legs for head in heads), heads
        assert heads or self.page.warning  # legs of no common length have no head


@pytest.fixture
def machine(page: AppTest, store: PostgresStore) -> type[Page]:
    """The machine on a store of this test."""
    fill_all(store)
    kind = type(page)

    def open_page(params: dict[str, Any]) -> AppTest:
        made = kind.from_file(page._script_path, default_timeout=120)
        made.query_params.update(params)
        made.run()
        return made

    Page.open_page = staticmethod(open_page)
    Page.steps = Page.links = 0
    return Page


def walk(machine: type[Page], examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(SEED)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_random_choices_a_few(machine: type[Page]) -> None:
    walk(machine, 2, 10)
    assert machine.steps >= 5


@pytest.mark.chaos
def test_random_choices_many(machine: type[Page]) -> None:
    walk(machine, max(1, STEPS // 40), 40)
    print(
        f"page machine: {machine.steps} choices, {machine.links} links opened"
        f" · CHAOS_SEED={SEED} repeats it"
    )
