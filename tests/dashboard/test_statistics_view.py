"""The statistics view: words, tables and heat map without a page, then the page itself."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from cointegration import half_life
from pairs.analytics.pair import PairSpec, PairView, pair_view
from pairs.analytics.summary import interval_statistics, pair_tests, price_statistics
from pairs.dashboard.views.statistics import intervals_of
from pairs.figures.picture import pack
from pairs.figures.statistics import (
    LEAST,
    correlation_figure,
    interval_name,
    interval_s,
    intervals_html,
    p_text,
    places_for,
    prices_html,
    stretch_of,
    verdicts,
    verdicts_html,
)
from pairs.live.bars import Leg, Snapshot
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.pages import fill, html
from tests.support.prices import bars

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

SYMBOLS = ("ETHUSDT", "BTCUSDT")


def bound(rows: int = 900) -> tuple[pd.DataFrame, pd.DataFrame]:
    """x wanders, y follows it with an error that returns."""
    x = bars(3, rows)
    error = np.random.default_rng(4).normal(0, 0.05, rows)
    y = x.assign(close=2.0 * x["close"] + 5.0 + error)
    return y, x


def view_of(y: pd.DataFrame, x: pd.DataFrame, **spec: Any) -> PairView:
    return pair_view(y, x, PairSpec(**{"window": 60, "hedge_window": 120, **spec}))


class TestVerdicts:
    def rows(
        self, y: pd.DataFrame, x: pd.DataFrame, *, estimated: bool = True
    ) -> dict[str, tuple[Any, ...]]:
        frame = stretch_of(view_of(y, x), 600)
        tests = pair_tests(frame["close_y"], frame["close_x"], frame["spread"], estimated=estimated)
        return {str(row[0]): row for row in verdicts(tests, 1, 60)}

    def test_a_pair_that_returns_is_told_so_by_every_test(self) -> None:
        rows = self.rows(*bound(), estimated=False)
        assert list(rows) == [
            "ADF, unit root",
            "KPSS, stationarity",
            "Engle–Granger, y on x",
            "Engle–Granger, x on y",
            "Johansen trace, r = 0",
            "Half-life",
            "Hurst exponent",
            "Variance ratio",
        ]
        tones = {name: row[4][1] for name, row in rows.items()}
        assert {name for name, tone in tones.items() if tone != "good"} == {
            "KPSS, stationarity",
            "Half-life",
        }
        assert rows["ADF, unit root"][3] == "< 0.001"
        assert rows["KPSS, stationarity"][4] == ("○ stationarity not rejected", "")
        assert self.rows(*bound())["ADF, unit root"][4][0] == "no verdict: β is estimated"
        life = half_life(stretch_of(view_of(*bound()), 600)["spread"])
        assert rows["Half-life"][1] == f"{life:.1f} bars"
        assert rows["Half-life"][4][0] == f"○ {life:.1f} s, within the z window"

    def test_two_walks_are_not(self) -> None:
        rows = self.rows(bars(1), bars(2))
        granger = rows["Engle–Granger, y on x"]
        assert granger[4] == ("○ no cointegration found", "")  # a lack of evidence, not a proof
        assert rows["Johansen trace, r = 0"][4][0] == "○ no cointegration found"

    def test_the_numbers_have_true_minus_signs_and_conventions(self) -> None:
        y, x = bound()
        frame = stretch_of(view_of(y, x), 600)
        tests = pair_tests(frame["close_y"], frame["close_x"], frame["spread"])
        assert not isinstance(tests.adf, str)
        row = self.rows(y, x)["ADF, unit root"]
        assert row[1] == f"−{abs(tests.adf.statistic):.2f}"
        assert row[5][0].startswith(f"constant; AIC: {tests.adf.lags} lag")

    def test_edges(self) -> None:
        tests = pair_tests(*(bars(k)["close"] for k in (1, 2, 3)))
        assert not isinstance(tests.kpss, str)
        assert not isinstance(tests.ratio, str)
        changed = replace(
            tests,
            half_life=math.inf,
            hurst=0.7,
            kpss=replace(tests.kpss, p_value=0.01),
            ratio=replace(tests.ratio, statistic=3.4),
            adf="series is too short",
            estimated=False,
        )
        rows = {str(row[0]): row for row in verdicts(changed, 1, 60)}
        assert rows["Half-life"][1] == "∞"
        assert rows["Half-life"][4] == ("✕ does not return", "bad")
        assert rows["Hurst exponent"][4] == ("✕ trends", "bad")
        assert rows["Variance ratio"][4] == ("✕ trends", "bad")
        assert rows["KPSS, stationarity"][3] == "≤ 0.01"
        assert rows["KPSS, stationarity"][4] == ("○ rejected: a walk, or slow to return", "warn")
        assert rows["ADF, unit root"][4][0] == "not tested"
        assert rows["ADF, unit root"][5][0] == "series is too short"
        slow = {str(r[0]): r for r in verdicts(replace(tests, half_life=90.0), 60, 60)}
        assert slow["Half-life"][4] == ("○ 1 h 30 min, beyond the z window", "warn")
        assert p_text(0.0004) == "< 0.001"

    def test_the_table_tells_its_bars_and_that_it_is_in_sample(self) -> None:
        made = verdicts_html(view_of(*bound()), SYMBOLS, "1s", 600)
        assert "in-sample" in made
        assert "✓ cointegrated, by Engle–Granger or Johansen at 5 % together" in made
        assert "speak for" not in made
        assert "The last 600 bars of 1s with a spread, that of rolling OLS" in made
        assert "2024-01-01 10:05:30 to 10:15:29 UTC" in made

    def test_too_few_bars_and_a_still_leg_are_one_sentence(self) -> None:
        y, x = bound(200)
        short = verdicts_html(view_of(y, x), SYMBOLS, "1s", 600)
        assert f"200 of {LEAST + 119} common bars are there" in short
        assert "<td" not in short
        y, x = bound()
        still = verdicts_html(view_of(y, x.assign(close=5.0)), SYMBOLS, "1s", 600)
        assert "BTCUSDT has not changed in the last 120 bars" in still
        late = verdicts_html(view_of(y[:50], x[:50]), SYMBOLS, "1s", 600)
        assert "50 of 220 common bars" in late


class TestTables:
    def test_prices_hold_both_legs_since_the_stretch_began(self) -> None:
        y, x = bound()
        since = y.index[300]
        made = prices_html((y, x), SYMBOLS, since)
        found = price_statistics(y[y.index >= since])
        assert f">{found.mean:,.8f}<" in made
        assert "volatility a year" in made
        assert 'class="n y"' in made
        assert "600" in re.findall(r"bars</td><td class=\"n \">(\d+)", made)

    def test_a_file_has_no_count_of_trades(self) -> None:
        y, x = (leg.drop(columns=["trades", "quote_volume"]) for leg in bound())
        made = prices_html((y, x), SYMBOLS, y.index[0])
        assert '<td class="">trades</td><td class="n ">–</td><td class="n ">–</td>' in made

    def test_intervals_are_newest_first_and_the_open_one_is_marked(self) -> None:
        y, x = bound()
        table = interval_statistics(view_of(y, x).frame, y, x, 60)
        made = intervals_html(table, 60, (2, 2), open_=True)
        times = re.findall(r'<tr><td class="">([^<]+)</td>', made)
        assert times[0] == "10:15 …"
        assert times[1:3] == ["10:14", "10:13"]
        assert len(times) == len(table)
        assert "…" not in intervals_html(table, 60, (2, 2), open_=False)
        assert "–" in made  # the first minute has no z-score yet
        shifted = table.set_axis(table.index + pd.Timedelta("13h50min"))
        assert "01-02 00:04" in intervals_html(shifted, 60, (2, 2), open_=False)

    @pytest.mark.parametrize(
        ("bar_s", "seconds", "name"),
        [
            (1, 60, "minute"),
            (15, 3600, "hour"),
            (60, 3600, "hour"),
            (300, 3600, "hour"),
            (3600, 86_400, "day"),
            (14_400, 604_800, "week"),
            (86_400, 28 * 86_400, "period"),
            (30 * 86_400, 30 * 28 * 86_400, "period"),
        ],
    )
    def test_intervals_fit_the_bar(self, bar_s: int, seconds: int, name: str) -> None:
        assert (interval_s(bar_s), interval_name(bar_s)) == (seconds, name)

    def test_one_column_has_one_number_of_decimals(self) -> None:
        assert places_for(pd.Series([0.5, 0.4, 12.0])) == 3
        assert places_for(pd.Series([123.0, 456.0])) == 0
        assert places_for(pd.Series([math.nan, 0.0, math.inf])) == 2
        assert places_for(pd.Series([1e-12])) == 8

    def test_an_interval_whose_beginning_is_not_at_hand_is_left_out(self) -> None:
        y, x = bound()  # from 10:00:30 on
        legs = tuple(
            Leg(Instrument("local", name), leg, None, None)
            for name, leg in zip(SYMBOLS, (y, x), strict=True)
        )
        made, view = Snapshot(legs, "1s", 0.0), view_of(y, x)
        whole = intervals_of(made, view, 60)
        assert whole.index[0] == y.index[0].ceil("60s")
        assert len(whole) == 15
        part = intervals_of(made, view, 60, 300)
        pd.testing.assert_frame_equal(part, whole.tail(len(part)))


class TestHeatMap:
    def matrix(self, symbols: int) -> pd.DataFrame:
        values = np.random.default_rng(1).normal(0, 1, (50, symbols))
        names = [f"SYMBOL{k}" for k in range(symbols)]
        return pd.DataFrame(values, columns=names).corr()

    def test_few_symbols_are_written_and_many_are_small(self) -> None:
        few = correlation_figure(self.matrix(6), "u")
        assert few.data[0].text[0][0] == "1.00"
        assert any(cell.startswith("−") for row in few.data[0].text for cell in row)
        assert (few.data[0].zmin, few.data[0].zmax) == (-1, 1)
        many = correlation_figure(self.matrix(40), "u")
        assert many.data[0].text is None
        assert len(json.dumps(pack(many))) < 16_000
        assert len(json.dumps(pack(few))) < 7_000

    def test_unknown_correlations_are_blank(self) -> None:
        matrix = self.matrix(3)
        matrix.iloc[0, 1] = math.nan
        assert correlation_figure(matrix, "u").data[0].text[0][1] == "–"


def open_view(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.query_params.update({"view": "Statistics", "bar": "1s"})
    page.run()
    assert not page.exception
    assert not page.error


class TestPage:
    def test_the_view_tells_what_it_can(self, page: AppTest, store: PostgresStore) -> None:
        open_view(page, store)
        shown = html(page)
        assert re.search(r"(399|400) of 1,000 common bars are there", shown)  # hedge window 900
        assert "Minute by minute" in shown
        assert "each pair on the bars it has in common" in shown
        assert "The first factor carries" in shown
        page.number_input(key="fit_1s").set_value(120).run()
        assert not page.error
        shown = html(page)
        assert "Engle–Granger, y on x" in shown
        assert 'data-testid="joint">Not tested<' in shown  # these legs are a function of each other
        page.selectbox(key="looked_at").set_value("300").run()
        assert "The last 280 bars" in html(page) or "The last 300 bars" in html(page)

    def test_a_file_beside_a_live_market_and_files_alone(
        self, page: AppTest, store: PostgresStore
    ) -> None:
        fill(store)
        file = read_bars(store.engine, "local", "ETHUSDT", 1)
        store.write_upload("MINE", 1, file.iloc[:350])
        store.write_upload("ETHUSDT", 1, file.assign(close=file["close"] * 1.0001).iloc[:300])
        page.query_params.update({"view": "Statistics", "bar": "1s"})
        page.run()
        page.number_input(key="fit_1s").set_value(60)
        page.selectbox(key="y").set_value("upload:MINE").run()
        assert not page.exception
        assert not page.error
        assert "MINE / BTCUSDT" in html(page)
        assert "Engle–Granger, y on x" in html(page)
        assert "each pair on the bars it has in common" in html(page)
        page.segmented_control(key="venue").set_value("upload").run()
        assert not page.exception
        assert not page.error
        assert "Engle–Granger, y on x" in html(page)
        assert "not tested" in html(page)  # one file is a multiple of the other
