"""The house rules that a reader relies on: imports only point down, pure modules stay pure."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pairs.storage.schema import MIGRATIONS, VIEWS_FILE, versions

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"market", "messages", "settings", "metrics", "clock"},
    {
        "analytics",
        "arguments",
        "bar_length",
        "baskets",
        "cointegration",
        "compiled",
        "features",
        "hedge",
        "indicators",
        "kalman",
        "mackinnon",
        "resampling",
        "robust",
        "scan",
        "small_sample",
        "stationarity",
        "summary",
        "unitroot",
        "windows",
        "pair",
        "pair_kernels",
        "alerts",
        "rejudging",
        "trading_rules",
        "signals",
        "performance",
        "simulation",
        "sweep",
        "overfitting",
        "walk_forward",
        "look_ahead",
        "report",
        "report_html",
        "backtest_figures",
        "bars_csv",
        "csv_form",
        "timestamps",
        "feeds",
        "storage",
    },
    {
        "database_utils",
        "luck",
        "jobs",
        "live",
        "live_alerts",
        "asking",
        "asking_again",
        "tape",
        "evaluation",
        "renumbered",
        "repair",
        "beginning",
        "history",
        "liveness",
        "closing",
        "inbox",
        "supervision",
    },
    {"panels"},
    {"ingest_websocket", "dashboard_streamlit", "watch_alerts", "backtest", "run"},
)
PURE = ("market", "analytics", "arguments", "bar_length", "baskets", "cointegration", "compiled",
        "features", "hedge", "indicators", "kalman", "mackinnon", "resampling", "robust", "scan",
        "small_sample",
        "stationarity", "summary", "unitroot", "windows", "pair", "pair_kernels", "trading_rules",
        "signals", "performance", "simulation", "report", "report_html", "backtest_figures",
        "sweep", "overfitting", "walk_forward", "look_ahead", "alerts", "rejudging", "bars_csv",
        "csv_form", "timestamps", "feeds/binance", "panels/figures", "panels/findings",
        "panels/plain", "panels/tables", "panels/theme")  # fmt: skip
IMPURE = {"streamlit", "psycopg2", "sqlalchemy", "socket", "os", "time", "websockets", "httpx"}
# Doors that a library face is part of: the shell commands live in the same file as open_store().
PROJECT = set().union(*FLOORS)


def modules() -> list[Path]:
    found = [*ROOT.glob("*.py")]
    for folder in ("feeds", "storage", "panels"):
        found += (ROOT / folder).glob("*.py")
    return sorted(found)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def floor(name: str) -> int:
    return next(k for k, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imported(path) & PROJECT - {room}:
        higher = floor(name) > floor(room)
        assert not higher, f"{room} imports {name}, which is above it"
        doors = FLOORS[-1]
        assert not (room in doors and name in doors), f"door {room} imports door {name}"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_touch_nothing_outside(name: str) -> None:
    assert imported(ROOT / f"{name}.py") & IMPURE == set()


def test_the_local_exchange_knows_nothing_of_the_project() -> None:
    """It is an independent implementation of the protocol, or it would prove nothing."""
    for path in (ROOT / "exchange").glob("*.py"):
        assert imported(path) & PROJECT == set(), path.name


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules()}
    assert rooms == PROJECT


def test_figures_are_pure_functions() -> None:
    """A figure can be shown by another page or a report: only `draw` and what it calls for the
    page may use Streamlit."""
    found = 0
    for path in (ROOT / "panels").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("figure"):
                found += 1
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                assert not names & {"st", "desk"}, f"{path.name}:{node.name}"
    assert found >= 2


# Who makes an error fit to be shown; whatever logs passes the formatter of `messages`.
SHOWERS = {"one_line", "first_line", "failed", "told", "plain", "describe"}


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
KEPT = ("feeds/binance", "feeds/binance_stream", "repair", "storage/alerts", "summary", "scan",
        "database_utils")  # fmt: skip


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
