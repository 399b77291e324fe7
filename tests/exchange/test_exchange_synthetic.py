"""The synthetic market is a function of (seed, time), and its stated truth can be found again."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exchange import SyntheticSource, World, default_world, load_world
from exchange.futures import FuturesSource
from exchange.synthetic import DAY_US
from exchange.tape import US, Floats, Trades, bars_of, fold, join

DAY = 20_516  # 2026-03-04
MIDNIGHT = DAY * DAY_US
NOON = MIDNIGHT + DAY_US // 2


def at(moment_us: int, **options: Any) -> SyntheticSource:
    return SyntheticSource(clock=lambda: moment_us, **options)


def between(source: SyntheticSource, symbol: str, start_us: int, end_us: int) -> Trades:
    first, stop = source.id_at(symbol, start_us), source.id_at(symbol, end_us)
    return source.trades(symbol, first, stop - first)


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return at(MIDNIGHT + 2 * DAY_US)


def same(a: Trades, b: Trades) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in Trades.__slots__)


@pytest.mark.parametrize("symbol", list(default_world().listings))
def test_a_restart_tells_the_same_tape(source: SyntheticSource, symbol: str) -> None:
    tape = between(source, symbol, NOON, NOON + 600 * US)
    again = between(at(NOON + DAY_US), symbol, NOON, NOON + 600 * US)
    assert len(tape) > 100
    assert same(tape, again)
    other = between(at(NOON + DAY_US, seed=2), symbol, NOON, NOON + 600 * US)
    assert not np.array_equal(tape.price[:50], other.price[:50])


@pytest.mark.parametrize("symbol", ["BTCUSDT", "LTCUSDT"])
def test_ids_and_times_run_on_over_hours_and_days(source: SyntheticSource, symbol: str) -> None:
    for edge in (NOON, MIDNIGHT):
        tape = between(source, symbol, edge - 400 * US, edge + 400 * US)
        assert (np.diff(tape.ids) == 1).all()
        assert (np.diff(tape.t) >= 0).all()
        assert set(np.diff(tape.agg)) == {0, 1}
        assert tape.t[0] >= edge - 400 * US
        assert tape.t[-1] < edge + 400 * US
        log_price = np.log(tape.price)
        assert np.abs(np.diff(log_price)).max() < 0.005, "no jump at the edge"


def test_a_day_holds_exactly_its_number_of_trades(source: SyntheticSource) -> None:
    for symbol, listing in source.world.listings.items():
        first, stop = source.id_at(symbol, MIDNIGHT), source.id_at(symbol, MIDNIGHT + DAY_US)
        assert stop - first == round(listing.trades_per_s * 86_400)


def test_any_past_day_can_be_asked(source: SyntheticSource) -> None:
    for days_back in (1, 40, 900):
        moment = NOON - days_back * DAY_US
        tape = between(source, "XRPUSDT", moment, moment + 60 * US)
        assert source.id_at("XRPUSDT", int(tape.t[0])) <= tape.ids[0]
        assert 0.8 < tape.price[0] / 21_000 < 1.3
    assert source.id_at("XRPUSDT", 0) == source.first_id("XRPUSDT") == 1


def test_aggregates_can_be_found(source: SyntheticSource) -> None:
    tape = between(source, "SOLUSDT", MIDNIGHT - 30 * US, MIDNIGHT + 30 * US)
    for row in range(1, len(tape), 17):
        number = int(tape.agg[row])
        first = int(tape.ids[np.searchsorted(tape.agg, number)])
        if number > tape.agg[0]:
            assert source.id_of_aggregate("SOLUSDT", number) == first
    starts = np.flatnonzero(np.diff(tape.agg, prepend=tape.agg[0] - 1))
    for start, stop in zip(starts, np.append(starts[1:], len(tape)), strict=True):
        rows = slice(start, stop)
        assert (
            len(set(tape.t[rows])) == len(set(tape.price[rows])) == len(set(tape.maker[rows])) == 1
        )


def test_the_tape_looks_like_one(source: SyntheticSource) -> None:
    tape = between(source, "BTCUSDT", NOON, NOON + 3600 * US)
    per_second = np.bincount((tape.t - NOON) // US, minlength=3600)
    assert per_second.max() > 150, "bursts"
    per_ms = np.unique(tape.t // 1000, return_counts=True)[1]
    assert per_ms.max() >= 20, "sweeps share a millisecond"
    assert tape.qty.min() >= 1
    assert np.percentile(tape.qty, 99) > 20 * np.median(tape.qty), "heavy tail"
    assert 0.4 < tape.maker.mean() < 0.6


def test_sellers_get_the_bid_and_buyers_pay_the_ask(source: SyntheticSource) -> None:
    """Where the side turns within a tenth of a second the price moves by a tick, on average."""
    tape = between(source, "LTCUSDT", NOON, NOON + 3600 * US)
    turns = np.flatnonzero(np.diff(tape.maker.astype(int)) & (np.diff(tape.t) < 100_000))
    bounce = np.diff(tape.price)[turns] * np.where(tape.maker[turns], 1, -1)
    assert len(turns) > 50
    assert 0.5 < np.mean(bounce) < 3


def test_bars_equal_the_trades(source: SyntheticSource) -> None:
    last = source.last_id("ETHUSDT")
    start, end = NOON + 100 * US, NOON + 1500 * US
    bars = source.seconds("ETHUSDT", start, end, last)
    direct = bars_of(between(source, "ETHUSDT", start, end))
    for name in type(bars).__slots__:
        assert np.array_equal(getattr(bars, name), getattr(direct, name)), name


def test_bars_stop_at_the_last_printed_trade(source: SyntheticSource) -> None:
    now = NOON + 77 * US + 123_456
    early = at(now)
    last = early.last_id("ETHUSDT")
    bars = early.seconds("ETHUSDT", NOON, NOON + 300 * US, last)
    assert bars.last_id[-1] == last
    assert int(bars.count.sum()) == last - early.id_at("ETHUSDT", NOON) + 1


@pytest.mark.parametrize("made", [SyntheticSource, FuturesSource])
def test_minutes_equal_the_seconds_asked_twice_and_in_parts(made: type[SyntheticSource]) -> None:
    """Whole hours are kept, the running one is made anew."""
    now = NOON + 7 * 60 * US + 31 * US
    spot = at(now)
    source = FuturesSource(spot) if made is FuturesSource else spot
    last = source.last_id("ETHUSDT")
    start, end = NOON - 3 * 3600 * US + 60 * US, NOON + 8 * 60 * US
    direct = fold(source.seconds("ETHUSDT", start, end, last), 60 * US)
    for first, stop in ((start, end), (start, end), (NOON - 3600 * US, NOON), (NOON, end)):
        found = source.minutes("ETHUSDT", first, stop, last)
        low, high = np.searchsorted(direct.t, (first, stop))
        for name in type(found).__slots__:
            assert np.array_equal(getattr(found, name), getattr(direct, name)[low:high]), name


# -- the truth found again by plain estimators


def closes(source: SyntheticSource, symbol: str, days: int, step_s: int = 60) -> Floats:
    start, end = MIDNIGHT, MIDNIGHT + days * DAY_US
    bars = source.seconds(symbol, start, end, source.last_id(symbol))
    marks = np.arange(start + step_s * US, end + 1, step_s * US)
    row = np.searchsorted(bars.t, marks) - 1
    return bars.close[row] / 10.0 ** source.symbols[symbol].price_decimals


PAIRS = [(g.x.symbol.name, m) for g in default_world().groups for m in g.members]


@pytest.mark.parametrize(("x_name", "member"), PAIRS)
def test_ols_and_ar1_find_beta_and_half_life(
    source: SyntheticSource, x_name: str, member: Any
) -> None:
    """Within 4 standard errors; that of β allows for the autocorrelation of the residual."""
    days = 2
    y, x = closes(source, member.listing.symbol.name, days), closes(source, x_name, days)
    centred = x - x.mean()
    beta = float(centred @ y / (centred @ centred))
    rho = 0.5 ** (60.0 / member.half_life_s)
    inflation = (1 + rho) / (1 - rho)
    error = member.spread_std * np.sqrt(inflation / (centred @ centred))
    assert abs(beta - member.beta) < 4 * error

    spread = y - member.alpha - member.beta * x
    effective = len(spread) / inflation
    assert abs(spread.mean()) < 4 * member.spread_std / np.sqrt(effective)
    lagged, now = spread[:-1] - spread[:-1].mean(), spread[1:] - spread[1:].mean()
    found = float(lagged @ now / (lagged @ lagged))
    # The finite-sample bias of AR(1) with a mean is (1 + 3ρ)/n (Kendall 1954).
    allowed = 4 * np.sqrt((1 - rho**2) / len(spread)) + (1 + 3 * rho) / len(spread)
    assert abs(found - rho) < allowed


def test_volatility_is_as_stated(source: SyntheticSource) -> None:
    for group in source.world.groups:
        x = closes(source, group.x.symbol.name, 2)
        daily = np.sqrt(np.sum(np.diff(np.log(x)) ** 2) / 2)
        assert daily == pytest.approx(group.daily_vol, rel=0.15)


@pytest.mark.parametrize("window", [120, 300])
def test_a_live_pair_gives_signals_within_minutes(source: SyntheticSource, window: int) -> None:
    """ETH on BTC, 1 s closes, rolling OLS over 3 hours: |z| > 2 comes every few minutes."""
    y, x = (closes(source, name, 1, 1)[-10_800:] for name in ("ETHUSDT", "BTCUSDT"))
    ys = np.lib.stride_tricks.sliding_window_view(y, window)
    xs = np.lib.stride_tricks.sliding_window_view(x, window)
    xd = xs - xs.mean(1, keepdims=True)
    beta = (xd * ys).sum(1) / (xd * xd).sum(1)
    spread = ys[:, -1] - beta * xs[:, -1] - (ys.mean(1) - beta * xs.mean(1))
    views = np.lib.stride_tricks.sliding_window_view(spread, window)
    z = (views[:, -1] - views.mean(1)) / views.std(1, ddof=1)
    entries = np.flatnonzero((np.abs(z[1:]) > 2) & (np.abs(z[:-1]) <= 2))
    assert len(z) / len(entries) < 300, "an entry at least every five minutes"


# -- worlds


def test_the_description_is_json_and_complete() -> None:
    told = json.loads(json.dumps(default_world().describe()))
    members = [m for g in told["groups"] for m in g["members"]]
    assert {m["symbol"] for m in members} == {"ETHUSDT", "SOLUSDT", "LTCUSDT", "XRPUSDT"}
    for member in members:
        assert {"beta", "alpha", "half_life_s", "spread_std", "spread_std_bps"} <= set(member)
        assert 9 <= member["spread_std_bps"] <= 31


def test_worlds_are_cut_grown_and_checked() -> None:
    world = default_world()
    assert list(world.only(["ETHUSDT"]).listings) == ["BTCUSDT", "ETHUSDT"]
    assert list(world.only(["BNBUSDT"]).listings) == ["BNBUSDT"]
    with pytest.raises(ValueError, match="unknown symbols NOPE"):
        world.only(["NOPE"])
    assert world.faster(2).listings["BTCUSDT"].trades_per_s == 60
    with pytest.raises(ValueError, match="rate 0"):
        world.faster(0)
    with pytest.raises(ValueError, match="twice"):
        World(world.groups + world.groups)
    assert len(load_world(50, 10).listings) == 50


def test_a_busy_symbol_keeps_its_rate() -> None:
    world = default_world().only(["LTCUSDT"]).faster(825)
    source = at(NOON, world=world)
    tape = between(source, "LTCUSDT", NOON - 60 * US, NOON)
    assert len(tape) > 20_000
    assert (np.diff(tape.ids) == 1).all()
    assert set(np.diff(tape.agg)) == {0, 1}


def test_a_quiet_symbol_works() -> None:
    group = default_world().groups[0]
    slow = replace(group, x=replace(group.x, trades_per_s=0.001), members=())
    source = at(NOON, world=World((slow,)))
    tape = between(source, "BTCUSDT", NOON - 3 * DAY_US, NOON)
    assert len(tape) > 150
    assert (np.diff(tape.ids) == 1).all()


def test_live_frames_are_the_tape() -> None:
    async def collect() -> tuple[SyntheticSource, list[Any]]:
        now = {"us": NOON - US}

        def clock() -> int:
            now["us"] += 20_000
            return now["us"]

        source = SyntheticSource(clock=clock, tick_s=0.0)
        got: list[Any] = []
        stream = source.live(lambda: {"btcusdt@trade": 1})
        async for batch in stream:
            got += batch
            if len(got) >= 200:
                break
        await stream.aclose()
        return source, got

    source, messages = asyncio.run(collect())
    rows = [(m.trade_id, m.price, m.qty, m.t_us, m.maker) for m in messages]
    tape = source.trades("BTCUSDT", rows[0][0], len(rows))
    columns = (tape.ids, tape.price, tape.qty, tape.t, tape.maker)
    assert rows == list(zip(*(c.tolist() for c in columns), strict=True))
    assert all(m.event_us >= m.t_us for m in messages)
    assert len(join([tape, tape])) == 2 * len(tape)
