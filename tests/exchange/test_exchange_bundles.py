"""Bundled frames are, byte for byte, the single ones; load at a constant rate."""

import numpy as np
import pytest

from exchange import Faults, SyntheticSource, default_world, load_world
from exchange.bundles import Bundle, TradeBundle, digits
from exchange.faults import Ids
from exchange.frames import Message
from exchange.futures import FuturesBundle, FuturesSource, FuturesSymbol
from exchange.synthetic import DAY_US
from exchange.tape import US, Symbol, Trades

NOON = 20_516 * DAY_US + DAY_US // 2
SYMBOLS = [
    Symbol("BTCUSDT", "BTC", "USDT", 2, 5),
    Symbol("币USDT", "币", "USDT", 0, 0),
    FuturesSymbol("BTCUSDT", "BTC", "USDT", 8, 3),
]


def tape(rows: int = 60) -> Trades:
    rng = np.random.default_rng(1)
    big = 10 ** rng.integers(0, 15, rows)
    return Trades(
        ids=np.arange(95, 95 + rows) * 10**8,
        t=NOON + np.arange(rows) * 999,
        price=1 + rng.integers(0, big),
        qty=1 + rng.integers(0, big),
        maker=rng.random(rows) < 0.5,
        agg=np.arange(rows),
    )


@pytest.mark.parametrize("form", range(4))
@pytest.mark.parametrize("info", SYMBOLS, ids=lambda info: info.base + str(info.price_decimals))
@pytest.mark.parametrize("kind", [TradeBundle, FuturesBundle])
def test_the_same_bytes(kind: type[Bundle], info: Symbol, form: int) -> None:
    if kind is FuturesBundle and not isinstance(info, FuturesSymbol):
        info = FuturesSymbol(info.name, info.base, info.quote, 2, info.lot_decimals)
    elif kind is TradeBundle and isinstance(info, FuturesSymbol):
        info = Symbol("X", "X", "USDT", 8, 8)
    bundle = kind(info, tape(), NOON + US)  # type: ignore[call-arg]
    singles = bundle.split()
    assert bundle.count == len(singles) == 60
    assert bundle.wire(form) == b"".join(single.wire(form) for single in singles)


def test_digits() -> None:
    values = [0, 1, 9, 10, 99, 100, 999_999, 1_000_000, 10**17, 10**18 - 1]
    assert digits(np.array(values)).tolist() == [len(str(value)) for value in values]


def test_faults_take_a_bundle_apart() -> None:
    bundle = TradeBundle(SYMBOLS[0], tape(), NOON)
    batch: list[Message] = [bundle]
    assert Faults().apply(batch) is batch
    lost = str(int(bundle.trades.ids[7]))
    out = Faults(drop_ids=Ids(lost)).apply(batch)
    assert [m.trade_id for m in out] == [i for i in bundle.trades.ids.tolist() if i != int(lost)]


def test_a_steady_world_has_that_rate_at_every_hour() -> None:
    world = default_world().steady(1650)
    assert world.trades_per_s == pytest.approx(1650)
    source = SyntheticSource(world, clock=lambda: NOON)
    for market in (source, FuturesSource(source)):
        for hour in (-8, 2):
            start = NOON + hour * 3600 * US
            per_s = np.zeros(60)
            for symbol in market.symbols:
                first, stop = (market.id_at(symbol, t) for t in (start, start + 60 * US))
                times = market.trades(symbol, first, stop - first).t
                per_s += np.bincount((times - start) // US, minlength=60)
            assert per_s.mean() == pytest.approx(1650, rel=0.03)
            assert per_s.max() < 2600, "nothing but a sweep above the mean"
            assert per_s.min() > 900


def test_blocks_of_a_very_busy_symbol_are_whole() -> None:
    world = load_world(1, 10).steady(50_000)
    source = SyntheticSource(world, clock=lambda: NOON)
    first = source.id_at("L000USDT", NOON + 60 * US)
    rows = source.trades("L000USDT", first, 200_000)
    assert (np.diff(rows.ids) == 1).all()
    assert (np.diff(rows.t) >= 0).all()


def test_patterns_choose_symbols() -> None:
    world = load_world(10, 5)
    assert list(world.only(["L00*"]).listings) == list(world.listings)
    with pytest.raises(ValueError, match=r"unknown symbols X\*"):
        world.only(["X*"])
