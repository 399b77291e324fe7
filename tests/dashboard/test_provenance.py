"""What leaves the page says where it is from, and a run is repeated from its parameters."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from pairs.backtest.report import Provenance
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import run
from pairs.dashboard.provenance import file_name, parameters_json, provenance_of, read_parameters
from pairs.dashboard.repeat import controls_of
from pairs.figures.report import html_report
from pairs.market import Instrument
from pairs.settings import build
from pairs.storage.postgres import PostgresStore
from tests.support.legs import legs
from tests.support.pages import fill, html

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

PAIR = (Instrument("local", "ETHUSDT"), Instrument("local", "BTCUSDT"))
RULES = Rules(window=30, hedge_window=60, stop_z=3.0, max_bars=40)


def test_names_of_files_say_the_venue() -> None:
    assert file_name(PAIR, "1min", "pair") == "local_ETHUSDT-BTCUSDT_1min_pair"
    assert file_name(PAIR[:1], "1min") == "local_ETHUSDT_1min"
    beside = (Instrument("binance", "ETHUSDT"), Instrument("upload", "MINE"))
    assert file_name(beside, "1s") == "binance+upload_ETHUSDT-MINE_1s"


def test_the_report_says_that_it_is_simulated_and_what_it_was_made_of() -> None:
    result = run(*legs(), RULES, Costs())
    made_of = provenance_of(PAIR, "1min", result)
    report = html_report(result, provenance=made_of)
    assert report.index("SIMULATED") < report.index("<h1>")
    for told in ("local:ETHUSDT", "local:BTCUSDT", build(), f"{len(result.equity):,} of 1min"):
        assert told in report
    real = Provenance(
        "binance:A", "binance:<b>", "1s", None, None, 0, pd.Timestamp(0, tz="UTC"), ""
    )
    assert "SIMULATED" not in html_report(result, provenance=real)
    assert "<b>" not in html_report(result, provenance=real).split("</h1>")[1][:900]


def test_parameters_are_read_as_they_were_written() -> None:
    result = run(*legs(), RULES, Costs(fee_bps=5.0, slippage_bps=1.0))
    written = parameters_json(result, provenance_of(PAIR, "1min", result))
    told = json.loads(written)["provenance"]
    assert (told["simulated"], told["y"], told["bar"]) == (True, "local:ETHUSDT", "1min")
    assert told["version"] == build()
    rules, costs, pair, bar, (first, last) = read_parameters(written)
    assert (rules, pair, bar) == (RULES, PAIR, "1min")
    assert (costs.fee_bps, costs.slippage_bps) == (5.0, 1.0)
    assert (first, last) == (result.equity.index[0], result.equity.index[-1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no object"),
        (b"{}", "no provenance"),
        (b" " * 200_000, "characters"),
        (b'{"provenance": {}}', "no file of parameters"),
        (b'{"magic": 1, "provenance": {}}', "no file of parameters"),
        (b'{"entry_z": -1, "provenance": {}}', "entry_z"),
    ],
)
def test_what_is_no_file_of_parameters_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_parameters(content)


def test_what_the_page_cannot_choose_is_refused() -> None:
    with pytest.raises(ValueError, match=r"entry=11 cannot be chosen: 0\.1 to 10 can"):
        controls_of(Rules(entry_z=11.0), Costs(), PAIR, "1s")
    kalman = Rules(hedge="kalman", delta=1e-6, observation_variance=1e-3)
    assert controls_of(kalman, Costs(), PAIR, "1s")["delta"] == -6.0


def test_a_run_is_repeated_from_its_file_on_the_same_bars(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store, error=30)
    bars = [page_bars(store, leg) for leg in PAIR]
    first = run(bars[0].iloc[:300], bars[1].iloc[:300], RULES, Costs(fee_bps=0.1))
    content = parameters_json(first, provenance_of(PAIR, "1s", first))
    page.query_params.update(view="Backtest", pair="local:XRPUSDT~BTCUSDT")
    page.run()
    loader: Any = next(f for f in page.get("file_uploader") if f.key == "bt_load_0")
    loader.upload("parameters.json", content).run()
    page.button(key="bt_load").click().run()
    for button in [b for b in page.button if b.key == "start_run"]:
        button.click().run()
    deadline = time.monotonic() + 60
    while "bt-total_pnl" not in html(page) and time.monotonic() < deadline:
        time.sleep(0.2)
        page.run()
    assert not page.exception
    assert page.selectbox(key="y").value == "ETHUSDT"
    assert f"{len(first.trades):,} trades" in html(page)
    pnl = f"{first.metrics['total_pnl']:,.2f}".replace("-", "−")
    assert f">{pnl}</div>" in html(page)


def page_bars(store: PostgresStore, leg: Instrument) -> pd.DataFrame:
    from pairs.live.bars import stored_bars

    return stored_bars(store.reads, leg, "1s", 1, None)
