"""Figures and texts of the page, without a page."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pairs.analytics.pair import PairSpec
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import run
from pairs.dashboard.header import (
    STALE_S,
    cards_html,
    dead_since,
    header_html,
    judge,
    signal,
)
from pairs.dashboard.views import backtest as backtest_panel
from pairs.dashboard.views import pair as pair_panel
from pairs.dashboard.views.system import beginning_words
from pairs.figures import market, pair
from pairs.figures.layout import POINTS, incomplete_note, spans, thinned, with_breaks
from pairs.figures.pair import Asked
from pairs.figures.picture import pack
from pairs.figures.theme import decimals_of, duration, number, percent, significant, tint
from pairs.figures.verdict import formatted
from pairs.market import Instrument
from tests.support.pages import bars, snapshot, status, view

LEGS = ("ETHUSDT", "BTCUSDT")


def test_a_short_record_is_drawn_bar_by_bar_whatever_the_span() -> None:
    legs = snapshot().legs
    short = tuple(replace(leg, closed=leg.closed.tail(60)) for leg in legs)
    assert market.drawn_bars(short, 43_200) == 60
    assert market.drawn_bars(legs, 60) == 60
    assert market.candle_length("1min", 60) == "1min"
    assert market.candle_length("1min", 720) == "3min"


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("hedge", ["rolling", "kalman", "ols"])
def test_the_pair_figure_is_bounded_and_packs_to_plain_json(hedge: str, raw: bool) -> None:
    spec = PairSpec(hedge=hedge, window=60)  # type: ignore[arg-type]
    picture = pair.figure(view(spec), Asked(LEGS, "1s", 600, 2, 0, 4, raw=raw))
    figure = picture.figure()  # Plotly's class refuses a name that it does not know
    names = [trace.name for trace in figure.data if trace.mode == "lines"]
    assert names[:4] == ["ETHUSDT", "BTCUSDT", "spread", "z"]
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.fill is None]
    assert max(len(trace.x) for trace in lines) == POINTS
    packed = pack(picture)
    assert len(json.dumps(packed)) < 120_000
    times = [array for array in packed["arrays"] if array == packed["arrays"][0]]
    assert len(times) == 1  # shared by all lines


@pytest.mark.parametrize("bars", [1, 40])
@pytest.mark.parametrize("hedge", ["rolling", "kalman", "ols"])
def test_a_pair_without_entries_or_still_warming_up_has_a_picture(hedge: str, bars: int) -> None:
    """Nothing but plain JSON reaches the browser: no array without values, no NaN."""
    whole = view(PairSpec(hedge=hedge, window=60))  # type: ignore[arg-type]
    young = replace(whole, frame=whole.frame.head(bars))
    figure = pair.figure(young, Asked(LEGS, "1s", 600, 90, 0))
    for made in (figure, pair.scatter_figure(young, LEGS, "u")):
        json.dumps(pack(made), allow_nan=False)


def test_the_market_figure_tells_the_forming_bar_apart() -> None:
    made = snapshot()
    figure = market.figure(made.legs, "1s", bars=240, overlays=market.Overlays(), uirevision="u")
    hollow = [t for t in figure.figure().data if t.name and t.name.endswith("forming")]
    assert len(hollow) == 2
    assert hollow[0].increasing.fillcolor == "rgba(0,0,0,0)"
    assert len(json.dumps(pack(figure))) < 60_000


@pytest.mark.parametrize("shown", [240, 600])
def test_between_closed_bars_only_the_forming_candle_is_sent(shown: int) -> None:
    made = snapshot()
    figure = market.figure(made.legs, "1s", bars=shown, overlays=market.Overlays(), uirevision="u")
    patch = market.forming(made.legs, "1s", shown)
    assert [figure.data[k]["name"] for k in patch] == ["ETHUSDT forming", "BTCUSDT forming"]
    for k, parts in patch.items():
        for name, values in parts.items():
            np.testing.assert_array_equal(figure.data[k][name], values)
        forming = made.legs[k].forming
        assert forming is not None
        assert parts["close"].tolist() == [forming["close"]]


def test_more_bars_make_longer_candles_that_add_up() -> None:
    made = snapshot()
    figure = market.figure(
        made.legs,
        "1s",
        bars=600,
        overlays=market.Overlays(sma=20, bands=20, session_s=300),
        uirevision="u",
    )
    traces = figure.figure().data
    candles = next(trace for trace in traces if trace.name == "ETHUSDT 3s")
    assert len(candles.x) <= market.CANDLES
    last = pd.Timestamp(candles.x[-1], unit="ms", tz="UTC")
    bars_of_it = made.y.closed[last : last + pd.Timedelta("2999ms")]
    assert candles.high[-1] == bars_of_it["high"].max()
    assert {"SMA 20", "VWAP 5min", "Bollinger 20, 2σ"} <= {trace.name for trace in traces}


def test_a_vwap_whose_session_began_before_the_bars_is_not_shown() -> None:
    part = bars(1, 100.0).iloc[50:]
    values = market.session_vwap(part, 300)
    assert values.iloc[:250].isna().all()
    assert values.iloc[250:].notna().all()
    assert market.session_vwap(bars(1, 100.0), 300).notna().all()


def test_thinning_keeps_extremes_breaks_and_the_last_value() -> None:
    rng = np.random.default_rng(1)
    time = np.arange(9000.0) * 1000
    values = rng.normal(size=9000)
    values[[100, 8000]] = 50.0, -50.0
    values[4000] = math.nan
    at, kept = thinned(time, values)
    assert len(kept) <= POINTS + 2
    assert (np.nanmax(kept), np.nanmin(kept), kept[-1]) == (50.0, -50.0, values[-1])
    assert np.isnan(kept).sum() == 1
    assert np.all(np.diff(at) > 0)
    later, _ = thinned(time[1:], values[1:])  # a bar on: what lies behind stands still
    assert np.isin(later[5:-5], at).mean() > 0.99


def test_spans_are_round_and_bounded() -> None:
    assert spans(1, 9000) == {"5 min": 300, "10 min": 600, "30 min": 1800, "1 h": 3600, "2 h": 7200}
    assert spans(300, 9000)["30 d"] == 8640
    assert spans(7 * 86_400, 9000) == {"1825 d": 260}
    assert spans(1000 * 86_400, 50) == {"all": 50}


def test_lines_are_cut_where_nothing_is_known() -> None:
    frame = bars(1, 100.0)[["close"]]
    cut = with_breaks(frame.drop(frame.index[100:200]), 1)
    assert cut["close"].isna().sum() == 1
    assert with_breaks(frame, 1) is frame


def test_the_marks_are_the_decisions_of_the_backtest() -> None:
    made = view(PairSpec(window=60))
    rules = Rules(window=60, hedge_window=60, entry_z=1.5, exit_z=0, stop_z=3)
    done = run(snapshot().y.closed, snapshot().x.closed, rules, Costs()).signals
    wanted = pair.sides(made, 1.5, 0, 3)
    np.testing.assert_array_equal(wanted[:-1], done["position"].to_numpy()[1:])
    drawn = pair.figure(made, Asked(LEGS, "1s", len(made.frame), 1.5, 0, 3)).figure().data
    marks = {t.name: len(t.x) for t in drawn if t.mode == "markers" and t.yaxis == "y3"}
    prices = {t.name: len(t.x) for t in drawn if t.mode == "markers" and t.yaxis == "y"}
    assert marks == prices
    entered = done["action"].value_counts()
    assert (marks["long entry"], marks["short entry"]) == (entered["long"], entered["short"])
    assert pair.sides(made, 1.0, 2.0, None).any() == False  # noqa: E712


@pytest.mark.parametrize(
    ("changes", "age", "word", "level"),
    [
        ({}, 0.5, "live", "real"),
        ({"state": "quiet"}, 60.0, "live, quiet market", "real"),
        ({}, STALE_S + 1, "stale", "warn"),
        ({"state": "stale", "detail": "silent"}, 20.0, "stale", "warn"),
        ({"state": "disconnected", "detail": "HTTP 451"}, 20.0, "disconnected", "bad"),
        ({"state": "stopped"}, 20.0, "daemon stopped", "bad"),
        ({"last_received": None}, None, "waiting for the first trade", "quiet"),
    ],
)
def test_the_feed_is_told_truly(
    changes: dict[str, object], age: float | None, word: str, level: str
) -> None:
    health = judge(snapshot(**changes), age)  # type: ignore[arg-type]
    assert (health.word, health.level) == (word, level)
    assert judge(snapshot(error="gone", **changes), age).level == "bad"  # type: ignore[arg-type]


def test_the_header_escapes_and_names_the_venue() -> None:
    made = snapshot("upload")
    odd = replace(made.y, instrument=Instrument("upload", "<script>"))
    made = replace(made, legs=(odd, made.x))
    html = header_html(made, pd.Timestamp("2026-01-01 12:00", tz="UTC"))
    assert "<script>" not in html
    assert "UPLOADED FILE" in html
    assert "SIMULATED" in header_html(snapshot("local"), pd.Timestamp.now("UTC"))
    gaps = header_html(snapshot(open_gaps=1, missing=7), pd.Timestamp.now("UTC"))
    assert "2 open gaps, 14 trades missing" in gaps


def test_a_paused_page_says_so_and_its_ages_go_on_in_the_browser() -> None:
    now = pd.Timestamp("2026-01-01 12:00:05", tz="UTC")
    live = replace(snapshot(), polled_at=time.monotonic())
    html = header_html(live, now, paused=True)
    assert "❚❚ paused since 12:00:05" in html
    assert "● live" not in html
    assert re.search(r'<span data-age="\d+\.\d">data .* old</span>', html)
    assert f'data-clock="{now.value // 10**6}"' in html
    assert "paused" not in header_html(live, now)
    dead = header_html(snapshot(state="stopped"), now, paused=True)
    assert "✕ daemon stopped" in dead  # what is wrong is worth more than why nothing moves


def test_dead_data_say_since_when() -> None:
    now = pd.Timestamp("2026-01-01 12:00:05", tz="UTC")
    live = replace(snapshot(), polled_at=time.monotonic())
    assert dead_since(live, now) == ""
    assert "data-dead" not in header_html(live, now)
    stopped = snapshot(state="stopped")
    assert stopped.y.feed is not None
    since = stopped.y.feed.last_received
    assert dead_since(stopped, now) == f"no data since {since:%H:%M:%S} UTC"
    assert f'data-dead="no data since {since:%H:%M:%S} UTC"' in header_html(stopped, now)
    gone = replace(snapshot(error="gone"), polled_at=time.monotonic() - 5)
    assert dead_since(gone, now) in ("no data since 12:00:00 UTC", "no data since 11:59:59 UTC")


def test_the_cards_show_warm_up_and_in_sample() -> None:
    short = PairSpec(window=500, hedge_window=500)
    html = cards_html(snapshot(), view(short), side=np.zeros(1), adf_p=math.nan, adf_bars=0)
    assert "799 of 999 bars" in html
    html = cards_html(
        snapshot(), view(PairSpec(hedge="ols")), side=np.zeros(1), adf_p=0.02, adf_bars=600
    )
    assert "IN-SAMPLE" in html


def test_signals() -> None:
    assert signal(-1.1, np.array([1.0]))[0].endswith("long spread")
    assert signal(1.1, np.array([-1.0]))[0].endswith("short spread")
    assert signal(1.1, np.array([0.0])) == ("flat", "")
    assert signal(math.nan, np.array([]))[0] == "no value"


def test_numbers() -> None:
    assert number(-1234.5, 2) == "−1,234.50"
    assert number(math.nan, 2) == "–"
    assert number(-0.004, 2) == "0.00"
    assert percent(-0.00001) == "0.00 %"
    assert (tint(-0.00001, 4), tint(0.0001, 4), tint(-0.0001, 4)) == ("", "good", "bad")
    assert percent(-0.0042) == "−0.42 %"
    assert significant(0.0055556) == "0.0055556"
    assert significant(1.3127) == "1.3127"
    assert duration(0.44) == "0.4 s"
    assert duration(3700) == "1 h 1 min"
    assert decimals_of(np.array([2703.41, 2703.4])) == 2
    assert decimals_of(np.array([0.00001234])) == 8


def test_the_verdict_names_every_test_it_promises() -> None:
    html = pair_panel.verdict_html(view(), ("ETHUSDT", "BTCUSDT"), "1s")
    for name in pair_panel.BRIEF:
        assert f">{name}</td>" in html or f">{name} <a " in html


def test_the_backtest_marks_the_closes_that_decide() -> None:
    rules = Rules(window=60, hedge_window=60, entry_z=1.5, exit_z=0, stop_z=3)
    result = run(snapshot().y.closed, snapshot().x.closed, rules, Costs())
    drawn = {trace.name: trace for trace in backtest_panel.figure(result).data}
    assert len(drawn["long entry"].x) == (result.trades["side"] == "long").sum() > 0
    assert np.max(drawn["long entry"].y) < -1.5
    assert np.min(drawn["short entry"].y) > 1.5


def test_a_holding_time_is_told_with_its_unit() -> None:
    assert formatted("average_bars", 6.083) == "6.1 bars"
    assert formatted("average_holding_s", 365.0) == "6 min 5 s"
    assert formatted("break_even_bps", 1.02834) == "1.028 bps"
    assert formatted("turnover", 467_445.2) == "467,445 × a year"
    assert formatted("volatility", 0.82386) == "82.39 % a year"
    assert formatted("years", 0.0001153) == "0.000115"


def test_bars_that_lack_trades_are_marked_and_named() -> None:
    made = view()
    legs = snapshot().legs
    at = pd.DatetimeIndex(made.frame.index[-5:-3])
    figure = pair.figure(made, Asked(LEGS, "1s", 100, 2, 0.5), (at[:1], at)).figure()
    marks = [t for t in figure.data if t.name.endswith("trades missing")]
    assert [len(t.x) for t in marks] == [2]
    candles = market.figure(
        legs,
        "1s",
        bars=100,
        overlays=market.Overlays(),
        uirevision="",
        incomplete=(at[:0], at),
    )
    marks = [t for t in candles.figure().data if t.name.endswith("trades missing")]
    assert [(t.name, len(t.x)) for t in marks] == [("BTCUSDT: trades missing", 2)]
    note = incomplete_note([("ETHUSDT", at[:0]), ("BTCUSDT", at)])
    assert "2 of BTCUSDT" in note
    assert "ETHUSDT" not in note
    assert incomplete_note([("ETHUSDT", at[:0])]) == ""


def test_an_exchange_that_does_not_answer_is_named_with_what_to_type() -> None:
    away = status(state="disconnected", detail="Name or service not known")
    said, command = beginning_words([("binance", away)])
    assert "Binance does not answer: Name or service not known" in said
    assert command == "FEED=local make run"
    assert beginning_words([("binance", status(state="starting"))])[1] == ""
    for none in ([], [("binance", status(state="stopped"))]):
        assert beginning_words(none)[1] == "python ingest_websocket.py"
