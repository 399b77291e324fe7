"""An hour of the market through two open pages in a minute, at the fastest refresh.

The market begins more than an hour ago, hurries until it has caught up with the machine's clock
and then stands still, so that page and database can be compared to the last digit. Nothing of the
system knows of this: it takes its trades from an exchange at an address of its own.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg2
import pytest

from benchmarks.heap import held
from exchange.synthetic import SyntheticSource
from exchange.testing import running
from exchange.world import default_world
from pairs.analytics.pair import PairSpec, pair_view
from pairs.live.bars import is_closed
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_feeds
from resampling import resample_bars
from tests.support.browsing import (
    ARTIFACTS,
    Watched,
    check_chart_kept,
    child,
    remember_chart,
    shown_range,
    text,
    zoom,
)
from tests.support.machine import server_home
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from sqlalchemy import Engine

pytestmark = [pytest.mark.browser, pytest.mark.chaos]  # over a minute of a whole processor

Y, X = "ETHUSDT", "BTCUSDT"
HOUR_S = 3600.0
SPEED = 60.0  # an hour in a minute
WINDOW, FIT = 60, 120
BARS_SHOWN = 600  # of 1 s, on the pair's view
CANDLE = "2min"  # of the market's view: 360 bars of 1 min as at most 240 candles
SETTLED = 1 / 3  # of the hour: caches are full, windows warm, code compiled
# What may be added over the rest of the hour; 2 MB, 300 nodes and 11 MB were. With every figure
# kept in the tab it was 15 MB.
GROWTH = {"heap MB": 6.0, "nodes": 1000.0, "page MB": 30.0}

RECORD = """() => {
    window.sameDocument = true;
    window.told = [];
    setInterval(() => {
        const card = document.querySelector('[data-testid=last-closed-bar] .v');
        if (card && card.innerText !== window.told.at(-1)) window.told.push(card.innerText);
    }, 50);
}"""
# Lines and candles as the chart holds them: [trace name, x in ms, values of y or close].
TRACES = """() => document.querySelector('.pairs-chart').pairs.traces.map((trace) =>
    [trace.name, Array.from(trace.x || []), Array.from(trace.close || trace.y || [])])"""


class HurriedClock:
    """The market's clock in µs: behind the machine's at first, as fast as told, never ahead."""

    def __init__(self, behind_s: float) -> None:
        self._lock = threading.Lock()
        self._since = time.time()
        self._start = self._since - behind_s
        self._speed = 1.0

    def _now(self) -> float:
        now = time.time()
        return min(now, self._start + (now - self._since) * self._speed)

    def __call__(self) -> int:
        with self._lock:
            return int(self._now() * 1e6)

    def run(self, speed: float) -> None:
        """Go on from where it is, `speed` times as fast as the machine's; 0 stands still."""
        with self._lock:
            self._start, self._since = self._now(), time.time()
            self._speed = speed

    @property
    def behind_s(self) -> float:
        with self._lock:
            return time.time() - self._now()


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock(HOUR_S + 60)


@pytest.fixture
def source(clock: HurriedClock) -> SyntheticSource:
    """Some ten trades a market second, without the hours of the day: at its hurry, 600 a second."""
    return SyntheticSource(default_world().only([Y, X]).steady(10), clock=clock)


@pytest.fixture
def hurried(
    browser: Browser, source: SyntheticSource, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    data_dir = tmp_path_factory.mktemp("hour") / "data"
    with running(source) as exchange:
        made = System(
            data_dir,
            STREAMLIT_REFRESH_MS="250",
            SYMBOLS=f"{X},{Y}",
            HISTORY_HOURS="6",
            BINANCE_WS_URL=exchange.ws_url,
            BINANCE_REST_URL=exchange.rest_url,
        )
        try:
            made.wait_for(f"{Y}: .* bars of 60 s")
            yield made
            assert made.interrupt() == 0
        finally:
            made.close()
            shutil.rmtree(server_home(data_dir), ignore_errors=True)


@contextlib.contextmanager
def opened(browser: Browser, url: str, name: str) -> Iterator[Watched]:
    """A tab that must not complain, its last picture kept."""
    made = Watched(browser, url)
    made.page.wait_for_selector(".pairs-chart .main-svg")
    try:
        yield made
    finally:
        ARTIFACTS.mkdir(exist_ok=True)
        made.page.screenshot(path=str(ARTIFACTS / f"hour_{name}.png"))
        made.page.close()
    assert made.complaints == []


def until(happens: Callable[[], bool], page: Page, seconds: float) -> None:
    """Wait while the browser goes on; fails where it does not happen in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"did not happen within {seconds:g} s"
        page.wait_for_timeout(250)


def resident_mb(pid: int) -> float:
    done = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def half_typed(page: Page) -> str:
    """Begin to type a threshold and think about it; what stands in the field."""
    field = page.get_by_label("Entry z")
    field.click()
    field.press("ControlOrMeta+a")
    page.keyboard.type("3.2")
    return field.input_value()


@contextlib.contextmanager
def opened_store(dsn: str) -> Iterator[Engine]:
    store = PostgresStore(lambda: psycopg2.connect(dsn, options="-c timezone=UTC"))
    yield store.engine
    store.close()


def stored(engine: Engine, symbol: str, bar_s: int) -> pd.DataFrame:
    return read_bars(engine, "local", symbol, bar_s)


def closed(engine: Engine, symbol: str, bars: pd.DataFrame) -> pd.DataFrame:
    """Without the bar that the market stopped in: nothing tells that it is over."""
    feed = next(feed for feed in read_feeds(engine, "local") if feed.symbol == symbol)
    return bars if is_closed(bars.index[-1], 1, feed) else bars.iloc[:-1]


def all_stored(engine: Engine, source: SyntheticSource) -> bool:
    """Whether the database holds what the exchange has printed."""
    feeds = {feed.symbol: feed for feed in read_feeds(engine, "local")}
    quiet = all(f.open_gaps == 0 and (f.received_age_s or 0) > 3 for f in feeds.values())
    return quiet and all(last_id(engine, name) == source.last_id(name) for name in (Y, X))


def last_id(engine: Engine, symbol: str) -> int:
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT last_trade_id FROM v_feed WHERE venue = 'local' AND symbol = %(symbol)s",
            {"symbol": symbol},
        ).scalar_one()
    return int(found)


def traces(page: Page) -> dict[str, pd.Series[float]]:
    """Name → values of a chart's traces over time; the forming candles under their own names."""
    found: list[Any] = page.evaluate(TRACES)
    return {
        name: pd.Series(values, pd.to_datetime(stamps, unit="ms", utc=True), dtype=float)
        for name, stamps, values in found
    }


def candles(page: Page) -> dict[str, pd.Series[float]]:
    """Symbol → closes of its candles, the one that goes on included."""
    drawn = traces(page)
    return {
        name: pd.concat([drawn[f"{name} {CANDLE}"], drawn[f"{name} forming"]]) for name in (Y, X)
    }


def card(page: Page, name: str) -> tuple[float, float]:
    """A number of the strip, and half of its last digit."""
    said = text(page, name).splitlines()[1].replace(",", "").replace("−", "-")
    return float(said), 0.5 * 10.0 ** -len(said.partition(".")[2]) + 1e-9


def check_strip(page: Page, y: pd.DataFrame, x: pd.DataFrame, prices: dict[str, float]) -> None:
    """Every number of the strip against `pair_view` of the database's closed bars."""
    point = pair_view(y, x, PairSpec(window=WINDOW, hedge_window=FIT)).latest()
    assert point is not None
    expected = {
        "price-y": prices[Y],
        "price-x": prices[X],
        "hedge-ratio-β": point.beta,
        "spread": point.spread,
        "z-score": point.zscore,
        "correlation": point.correlation,
    }
    for name, value in expected.items():
        shown, half = card(page, name)
        assert shown == pytest.approx(value, abs=half), name
    assert f"{point.ts:%H:%M:%S}" in text(page, "last-closed-bar")


def check_lines(page: Page, y: pd.DataFrame, x: pd.DataFrame) -> None:
    """The pair's chart: every line ends at the newest closed bar and has the database's values."""
    frame = pair_view(y, x, PairSpec(window=WINDOW, hedge_window=FIT)).frame
    drawn = traces(page)
    columns = {
        Y: "close_y",
        X: "close_x",
        "spread": "spread",
        "z": "zscore",
        "β": "beta",
        "correlation": "correlation",
    }
    for name, column in columns.items():
        assert BARS_SHOWN <= len(drawn[name]) <= BARS_SHOWN * 17 / 16
        pd.testing.assert_series_equal(
            drawn[name],
            frame[column].tail(len(drawn[name])),
            check_names=False,
            check_freq=False,
            check_index_type=False,
            rtol=1e-9 if column.startswith("close") else 1e-6,  # a line has seven digits
            obj=name,
        )


def check_candles(page: Page, engine: Engine) -> None:
    """The market's chart: closed and forming candles are the bars of the database."""
    for symbol, shown in candles(page).items():
        bars = resample_bars(stored(engine, symbol, 60), CANDLE)
        assert len(shown) > 100
        pd.testing.assert_series_equal(
            shown,
            bars["close"].tail(len(shown)),
            check_names=False,
            check_freq=False,
            check_index_type=False,
            obj=symbol,
        )


def weigh(tabs: dict[str, Page], pid: int) -> dict[str, float]:
    """What the tabs and the page's process hold."""
    found = {"page MB": resident_mb(pid)}
    for name, page in tabs.items():
        heap = held(page)
        found |= {f"{name}: heap MB": heap.mb, f"{name}: nodes": heap.nodes}
    return found


def check_growth(before: dict[str, float], after: dict[str, float]) -> None:
    for name, value in after.items():
        limit = GROWTH[name.rpartition(": ")[2]]
        assert value - before[name] < limit, f"{name} grew from {before[name]:.1f} to {value:.1f}"


def check_kept(tabs: dict[str, Page]) -> None:
    """The same documents and charts as at the beginning; time on the screen never ran back."""
    for page in tabs.values():
        assert page.evaluate("window.sameDocument === true")
        check_chart_kept(page)
        assert page.locator(".stAlert, .stException").count() == 0
        told = page.evaluate("window.told")
        assert len(told) >= 20  # went through the hour in steps, not in one leap
        assert sum(later < earlier for earlier, later in pairwise(told)) <= 1  # midnight


def test_an_hour_passes_through_open_pages(
    browser: Browser, hurried: System, clock: HurriedClock, source: SyntheticSource
) -> None:
    dsn = hurried.dsn()
    pair_url = f"{hurried.url}?view=Pair&bar=1s&scale=Price&window_1s={WINDOW}&fit_1s={FIT}"
    with (
        opened_store(dsn) as engine,
        opened(browser, pair_url, "pair") as one,
        opened(browser, f"{hurried.url}?view=Market&bar=1min&span_1min=6+h", "market") as other,
    ):
        tabs = {"pair": one.page, "market": other.page}
        pid = child(hurried, "dashboard_streamlit.py")
        sockets: list[str] = []
        for page in tabs.values():
            remember_chart(page)
            page.evaluate(RECORD)
            page.on("websocket", lambda socket: sockets.append(socket.url))
        zoomed = zoom(other.page)
        typed = half_typed(one.page)
        assert clock.behind_s > HOUR_S
        clock.run(SPEED)
        until(lambda: clock.behind_s < (1 - SETTLED) * HOUR_S, one.page, 60)
        before = weigh(tabs, pid)
        until(lambda: clock.behind_s < 1, one.page, 120)
        one.page.wait_for_timeout(3000)  # at the market's own pace again
        after = weigh(tabs, pid)
        clock.run(0)
        until(lambda: all_stored(engine, source), one.page, 60)
        y, x = stored(engine, Y, 1), stored(engine, X, 1)
        assert len(x) > 0.9 * HOUR_S
        last = {Y: y["close"].iloc[-1], X: x["close"].iloc[-1]}
        y, x = closed(engine, Y, y), closed(engine, X, x)
        newest = f"{min(y.index[-1], x.index[-1]):%H:%M:%S}"
        one.page.locator("[data-testid=last-closed-bar]", has_text=newest).wait_for()
        until(
            lambda: {n: c.iloc[-1] for n, c in candles(other.page).items()} == last, other.page, 60
        )
        check_strip(one.page, y, x, last)
        check_lines(one.page, y, x)
        check_candles(other.page, engine)
        check_kept(tabs)
        check_growth(before, after)
        assert sockets == []  # none was connected anew
        assert shown_range(other.page) == zoomed
        assert one.page.evaluate("document.activeElement.value") == typed
        assert "view=Market" in other.page.url
