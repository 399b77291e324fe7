"""Exact folding of trades into bars, and the exchange's way of writing numbers."""

import numpy as np
import pytest

from exchange.tape import (
    US,
    Bars,
    Trades,
    aggregates_of,
    bars_of,
    fill_bars,
    fixed,
    fold,
    join,
    no_bars,
    no_trades,
)


def tape(count: int, seed: int = 0) -> Trades:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 7200 * US, count))
    return Trades(
        ids=np.arange(100, 100 + count),
        t=t,
        price=rng.integers(8_000_000, 8_500_000, count),
        qty=rng.integers(1, 10_000, count),
        maker=rng.random(count) < 0.5,
        agg=np.cumsum(rng.random(count) < 0.6),
    )


def equal(a: Bars, b: Bars) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in Bars.__slots__)


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (8414354, 2, "84143.54000000"),
        (29, 5, "0.00029000"),
        (0, 0, "0.00000000"),
        (7, 0, "7.00000000"),
        (123456789, 8, "1.23456789"),
        (1236752699999, 9, "1236.75269999"),
        (10**30, 8, "1" + "0" * 22 + ".00000000"),
    ],
)
def test_numbers_have_eight_decimals(units: int, decimals: int, text: str) -> None:
    assert fixed(units, decimals) == text


@pytest.mark.parametrize("step_s", [60, 300, 3600])
def test_bars_of_bars_equal_bars_of_trades(step_s: int) -> None:
    trades = tape(5000)
    assert equal(fold(bars_of(trades), step_s * US), bars_of(trades, step_s * US))


def test_a_bar_against_plain_loops() -> None:
    trades = tape(500, seed=1)
    bars = bars_of(trades, 60 * US)
    assert int(bars.count.sum()) == 500
    for i, open_time in enumerate(bars.t):
        rows = np.flatnonzero(trades.t // (60 * US) == open_time // (60 * US))
        prices = trades.price[rows]
        assert (bars.open[i], bars.close[i]) == (prices[0], prices[-1])
        assert (bars.high[i], bars.low[i]) == (prices.max(), prices.min())
        assert bars.volume[i] == trades.qty[rows].sum()
        assert bars.quote[i] == (prices * trades.qty[rows]).sum()
        bought = rows[~trades.maker[rows]]
        assert bars.taker[i] == trades.qty[bought].sum()
        assert bars.taker_quote[i] == (trades.price[bought] * trades.qty[bought]).sum()
        assert (bars.first_id[i], bars.last_id[i]) == (trades.ids[rows[0]], trades.ids[rows[-1]])


def test_empty_spans_repeat_the_close_with_no_volume() -> None:
    trades = tape(3)
    bars = bars_of(trades)
    opens = np.arange(bars.t[0] - 2 * US, bars.t[-1] + 3 * US, US)
    filled = fill_bars(bars, opens, None)
    assert filled.t[0] == bars.t[0], "nothing is made up before the first trade"
    assert len(filled) == len(opens) - 2
    assert int(filled.count.sum()) == 3
    empty = filled.count == 0
    assert (filled.open[empty] == filled.close[empty]).all()
    assert (filled.first_id[empty] == -1).all()
    assert filled.close[-1] == trades.price[-1]
    assert fill_bars(bars, opens, 5).close[0] == 5
    assert len(fill_bars(no_bars(), opens, 5)) == len(opens)
    assert len(fill_bars(no_bars(), opens, None)) == 0


def test_aggregates_keep_sums_and_ends() -> None:
    trades = tape(1000, seed=2)
    folded = aggregates_of(trades)
    assert folded.qty.sum() == trades.qty.sum()
    assert folded.first[0] == trades.ids[0]
    assert folded.last[-1] == trades.ids[-1]
    assert (folded.first[1:] == folded.last[:-1] + 1).all()


def test_nothing_in_nothing_out() -> None:
    assert len(join([])) == len(no_trades()) == len(bars_of(no_trades())) == 0
    assert len(aggregates_of(no_trades())) == 0
    assert len(fold(no_bars(), 60 * US)) == 0
