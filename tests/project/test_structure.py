"""The house rules that a reader relies on: imports only point down, pure modules stay pure."""

from __future__ import annotations

import ast
import doctest
import hashlib
import importlib
import re
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pairs.storage.schema import MIGRATIONS, VIEWS_FILE, versions

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "pairs"
# Names below pairs/: a file may import its own folder and lower floors. The root's files and
# pairs/__main__.py stand above all.
FLOORS = (
    ("market", "messages", "clock", "checks", "jit", "retry"),
    ("bars", "settings"),
    ("analytics", "storage", "feeds"),
    ("backtest", "live", "ingest"),
    ("alerts", "figures"),
    ("dashboard",),
)
PURE = (
    "market.py",
    "checks.py",
    "jit.py",
    "bars",
    "analytics",
    "backtest",
    "figures",
    "alerts/rules.py",
    "alerts/rejudging.py",
    "alerts/preview.py",
    "alerts/stored_form.py",
    "alerts/words.py",
    "feeds/binance/protocol.py",
)
IMPURE = {"streamlit", "psycopg2", "sqlalchemy", "socket", "os", "time", "websockets", "httpx"}
FACES = ("analytics", "cointegration", "features", "indicators", "resampling")
PROGRAMS = (
    "backtest",
    "dashboard_streamlit",
    "database_utils",
    "ingest_websocket",
    "watch_alerts",
)


def modules() -> list[Path]:
    return sorted([*ROOT.glob("*.py"), *HOUSE.rglob("*.py")])


def imported(path: Path) -> set[str]:
    """The modules that a file imports, by their whole names."""
    return imported_by(ast.parse(path.read_text()))


def imported_by(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def floor(name: str) -> int:
    """The floor of a name below pairs/."""
    return next(k for k, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize(
    "path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE))
)
def test_imports_point_down(path: Path) -> None:
    here = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    if here in ("__main__", "__init__"):
        return
    for name in imported(path) - {"pairs", "pairs.__version__"}:
        top, *below = name.split(".")
        assert top not in {*FACES, *PROGRAMS}, f"{here} imports {name}, a file of the root"
        if top == "pairs" and below[0] != here:
            assert floor(below[0]) < floor(here), f"{here} imports {name}, which is not below it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in HOUSE.rglob("*.py")
    }
    needs = {name: imported(path) & names.keys() - {name} for name, path in names.items()}
    while leaves := {name for name, needed in needs.items() if not needed}:
        needs = {name: needed - leaves for name, needed in needs.items() if name not in leaves}
    assert needs == {}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_touch_nothing_outside(name: str) -> None:
    files = [HOUSE / name] if name.endswith(".py") else sorted((HOUSE / name).rglob("*.py"))
    assert files
    for path in files:
        found = {n.split(".")[0] for n in imported(path)} & IMPURE
        assert found == set(), path.relative_to(HOUSE)


# Whose SQL is their own, beside the store; and where a connection string is taken apart, below the
# store's floor, by the only parser that agrees with the driver's.
KNOW_THE_ENGINE = (
    "storage/",
    "alerts/editing.py",
    "alerts/lock.py",
    "alerts/store.py",
    "settings.py",
)
ENGINE = ("psycopg2", "sqlalchemy")
BEHIND_THE_READER = ("queries", "postgres_reader", "reading", "uploads", "pools", "copying")


def beyond_the_store(source: str) -> list[str]:
    """What a file that only uses the store knows of its engine."""
    tree = ast.parse(source)
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names = {
        name
        for name in imported_by(tree)
        if name.split(".")[0] in ENGINE
        or name.startswith(tuple(f"pairs.storage.{inner}" for inner in BEHIND_THE_READER))
    }
    return sorted(names | attributes & {"engine"})


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_stands_behind_the_store(path: Path) -> None:
    """Another store is one file and one line: nobody above it handles SQLAlchemy or psycopg2."""
    name = str(path.relative_to(ROOT)).removeprefix("pairs/")
    if not name.startswith(KNOW_THE_ENGINE):
        assert beyond_the_store(path.read_text()) == []


def test_what_reaches_behind_the_store_is_found() -> None:
    assert beyond_the_store("import psycopg2.errors") == ["psycopg2.errors"]
    assert beyond_the_store("def f():\n    from sqlalchemy import text") != []
    assert beyond_the_store("from pairs.storage.queries import read_bars") != []
    assert beyond_the_store("LiveBars(store.engine)") == ["engine"]
    assert beyond_the_store("from pairs.backtest.engine import curve\nstore.reads.bars()") == []


@pytest.mark.parametrize("name", FACES)
def test_a_face_hands_names_on_and_does_nothing_else(name: str) -> None:
    text = (ROOT / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 25
    doc, *rest = ast.parse(text).body
    assert isinstance(doc, ast.Expr)
    handed_on = [a.name for n in rest if isinstance(n, ast.ImportFrom) for a in n.names]
    exported = [node for node in rest if not isinstance(node, ast.ImportFrom)]
    assert all(ast.unparse(node).startswith("__all__") for node in exported)
    assert sorted(importlib.import_module(name).__all__) == sorted(handed_on)


@pytest.mark.parametrize("name", FACES)
def test_the_example_of_a_face_runs(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_root_is_a_table_of_contents() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == {*FACES, *PROGRAMS}


def test_the_local_exchange_knows_nothing_of_the_project() -> None:
    """It is an independent implementation of the protocol, or it would prove nothing."""
    for path in (ROOT / "exchange").glob("*.py"):
        tops = {name.split(".")[0] for name in imported(path)}
        assert tops & {"pairs", *FACES, *PROGRAMS} == set(), path.name


def test_figures_are_pure_functions() -> None:
    """A figure can be shown by another page or a report: only `draw` and what it calls for the
    page may use Streamlit."""
    found = 0
    for path in [*(HOUSE / "figures").rglob("*.py"), *(HOUSE / "dashboard").rglob("*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("figure"):
                found += 1
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                assert not names & {"st", "page"}, f"{path.name}:{node.name}"
    assert found >= 2


# Who makes an error fit to be shown; whatever logs passes the formatter of `messages`.
SHOWERS = {"one_line", "first_line", "failed", "reported", "plain", "describe"}


def shown_by_hand(source: str) -> list[str]:
    """Texts made of a caught error elsewhere than in another error or by a shower."""
    found: list[str] = []
    for handler in ast.walk(ast.parse(source)):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name:
            continue
        fit: set[int] = set()
        for node in ast.walk(handler):
            passed_on = isinstance(node, ast.Raise)
            if isinstance(node, ast.Call):
                name, of = node.func, getattr(node.func, "value", None)
                passed_on = getattr(name, "id", "") in SHOWERS or getattr(of, "id", "") == "log"
            if passed_on:
                fit |= {id(inner) for inner in ast.walk(node)}
        for node in ast.walk(handler):
            text = isinstance(node, ast.FormattedValue) or (
                isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("str", "repr")
            )
            if text and id(node) not in fit:
                names = {
                    n.id for n in ast.walk(node) if isinstance(n, ast.Name) and id(n) not in fit
                }
                if handler.name in names:
                    found.append(ast.unparse(node))
    return found


# Kept as they came, to be stored or judged, not shown: whoever shows them goes through a shower.
KEPT = (
    "pairs/feeds/binance/protocol",
    "pairs/feeds/binance/stream",
    "pairs/ingest/repair",
    "pairs/alerts/store",
    "pairs/analytics/summary",
    "pairs/analytics/scan",
    "pairs/storage/database",
)


def test_an_error_is_made_fit_to_be_shown_in_one_place() -> None:
    for path in modules():
        name = str(path.relative_to(ROOT).with_suffix(""))
        if name not in KEPT:
            assert shown_by_hand(path.read_text()) == [], name


def test_an_error_shown_by_hand_is_found() -> None:
    by_hand = "try: f()\nexcept OSError as e:\n    {}"
    assert shown_by_hand(by_hand.format("text = str(e).split()")) == ["str(e)"]
    assert shown_by_hand(by_hand.format("text = f'no: {e}'")) != []
    assert shown_by_hand(by_hand.format("text = one_line(e)")) == []
    assert shown_by_hand(by_hand.format("raise ValueError(f'no: {e}')")) == []


def test_the_first_version_is_what_it_was() -> None:
    """Databases of it are out there. What is new is a new version."""
    assert hashlib.sha256(
        (MIGRATIONS / "versions" / "0001_as_it_was.sql").read_bytes()
    ).hexdigest() == ("1a9c7e5e04cd0bfded80508be6c5b1c53f34b1d222475c3884876d35168b9507")


def test_one_version_follows_the_other_and_views_change_with_a_version_only() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    found = [revision.revision for revision in script.walk_revisions()]
    assert found == versions()[::-1]
    hashes = [
        revision.module.views
        for revision in script.walk_revisions()
        if hasattr(revision.module, "views")
    ]
    now = hashlib.sha256(VIEWS_FILE.read_bytes()).hexdigest()
    assert hashes[0] == now, f"views.sql has changed: add a version with views = {now!r}"


def test_no_test_imports_another_test() -> None:
    """What several use is in `tests/support`."""
    imported = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for module in re.findall(r"^\s*(?:from|import) (tests\.[\w.]+)", path.read_text(), re.M)
        if not module.startswith("tests.support")
    }
    assert imported == set()
