"""Ticks to bars and bars to bars: exact, ordered, honest about what it was given."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resampling import (
    align,
    bar_length_ns,
    bar_ns,
    common_step_ns,
    resample_bars,
    ticks_to_bars,
)
from tests.support.reference import data_file, trades

EXACT = ["open", "high", "low", "close", "trades"]
SUMS = ["volume", "quote_volume", "taker_buy_volume"]


def assert_same_bars(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Prices, trades and index exactly; sums to 1e-12 relative."""
    pd.testing.assert_index_equal(ours.index, theirs.index)
    assert list(ours.columns) == list(theirs.columns)
    pd.testing.assert_frame_equal(ours[EXACT], theirs[EXACT], check_exact=True)
    for name in SUMS:
        if name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-300)


def ticks_at(*stamps: str, unit: str = "us", **columns: Any) -> pd.DataFrame:
    index = pd.DatetimeIndex(stamps, tz="UTC").as_unit(unit)  # type: ignore[arg-type]
    rows = len(index)
    defaults = {"price": [float(n + 1) for n in range(rows)], "size": [1.0] * rows}
    return pd.DataFrame({**defaults, **columns}, index=index)


class TestRealCapture:
    @pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
    def test_totals_are_those_of_the_capture(self, symbol: str) -> None:
        """Every trade of 23:54 to 00:05 UTC, counted by the exchange's own ids."""
        truth = json.loads(data_file("market", "ground_truth.json").read_text())
        facts = truth[f"spot_{symbol.lower()}"]
        for bar in ("1s", "1min", "5min", "1h", "1d"):
            bars = ticks_to_bars(trades(symbol), bar)
            assert bars["trades"].sum() == facts["rows"]
            for name, key in (("volume", "sum_qty"), ("quote_volume", "sum_notional")):
                assert bars[name].sum() == pytest.approx(float(Decimal(facts[key])), rel=1e-12)

    def test_midnight_is_a_seam(self) -> None:
        days = ticks_to_bars(trades("BTCUSDT"), "1d")
        assert days.index.astype(str).tolist() == [
            "2024-08-08 00:00:00+00:00",
            "2024-08-09 00:00:00+00:00",
        ]
        ticks = trades("BTCUSDT")
        after = ticks[ticks.index >= "2024-08-09"]
        assert days["open"].iloc[1] == after["price"].iloc[0]
        assert days["close"].iloc[0] == ticks["price"].iloc[len(ticks) - len(after) - 1]

    @pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
    @pytest.mark.parametrize("bar", ["5s", "1min", "5min", "1h", "1d"])
    def test_from_seconds_equals_from_ticks(self, symbol: str, bar: str) -> None:
        ticks = trades(symbol)
        direct = ticks_to_bars(ticks, bar)
        assert_same_bars(resample_bars(ticks_to_bars(ticks, "1s"), bar), direct)
        if bar in ("5min", "1h", "1d"):
            assert_same_bars(resample_bars(ticks_to_bars(ticks, "1min"), bar), direct)

    def test_pandas_agrees(self) -> None:
        ticks = trades("ETHUSDT")
        minutes = pd.DatetimeIndex(ticks.index).floor("1min")
        groups = ticks.groupby(minutes)
        ours = ticks_to_bars(ticks, "1min")
        ohlc = groups["price"].ohlc()
        assert (ours[["open", "high", "low", "close"]].to_numpy() == ohlc.to_numpy()).all()
        assert ours["trades"].tolist() == groups.size().tolist()
        bought = ticks["size"].where(~ticks["buyer_is_maker"], 0.0)
        sums = bought.groupby(minutes).sum()
        np.testing.assert_allclose(ours["taker_buy_volume"], sums, rtol=1e-12)

    def test_any_order_of_arrival_with_ids(self) -> None:
        """Hundreds of trades share a millisecond: time alone cannot tell open from close."""
        ticks = trades("BTCUSDT")
        assert ticks.index.value_counts().max() == 735
        shuffled = ticks.sample(frac=1, random_state=1)
        assert_same_bars(ticks_to_bars(shuffled, "1s"), ticks_to_bars(ticks, "1s"))


class TestTicks:
    def test_one_timestamp_keeps_the_given_order(self) -> None:
        late, early = "2024-01-01 00:00:05", "2024-01-01 00:00:01"
        ticks = ticks_at(late, early, early, early, price=[9.0, 5.0, 7.0, 6.0])
        bar = ticks_to_bars(ticks, "1min").iloc[0]
        assert bar[["open", "high", "low", "close"]].tolist() == [5.0, 9.0, 5.0, 9.0]
        assert ticks_to_bars(ticks, "1s")["close"].tolist() == [6.0, 9.0]

    def test_one_timestamp_follows_the_ids(self) -> None:
        at = "2024-01-01 00:00:01"
        ticks = ticks_at(at, at, at, price=[5.0, 7.0, 6.0], trade_id=[12, 10, 11])
        bar = ticks_to_bars(ticks, "1s").iloc[0]
        assert bar[["open", "close"]].tolist() == [7.0, 5.0]

    def test_columns_labels_and_gaps(self) -> None:
        ticks = ticks_at(
            "2024-01-01 00:00:59.999",
            "2024-01-01 00:01:00",
            "2024-01-01 00:03:00.5",
            size=[2.0, 0.0, 3.0],
            buyer_is_maker=[True, False, False],
        )
        bars = ticks_to_bars(ticks, "1min")
        assert bars.index.name == "ts"
        assert str(bars.index.dtype) == "datetime64[us, UTC]"
        assert [label.minute for label in bars.index] == [0, 1, 3]
        assert list(bars.columns) == ["open", "high", "low", "close", *SUMS, "trades"]
        assert bars["taker_buy_volume"].tolist() == [0.0, 0.0, 3.0]
        assert bars["quote_volume"].tolist() == [2.0, 0.0, 9.0]
        plain = ticks_to_bars(ticks.drop(columns="buyer_is_maker"), "1min")
        assert "taker_buy_volume" not in plain

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_resolution_of_the_index_stays(self, unit: str) -> None:
        bars = ticks_to_bars(ticks_at("1969-12-31 23:59:58", "1970-01-01", unit=unit), "1min")
        assert bars.index.astype(str).tolist() == [
            "1969-12-31 23:59:00+00:00",
            "1970-01-01 00:00:00+00:00",
        ]
        assert str(bars.index.dtype) == f"datetime64[{unit}, UTC]"

    def test_bars_finer_than_the_index(self) -> None:
        assert len(ticks_to_bars(ticks_at("2024-01-01", unit="s"), "250ms")) == 1

    def test_zones(self) -> None:
        ticks = ticks_at("2024-01-01 23:30", "2024-01-02 00:30")
        for other in (ticks.tz_convert("Asia/Kolkata"), ticks.tz_localize(None)):
            assert_same_bars(ticks_to_bars(other, "1h"), ticks_to_bars(ticks, "1h"))

    def test_nothing_gives_no_bars(self) -> None:
        empty = ticks_at("2024-01-01", buyer_is_maker=[True])[:0]
        bars = ticks_to_bars(empty, "1s")
        assert bars.empty
        assert_same_bars(resample_bars(bars, "5min"), bars)

    def test_arguments_stay(self) -> None:
        ticks = ticks_at("2024-01-01 00:00:05", "2024-01-01", trade_id=[2, 1])
        before = ticks.copy()
        bars = ticks_to_bars(ticks, "1s")
        pd.testing.assert_frame_equal(ticks, before)
        kept = bars.copy()
        resample_bars(bars[::-1], "5min")
        pd.testing.assert_frame_equal(bars, kept)

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"price": [1.0, np.nan]}, r"price.* nan at row 1 \(2024-01-01 00:00:01"),
            ({"price": [np.inf, 1.0]}, r"price.* inf at row 0"),
            ({"price": [np.inf, 1.0], "size": [0.0, 1.0]}, r"price.* inf at row 0"),
            ({"price": [np.nan, 1.0], "size": [0.0, 1.0]}, r"price.* nan at row 0"),
            ({"size": [1.0, np.inf]}, r"size.* inf at row 1"),
            ({"price": [1.0, 0.0]}, r"price.* 0 at row 1"),
            ({"price": [1.0, -2.0]}, r"price.* -2 at row 1.* above 0"),
            ({"size": [1.0, -1.0]}, r"size.* -1 at row 1.* 0 or more"),
            ({"size": [np.nan, 1.0]}, r"size.* nan at row 0"),
            ({"price": ["a", "b"]}, "price.* dtype"),
            ({"buyer_is_maker": [True, None]}, r"buyer_is_maker.* row 1"),
            ({"trade_id": [1.5, 2.0]}, "trade_id.* dtype"),
        ],
    )
    def test_bad_rows_are_named(self, columns: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ticks_to_bars(ticks_at("2024-01-01", "2024-01-01 00:00:01", **columns), "1s")

    def test_bad_frames(self) -> None:
        ticks = ticks_at("2024-01-01", "2024-01-02")
        with pytest.raises(ValueError, match="no column size"):
            ticks_to_bars(ticks[["price"]], "1s")
        with pytest.raises(ValueError, match="RangeIndex"):
            ticks_to_bars(ticks.reset_index(drop=True), "1s")
        with pytest.raises(ValueError, match="no timestamp at row 1"):
            ticks_to_bars(ticks.set_axis(pd.DatetimeIndex(["2024-01-01", None], tz="UTC")), "1s")
        with pytest.raises(ValueError, match="ticks is a list"):
            ticks_to_bars([], "1s")  # type: ignore[arg-type]

    @pytest.mark.parametrize("bar", ["1m", "0s", "-1s", "1.5s", "s", "", "1 week", "1M", None, 60])
    def test_bar_strings_refused(self, bar: Any) -> None:
        with pytest.raises(ValueError, match=r"bar=.* allowed is"):
            bar_ns(bar)

    def test_bar_strings(self) -> None:
        with pytest.raises(ValueError, match='for minutes write "5min"'):
            bar_ns("5m")
        lengths = {
            "100ms": 0.1,
            "1s": 1,
            "60s": 60,
            "5min": 300,
            "1h": 3600,
            "1d": 86400,
            "1D": 86400,
        }
        assert {bar: bar_ns(bar) / 1e9 for bar in lengths} == lengths


TICKS = st.lists(
    st.tuples(
        st.integers(-4_000, 900_000), st.integers(1, 10**6), st.integers(0, 10**6), st.booleans()
    ),
    min_size=1,
    max_size=60,
)


@given(TICKS, st.sampled_from(["2s", "5s", "1min", "5min", "1h"]))
@settings(max_examples=150, deadline=None)
def test_larger_bars_are_exact(rows: list[tuple[int, int, int, bool]], bar: str) -> None:
    """Whatever the gaps: ticks → 1 s → bar equals ticks → bar."""
    at, price, size, maker = (np.array(column) for column in zip(*rows, strict=True))
    ticks = pd.DataFrame(
        {"price": price / 100, "size": size / 1e4, "buyer_is_maker": maker},
        index=pd.DatetimeIndex(at.astype("M8[ms]"), tz="UTC"),
    )
    assert_same_bars(resample_bars(ticks_to_bars(ticks, "1s"), bar), ticks_to_bars(ticks, bar))


class TestBars:
    def bars(self, freq: str, rows: int = 4, start: str = "2024-01-01") -> pd.DataFrame:
        index = pd.date_range(start, periods=rows, freq=freq, tz="UTC")
        columns = dict.fromkeys(("open", "high", "low", "close"), np.arange(1.0, rows + 1))
        return pd.DataFrame({**columns, "volume": 1.0, "venue": "binance"}, index=index)

    def test_only_what_is_there_is_summed(self) -> None:
        bars = resample_bars(self.bars("1min").assign(trades=2), "2min")
        assert list(bars.columns) == ["open", "high", "low", "close", "volume", "trades"]
        assert bars["trades"].tolist() == [4, 4]
        assert bars["open"].tolist() == [1.0, 3.0]
        assert bars["close"].tolist() == [2.0, 4.0]

    def test_unknown_is_not_zero(self) -> None:
        bars = self.bars("1min").assign(trades=[1, 2, np.nan, 4], quote_volume=[1, np.nan, 3, 4])
        larger = resample_bars(bars, "2min")
        assert larger["trades"].isna().tolist() == [False, True]
        assert larger["quote_volume"].isna().tolist() == [True, False]

    @pytest.mark.parametrize(
        ("freq", "bar", "message"),
        [
            ("5min", "1min", "shorter than the bars given, which are 300 s"),
            ("5min", "7min", "no multiple of the bars given, which are 300 s"),
            ("1h", "90min", "no multiple"),
            ("1D", "1h", "shorter"),
        ],
    )
    def test_bars_are_never_cut(self, freq: str, bar: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            resample_bars(self.bars(freq), bar)

    def test_sparse_bars_know_their_length(self) -> None:
        """Two 1 s bars ten seconds apart look like 10 s bars, and are none."""
        seconds = ticks_to_bars(ticks_at("2024-01-01", "2024-01-01 00:00:10"), "1s")
        assert len(resample_bars(seconds, "5s")) == 2
        alone = ticks_to_bars(ticks_at("2024-01-01"), "5min")
        with pytest.raises(ValueError, match="shorter"):
            resample_bars(alone, "1min")
        assert len(resample_bars(self.bars("1min", 1), "5min")) == 1

    @pytest.mark.parametrize(
        ("minutes", "bar", "bars"),
        [
            ([0, 2, 6], "5min", 2),  # minutes with holes, though all are even
            ([0, 10], "5min", 2),  # no exchange has bars of ten minutes
            ([0, 10, 40], "5min", 3),
            ([0, 60, 90], "30min", 3),
            ([0, 5, 20], "1min", None),  # bars of five minutes with holes are still that
            ([0, 5], "1min", None),
            ([0, 2, 4, 6], "5min", None),  # and an unbroken row of steps is believed
            ([0, 60, 180], "30min", None),
        ],
    )
    def test_length_told_by_the_labels(
        self, minutes: list[int], bar: str, bars: int | None
    ) -> None:
        sparse = self.bars("1min", 181).iloc[minutes]
        if bars is None:
            with pytest.raises(ValueError, match="the bars given"):
                resample_bars(sparse, bar)
        else:
            assert len(resample_bars(sparse, bar)) == bars

    @pytest.mark.parametrize(
        ("minutes", "length"),
        [
            ([0, 1, 2], 1),
            ([0, 1, 7], 1),
            ([0, 5, 20, 35], 5),
            ([3, 8, 13], 5),
            ([0, 4, 10], 2),
            ([20, 0, 5], 5),
            ([0, 0, 5], 5),
            ([0], None),
            ([], None),
            ([7, 7], None),
        ],
    )
    def test_the_common_step_of_labels(self, minutes: list[int], length: int | None) -> None:
        """In any order, of any resolution, with holes, rows doubled or missing."""
        index = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"))
        for unit in ("s", "ms", "us", "ns"):
            found = common_step_ns(index.as_unit(unit))
            assert found == (None if length is None else length * 60 * 10**9)
        assert common_step_ns(pd.DatetimeIndex([*index, pd.NaT])) == found
        assert bar_length_ns(pd.DataFrame({"close": 1.0}, index=index)) == found

    @pytest.mark.parametrize("note", ["1min", -60, 0, 6e10, True, None, [60], np.array([1, 2])])
    def test_a_note_that_is_no_length_is_none(self, note: object) -> None:
        bars = self.bars("1min")
        bars.attrs["bar_ns"] = note
        assert bar_length_ns(bars) == 60 * 10**9
        assert len(resample_bars(bars, "2min")) == 2
        bars.attrs["bar_ns"] = np.int64(10**9)
        assert bar_length_ns(bars) == 10**9

    def test_same_length_is_the_identity(self) -> None:
        bars = self.bars("1min").drop(columns="venue")
        pd.testing.assert_frame_equal(
            resample_bars(bars, "1min"), bars, check_names=False, check_freq=False
        )

    def test_bad_rows_are_named(self) -> None:
        bars = self.bars("1min")
        twice = pd.concat([bars, bars[1:2]])
        with pytest.raises(ValueError, match=r"2024-01-01 00:01:00.* more than once"):
            resample_bars(twice, "5min")
        with pytest.raises(ValueError, match=r"high.* nan at row 2"):
            resample_bars(bars.assign(high=[1, 2, np.nan, 4]), "5min")
        with pytest.raises(ValueError, match=r"volume.* -1 at row 0"):
            resample_bars(bars.assign(volume=-1.0), "5min")
        with pytest.raises(ValueError, match="no column close, volume"):
            resample_bars(bars[["open", "high", "low"]], "5min")


class TestAlign:
    def test_common_rows_in_order_of_time(self) -> None:
        index = pd.date_range("2024-01-01", periods=5, freq="1min", tz="UTC")
        y = pd.DataFrame({"close": range(5), "note": list("abcde")}, index=index)[::-1]
        x = pd.DataFrame({"close": [10.0, 11.0, 13.0]}, index=index[[0, 1, 3]].as_unit("ns"))
        before = y.copy(), x.copy()
        left, right = align(y, x)
        assert left["close"].tolist() == [0, 1, 3]
        assert left["note"].tolist() == ["a", "b", "d"]
        assert right["close"].tolist() == [10.0, 11.0, 13.0]
        pd.testing.assert_index_equal(left.index, right.index)
        assert left.index.name == "ts"
        pd.testing.assert_frame_equal(y, before[0])
        pd.testing.assert_frame_equal(x, before[1])

    def test_changing_the_result_changes_no_argument(self) -> None:
        y, x = ticks_at("2024-01-01"), ticks_at("2024-01-01")
        left, _ = align(y, x)
        left.loc[:, "price"] = 99.0
        assert y["price"].tolist() == [1.0]

    def test_nothing_in_common(self) -> None:
        left, right = align(ticks_at("2024-01-01"), ticks_at("2024-01-02"))
        assert left.empty
        assert right.empty
        assert left.index.equals(right.index)

    def test_zones_meet_in_utc(self) -> None:
        y = ticks_at("2024-01-01 12:00", "2024-01-01 13:00")
        left, right = align(y, y.tz_convert("Asia/Tokyo").tz_convert(None))
        assert len(left) == len(right) == 2

    def test_duplicates_refused(self) -> None:
        y = ticks_at("2024-01-01", "2024-01-01")
        with pytest.raises(ValueError, match="bars_x holds"):
            align(y[:1], y)
