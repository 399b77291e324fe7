"""Index, mark price and funding of the perpetuals."""

import json
from statistics import median
from typing import Any

import numpy as np
import pytest

from exchange import SyntheticSource
from exchange.asking import View, weight_of
from exchange.futures import FuturesSource
from exchange.marks import PERIOD_US, funding_rate, mark_at, mark_messages, written
from exchange.rest import respond
from exchange.rest_futures import ENDPOINTS
from exchange.tape import US, Floats
from exchange.world import default_world

NOW = 1_772_625_600 * US + 345_678_901  # 12:05:45
SPOT = SyntheticSource(default_world().only(["LTCUSDT"]), clock=lambda: NOW, history_days=3)
USDM = FuturesSource(SPOT)
HOURS_8 = 8 * 3_600_000


def get(name: str, query: str = "") -> Any:
    return json.loads(respond(View(USDM), f"/fapi/v1/{name}", query, ENDPOINTS)[1])


def test_the_mark_price_is_the_median_of_three() -> None:
    told = mark_at(USDM, "LTCUSDT", NOW)
    second = NOW // US
    index, contract = USDM.prices("LTCUSDT", second - 30, second)
    last = USDM.trades("LTCUSDT", USDM.last_id("LTCUSDT"), 1).price[0] / 100
    left = (told.next_us - NOW) / PERIOD_US
    by_funding = told.index * (1 + told.rate * left)
    by_basis = told.index + float(np.mean(contract - index))
    assert told.mark == pytest.approx(median((by_funding, by_basis, last)), rel=1e-12)
    assert told.index == pytest.approx(float(index[-1]), rel=1e-3)
    assert told.next_us == 1_772_640_000 * US  # 16:00


class Apart(FuturesSource):
    """Futures with a premium of our choice."""

    premium = 0.0

    def prices(self, symbol: str, start_s: int, end_s: int) -> tuple[Floats, Floats]:
        index, _ = super().prices(symbol, start_s, end_s)
        return index, index * (1 + self.premium)


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        (0.0, 0.0001),
        (0.0003, 0.0001),
        (0.0006, 0.0001),
        (0.001, 0.0005),
        (-0.0004, 0.0001),
        (-0.002, -0.0015),
    ],
)
def test_funding_follows_the_published_rule(premium: float, rate: float) -> None:
    source = Apart(SPOT)
    source.premium = premium
    assert funding_rate(source, "LTCUSDT", NOW) == pytest.approx(rate, abs=1e-12)


def test_premium_index() -> None:
    told = get("premiumIndex", "symbol=LTCUSDT")
    assert told["nextFundingTime"] == 1_772_640_000_000
    assert float(told["markPrice"]) == pytest.approx(float(told["indexPrice"]), rel=2e-3)
    assert [row["symbol"] for row in get("premiumIndex")] == list(USDM.symbols)
    assert (
        weight_of(ENDPOINTS["/fapi/v1/premiumIndex"], "symbol=A"),
        weight_of(ENDPOINTS["/fapi/v1/premiumIndex"], ""),
    ) == (1, 10)


def test_funding_history() -> None:
    rows = get("fundingRate", "symbol=LTCUSDT")
    times = [row["fundingTime"] for row in rows]
    assert times == list(range(times[0], 1_772_611_200_000 + 1, HOURS_8))
    assert len(rows) == 9, "three a day since the listing"
    assert get("fundingRate", "symbol=LTCUSDT&limit=2") == rows[-2:]
    assert get("fundingRate", f"symbol=LTCUSDT&limit=2&startTime={times[3]}") == rows[3:5]
    assert get("fundingRate", f"symbol=LTCUSDT&startTime=0&endTime={times[1]}") == rows[:2]
    assert get("fundingRate", "symbol=LTCUSDT&limit=1001")["code"] == -1130
    paid = mark_at(USDM, "LTCUSDT", times[4] * 1000)
    assert (rows[4]["markPrice"], rows[4]["fundingRate"]) == (
        written(paid.mark),
        written(paid.rate),
    )
    assert len(get("fundingRate")) == 9 * len(USDM.symbols)


def test_streams_of_marks() -> None:
    one, three = "ltcusdt@markPrice@1s", "ltcusdt@markPrice"
    every = "!markPrice@arr@1s"
    at = NOW // (3 * US) * 3 * US
    told = {m.stream: m for m in mark_messages(USDM, [one, three, every], at)}
    assert set(told) == {one, three, every}
    event = json.loads(told[one].payload(False))
    assert {"e", "E", "s", "p", "i", "P", "r", "T"} == set(event)
    assert (event["e"], event["E"]) == ("markPriceUpdate", at // 1000)
    assert event in json.loads(told[every].payload(False))
    later = mark_messages(USDM, [one, three, every], at + US)
    assert [m.stream for m in later] == [one, every]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0001, "0.00010000"),
        (-0.0015, "-0.00150000"),
        (0.0, "0.00000000"),
        (-1e-12, "0.00000000"),
        (84143.5, "84143.50000000"),
    ],
)
def test_how_numbers_are_written(value: float, text: str) -> None:
    assert written(value) == text
