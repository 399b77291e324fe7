"""Where bars open: weeks on Mondays, months by the calendar, days of other time zones."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from exchange import ReplaySource, SyntheticSource
from exchange.asking import View
from exchange.intervals import DAY_US, INTERVALS, zone_us
from exchange.rest import respond
from exchange.tape import US
from exchange.world import default_world

NOW = int(datetime(2026, 3, 4, 12, 5, 45, tzinfo=UTC).timestamp()) * US
SLOW = default_world().only(["LTCUSDT"]).steady(0.5)


@pytest.fixture(scope="module")
def view() -> View:
    return View(SyntheticSource(SLOW, clock=lambda: NOW, history_days=10))


def klines(view: View, interval: str, **params: Any) -> Any:
    pairs = {"symbol": "LTCUSDT", "interval": interval, **params}
    query = "&".join(f"{key}={value}" for key, value in pairs.items())
    status, body = respond(view, "/api/v3/klines", query)
    assert status == 200, body
    return json.loads(body)


def day(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1000


# Some seconds: the days that the bars are folded from are made once, here.
def test_weeks_open_on_mondays(view: View) -> None:
    rows = klines(view, "1w", limit=3)
    assert [r[0] for r in rows] == [day(2026, 2, 16), day(2026, 2, 23), day(2026, 3, 2)]
    assert rows[0][6] == rows[1][0] - 1


def test_months_are_those_of_the_calendar(view: View) -> None:
    rows = klines(view, "1M")
    assert [r[0] for r in rows] == [day(2026, 2, 1), day(2026, 3, 1)]
    assert [r[6] + 1 for r in rows] == [*[r[0] for r in rows[1:]], day(2026, 4, 1)]


def test_three_days_are_counted_since_1970(view: View) -> None:
    rows = klines(view, "3d", limit=4)
    assert all(r[0] % (3 * DAY_US // 1000) == 0 for r in rows)


@pytest.mark.parametrize("interval", ["3d", "1w", "1M"])
def test_long_bars_are_those_of_their_days(view: View, interval: str) -> None:
    """The first of them too, which begins before the listing."""
    days = klines(view, "1d", limit=1000)
    for row in klines(view, interval):
        inside = [d for d in days if row[0] <= d[0] <= row[6]]
        assert row[1] == inside[0][1]
        assert float(row[2]) == max(float(d[2]) for d in inside)
        assert float(row[3]) == min(float(d[3]) for d in inside)
        assert row[4] == inside[-1][4]
        assert float(row[5]) == pytest.approx(sum(float(d[5]) for d in inside), abs=1e-6)
        assert row[8] == sum(d[8] for d in inside)


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_request_from_the_beginning_of_time_begins_with_the_listing(
    view: View, interval: str
) -> None:
    (first,) = klines(view, interval, startTime=0, limit=1)
    listed = view.source.listed_us("LTCUSDT") // 1000
    assert first[0] <= listed <= first[6]
    (again,) = klines(view, interval, startTime=0, endTime=NOW // 1000 + 10**8, limit=1)
    assert again == first
    assert klines(view, interval, startTime=0, endTime=first[0] - 1) == []


def test_a_recording_begins_with_its_first_trade(tmp_path: Any) -> None:
    frame = (
        '{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":7,"p":"61837.63","q":"0.02",'
        '"T":1723161255342,"m":true,"M":true}'
    )
    (tmp_path / "one.jsonl").write_text(f"1723161254087896568 {frame}\n")
    source = ReplaySource([tmp_path / "one.jsonl"], speed=None)
    source._position = 1  # as after the frame has gone out
    query = "symbol=BTCUSDT&interval=1m&startTime=0&limit=1"
    status, body = respond(View(source), "/api/v3/klines", query)
    assert (status, json.loads(body)[0][0]) == (200, 1723161240000)


def test_days_of_a_time_zone(view: View) -> None:
    rows = klines(view, "1d", timeZone="5:45", limit=3)
    assert [r[0] for r in rows] == [day(2026, 3, n) - 20_700_000 for n in (2, 3, 4)]
    minutes = klines(view, "15m", startTime=rows[1][0], endTime=rows[1][6], limit=96)
    assert rows[1][8] == sum(r[8] for r in minutes)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("0", 0),
        ("8", 480),
        ("-3:30", -210),
        ("+08:00", 480),
        ("-12:00", -720),
        ("14:00", 840),
        ("14:01", None),
        ("-12:30", None),
        ("1:60", None),
        ("", None),
        ("CET", None),
    ],
)
def test_time_zones(text: str, minutes: int | None) -> None:
    assert zone_us(text) == (None if minutes is None else minutes * 60 * US)
