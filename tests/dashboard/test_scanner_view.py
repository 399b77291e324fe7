"""The scanner: its work against direct computation, its table and words, then the page itself."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from analytics import spread
from cointegration import engle_granger
from pairs.analytics.scan import adjusted_p, scan_pairs, small_sample_p
from pairs.dashboard.views.scanner import (
    RATES,
    Scan,
    Universe,
    filtered,
    residual_scores,
    scan_csv,
    scan_universe,
    styled,
    summary_of,
    table_of,
    verdict_html,
)
from pairs.live.jobs import Cancelled
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.pages import html
from tests.support.prices import universe as prices_of
from tests.support.rows import trade

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

S = 1_000_000
MADE = datetime(2026, 1, 31, 14, 2, 31, tzinfo=UTC)


def scan_of(closes: pd.DataFrame) -> Scan:
    table = scan_pairs(closes.add_prefix("local:"))
    scores = residual_scores(closes.add_prefix("local:"), table, "raw")
    index = pd.DatetimeIndex(closes.index)
    return Scan(table.assign(zscore=scores), MADE, index[0], index[-1], 1)


def asked(symbols: int = 5, bars: int = 300) -> Universe:
    legs = tuple(Instrument("local", f"S{k}") for k in range(symbols))
    return Universe("local", legs, (60,) * symbols, "1min", bars, "raw")


class TestTable:
    def test_the_newest_residual_is_scored_by_all_of_them(self) -> None:
        closes = prices_of()
        closes.iloc[:20, 0] = np.nan
        closes.iloc[-1, 1] = np.nan
        for how in ("raw", "log"):
            table = scan_pairs(closes, prices=how)
            levels = np.log(closes) if how == "log" else closes
            for row, score in zip(
                table.to_dict("records"), residual_scores(closes, table, how), strict=True
            ):
                both = levels[[row["y"], row["x"]]].dropna()
                fit = engle_granger(both[row["y"]], both[row["x"]])
                left = spread(both[row["y"]], both[row["x"]], fit.beta, fit.intercept)
                assert score == pytest.approx(left.iloc[-1] / left.std(ddof=1), abs=1e-9)

    def test_one_row_a_pair_is_the_better_one(self) -> None:
        table = scan_of(prices_of()).table
        kept = filtered(table, math.inf, math.inf, both=False)
        assert len(kept) == len(table) / 2 == 10
        for row in kept.to_dict("records"):
            other = table[(table["y"] == row["x"]) & (table["x"] == row["y"])]
            assert row["p_value"] <= other["p_value"].iloc[0]
        assert len(filtered(table, math.inf, math.inf, both=True)) == len(table)

    def test_limits_keep_what_is_within_them(self) -> None:
        table = scan_of(prices_of(1000)).table
        strict = filtered(table, RATES["Adjusted p ≤ 1 %"], math.inf, both=True)
        assert 0 < len(strict) < len(table)
        assert (strict["p_adjusted"] <= 0.01).all()
        short = filtered(table, math.inf, 5.0, both=True)
        assert 0 < len(short) < len(table)
        assert (short["half_life"] <= 5).all()

    def test_what_was_not_tested_is_not_ranked(self) -> None:
        scan = scan_of(prices_of().assign(flat=1.0))
        assert filtered(scan.table, math.inf, math.inf, both=True)["p_value"].notna().all()
        assert "10 could not be made; the file says why" in verdict_html(scan)

    def test_the_page_writes_numbers_as_everywhere(self) -> None:
        scan = scan_of(prices_of())
        rows = filtered(scan.table, math.inf, math.inf, both=False)
        rows = rows.assign(half_life=[math.inf, *rows["half_life"][1:]])
        of = {str(i): i for i in asked().instruments}
        legs = [(of[y], of[x]) for y, x in zip(rows["y"], rows["x"], strict=True)]
        table = table_of(rows, legs, asked())
        assert table["as time"].iloc[1] == rows["half_life"].iloc[1] * 60
        assert table["y"].iloc[0] == legs[0][0].symbol
        shown = styled(table).to_html()
        assert "∞" in shown
        assert f"−{abs(table['statistic'].iloc[0]):.2f}" in shown
        file = Instrument("upload", "MINE")
        assert table_of(rows[:1], [(file, legs[0][1])], asked())["y"].iloc[0] == "MINE (Uploads)"


class TestWords:
    def test_nothing_passes_and_that_is_said(self) -> None:
        walks = np.random.default_rng(3).normal(0, 1e-3, (400, 12)).cumsum(axis=0)
        index = pd.date_range("2026-01-01", periods=400, freq="1min", tz="UTC")
        scan = scan_of(pd.DataFrame(np.exp(walks), index=index).add_prefix("S"))
        raw = int((small_sample_p(scan.table) <= 0.05).sum())
        assert raw > 0
        made = verdict_html(scan)
        assert f"Nothing passes: {raw} of 132 tests have p ≤ 5 %" in made
        assert "Of 132 tests of unrelated pairs some 7 would have p ≤ 5 % by chance" in made
        assert "In-sample" in made

    def test_what_passes_is_counted(self) -> None:
        scan = scan_of(prices_of(1000))
        passed = int((scan.table["p_adjusted"] <= 0.05).sum())
        assert passed > 0
        made = verdict_html(scan)
        assert f"{passed // 2} of 10 pairs pass at a false-discovery rate of 5 %" in made

    def test_nothing_tested_says_why(self) -> None:
        made = verdict_html(scan_of(prices_of(50)))
        assert "No pair could be tested (50 common rows, 100 needed). Use more bars" in made

    def test_when_and_over_which_bars(self) -> None:
        told = " ".join(summary_of(asked(), scan_of(prices_of()), 0.44))
        assert told == (
            "Made at 14:02:31 UTC in 0.4 s: 10 pairs of 5 symbols, 300 bars of 1min "
            "between 2024-01-01 00:00:00 and 2024-01-01 04:59:00."
        )

    def test_the_file_has_every_row(self) -> None:
        scan = scan_of(prices_of().assign(flat=1.0))
        lines = scan_csv(scan).decode().splitlines()
        assert lines[0].startswith("timestamp,y,x,rows,beta")
        assert lines[1].startswith("2026-01-31T14:02:31Z,local:S")
        assert len(lines) == 31
        assert sum("never changes" in line for line in lines) == 10


def related(store: PostgresStore, rows: int = 400) -> None:
    """S0 and S1 are bound to each other, S2 wanders, one trade a second until now."""
    closes = prices_of(rows, 3)
    now = time.time_ns() // 1_000_000_000
    for symbol in closes:
        store.write(
            "local",
            [
                trade(i, (now - rows + i) * 1_000_000, round(float(price), 8), symbol=symbol)
                for i, price in enumerate(closes[symbol])
            ],
        )


class TestWork:
    def test_a_market_and_files_that_end_earlier(self, store: PostgresStore) -> None:
        related(store)
        bars = read_bars(store.engine, "local", "S0", 1)
        store.write_upload("OLD", 1, bars.iloc[:200])
        store.write_upload("NEW", 1, read_bars(store.engine, "local", "S2", 1).iloc[5:350])
        legs = tuple(Instrument("local", f"S{k}") for k in range(3)) + tuple(
            Instrument("upload", name) for name in ("OLD", "NEW")
        )
        wanted = Universe("local", legs, (1,) * 5, "1s", 150, "raw")
        told: list[tuple[int, int]] = []
        found = scan_universe(store.reads, wanted, lambda *step: told.append(step))
        assert told == [(k, 10) for k in range(1, 11)]
        assert found.stretches == 3
        table = found.table.set_index(["y", "x"])
        assert len(table) == 20
        expected = adjusted_p(found.table)
        pd.testing.assert_series_equal(
            found.table["p_adjusted"], expected, check_names=False, check_exact=False
        )
        closes = {str(i): read_bars(store.engine, *i, 1)["close"] for i in legs}
        for y, x, end in (
            ("local:S0", "upload:OLD", 200),
            ("upload:OLD", "upload:NEW", 200),
            ("upload:OLD", "local:S2", 200),
            ("local:S1", "upload:NEW", 350),
            ("local:S0", "local:S2", 400),
        ):
            of_y, of_x = (closes[name].loc[: bars.index[end - 1]] for name in (y, x))
            both = pd.concat([of_y, of_x], axis=1, join="inner").tail(150)
            row = table.loc[(y, x)]
            if (y, x) == ("local:S0", "upload:OLD"):  # a copy
                assert "since y is a function of x" in row["reason"]
                continue
            if y.startswith("local") and x.startswith("local"):
                both = both.tail(int(row["rows"]))  # the newest bar may still form
                assert row["rows"] in (149, 150)
                both = both if row["rows"] == 150 else pd.concat([of_y, of_x], axis=1)[-150:-1]
            assert row["rows"] == len(both)
            test = engle_granger(both.iloc[:, 0], both.iloc[:, 1])
            assert row["statistic"] == pytest.approx(test.statistic, rel=1e-9)

    def test_it_can_be_stopped(self, store: PostgresStore) -> None:
        related(store, 150)
        legs = tuple(Instrument("local", f"S{k}") for k in range(3))

        def stop(done: int, total: int) -> None:
            if done == 2:
                raise Cancelled

        with pytest.raises(Cancelled):
            scan_universe(store.reads, Universe("local", legs, (1,) * 3, "1s", 150, "raw"), stop)

    def test_nothing_in_common_is_an_error(self, store: PostgresStore) -> None:
        legs = (Instrument("local", "A"), Instrument("local", "B"))
        with pytest.raises(ValueError, match="no two symbols have bars"):
            scan_universe(
                store.reads, Universe("local", legs, (1, 1), "1s", 150, "raw"), lambda *_: None
            )


def scanned(page: AppTest, said: str = "scan-verdict") -> AppTest:
    """Until the job is done, run the page as its own fragment does."""
    deadline = time.monotonic() + 30
    while said not in html(page) and time.monotonic() < deadline:
        time.sleep(0.05)
        page.run()
    assert said in html(page)
    return page


def made_at(page: AppTest) -> str:
    """When the scan that is shown was made."""
    found = re.search(r"Made at [\d:]+", html(page))
    return found[0] if found else ""


class TestPage:
    def view(self, page: AppTest, **query: str) -> AppTest:
        page.query_params["view"] = "Scanner"
        for key, value in query.items():
            page.query_params[key] = value
        page.run()
        assert not page.exception
        assert not page.error
        return page

    def test_the_ranking_is_there_and_follows_the_bars(
        self, page: AppTest, store: PostgresStore
    ) -> None:
        related(store)
        scanned(self.view(page, scanned="300 bars", bar="1s"))
        assert not page.exception
        assert not page.error
        assert [b for b in page.button if b.key == "scan"] == []
        assert "3 pairs of 3 symbols, 300 bars of 1s" in html(page)
        table = page.dataframe[0].value
        assert len(table) == 3
        assert {table["y"][0], table["x"][0]} == {"S0", "S1"}
        page.toggle(key="scan_both").set_value(True).run()
        assert len(page.dataframe[0].value) == 6
        page.selectbox(key="scan_rate").set_value("Adjusted p ≤ 1 %").run()
        assert len(page.dataframe[0].value) < 6
        first = made_at(page)
        page.segmented_control(key="view").set_value("Pair").run()
        page.segmented_control(key="view").set_value("Scanner").run()
        assert made_at(page)  # results outlive another view
        now = time.time_ns() // 1_000_000_000
        for symbol in ("S0", "S1", "S2"):
            trades = [trade(400 + k, (now + 7 + k) * S, 1.0, symbol=symbol) for k in range(2)]
            store.write("local", trades)
        deadline = time.monotonic() + 30
        while made_at(page) == first and time.monotonic() < deadline:
            time.sleep(0.2)
            page.run()
        assert made_at(page) != first

    def test_files_alone_and_beside_a_market(self, page: AppTest, store: PostgresStore) -> None:
        related(store)
        bars = read_bars(store.engine, "local", "S0", 1)
        store.write_upload("MINE", 1, bars.iloc[:200])
        store.write_upload("YOURS", 1, read_bars(store.engine, "local", "S2", 1).iloc[:200])
        scanned(self.view(page, scanned="300 bars", bar="1s"))
        page.button_group(key="guests_local").set_value(["upload"]).run()
        scanned(page, "10 pairs of 5 symbols")
        assert "YOURS (Uploads)" in set(page.dataframe[0].value[["y", "x"]].to_numpy().ravel())
        assert not page.error
        page.segmented_control(key="venue").set_value("upload").run()
        scanned(page, "1 pair of 2 symbols")

    def test_a_large_market_is_scanned_when_that_is_asked_for(
        self, page: AppTest, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        related(store)
        monkeypatch.setattr("pairs.dashboard.views.scanner.AUTOMATIC", 3 * 300 - 1)
        self.view(page, scanned="300 bars", bar="1s")
        assert "Every two of 3 symbols" in html(page)
        assert page.button(key="scan").label == "Scan 3 pairs"
        page.button(key="scan").click().run()
        scanned(page)
        assert [b for b in page.button if b.key == "scan"] == []

    def test_too_few_symbols_say_what_to_do(self, page: AppTest, store: PostgresStore) -> None:
        now = time.time_ns() // 1_000_000_000
        store.write(
            "local", [trade(i, (now - 150 + i) * 1_000_000, 100 + i % 7) for i in range(150)]
        )
        store.write_upload("MINE", 1, read_bars(store.engine, "local", "BTCUSDT", 1))
        self.view(page, bar="1s")
        assert "take in what stands beside them" in page.info[0].value
        page.button_group(key="guests_local").set_value(["upload"]).run()
        scanned(page, "1 pair of 2 symbols")


@pytest.mark.parametrize(
    ("y", "x", "state"),
    [
        ("local:A", "local:B", ("local", "A", "B")),
        ("local:A", "upload:F", ("local", "A", "upload:F")),
        ("upload:F", "local:A", ("local", "upload:F", "A")),
        ("upload:F", "upload:G", ("upload", "F", "G")),
        ("binance:A", "binance-usdm:A", ("binance", "A", "binance-usdm:A")),
    ],
)
def test_a_pair_is_opened_where_it_is_at_home(
    y: str, x: str, state: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairs.dashboard import sidebar

    kept: dict[str, Any] = {}
    monkeypatch.setattr(sidebar.st, "session_state", kept)
    sidebar.open_pair(*(Instrument(*name.split(":")) for name in (y, x)), "Pair")
    assert (kept["venue"], kept["y"], kept["x"], kept["view"]) == (*state, "Pair")
