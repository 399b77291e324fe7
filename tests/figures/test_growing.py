"""A picture is sent whole once, then by its ends: what the browser makes of them is the picture."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pairs.analytics.pair import PairSpec, PairView, pair_view
from pairs.figures import market, pair
from pairs.figures.growing import MOST_BYTES, Growing, Sent
from pairs.figures.layout import rows_since, steady
from pairs.figures.pair import Asked
from pairs.figures.picture import Parts, Picture
from tests.support.pages import snapshot

LEGS = ("ETHUSDT", "BTCUSDT")
SPEC = PairSpec(window=60)


def arrays_of(sent: Sent) -> list[np.ndarray[Any, Any]]:
    """The arrays that a browser holds after this message, made as browser/figure.js makes them."""
    whole = [
        np.frombuffer(base64.b64decode(part["bdata"]), part["dtype"])
        for part in json.loads(sent.packed)["arrays"]
    ]
    for number, (kept, tail) in json.loads(json.dumps(sent.tails)).items():
        old = whole[int(number)]
        values = [np.nan if value is None else value for value in tail]
        whole[int(number)] = np.concatenate([old[:kept], np.array(values, old.dtype)])
    return whole


def at(bars: int, shown: int = 200) -> tuple[PairView, Asked]:
    """The pair as of some closed bars, and what the page asks of it then."""
    legs = snapshot().legs
    y, x = (leg.closed.head(bars) for leg in legs)
    grown, until = steady(shown, y.index[-1], 1)
    return pair_view(y, x, SPEC), Asked(LEGS, "1s", grown, 1.5, 0, 3, until=until)


@pytest.mark.parametrize("raw", [False, True])
def test_what_was_sent_and_its_ends_are_the_picture_bar_by_bar(raw: bool) -> None:
    growing, whole, sizes = Growing(), 0, []
    for bars in range(500, 560):
        view, asked = at(bars)
        picture = pair.figure(view, replace(asked, raw=raw))
        sent = growing.advance(picture, str(bars))
        whole += sent.version == str(bars)
        sizes.append(len(json.dumps(sent.tails)))
        now = Parts.of(picture)
        assert json.loads(sent.packed)["figure"] == json.loads(json.dumps(now.body))
        for held, meant in zip(arrays_of(sent), now.arrays, strict=True):
            np.testing.assert_array_equal(held, meant)
    assert whole <= 60 // (200 // 16) + 2  # when the stretch begins anew
    assert max(sizes) <= MOST_BYTES


def test_a_piece_that_was_lost_is_missed_by_nobody() -> None:
    growing = Growing()
    first = growing.advance(pair.figure(*at(496)), "whole")
    growing.advance(pair.figure(*at(497)), "lost")
    third = growing.advance(pair.figure(*at(498)), "third")
    assert (first.version, third.version) == ("whole", "whole")
    for held, meant in zip(arrays_of(third), Parts.of(pair.figure(*at(498))).arrays, strict=True):
        np.testing.assert_array_equal(held, meant)


def test_a_repaired_bar_in_the_middle_is_sent() -> None:
    legs = snapshot().legs
    growing, overlays = Growing(), market.Overlays()

    def drawn(legs: tuple[Any, ...]) -> Picture:
        return market.figure(legs, "1s", bars=100, overlays=overlays, uirevision="u")

    growing.advance(drawn(legs), "whole")
    closed = legs[0].closed.copy()
    closed.loc[closed.index[-20], "high"] = 1e4
    repaired = (replace(legs[0], closed=closed), legs[1])
    sent = growing.advance(drawn(repaired), "repaired")
    for held, meant in zip(arrays_of(sent), Parts.of(drawn(repaired)).arrays, strict=True):
        np.testing.assert_array_equal(held, meant)


def test_another_layout_is_sent_whole() -> None:
    growing, (view, asked) = Growing(), at(500)
    growing.advance(pair.figure(view, asked), "a")
    assert growing.advance(pair.figure(view, replace(asked, entry_z=1.0)), "b").version == "b"


def test_a_steady_stretch_stands_still_while_bars_close() -> None:
    newest = pd.Timestamp("2026-01-01 00:10:00", tz="UTC")
    starts, ends = set(), set()
    for k in range(37):
        now = newest + pd.Timedelta(seconds=k)
        bars, until = steady(600, now, 1)
        assert 600 <= bars < 637
        assert now < until
        starts.add(now - pd.Timedelta(seconds=bars))
        ends.add(until)
    assert len(starts) <= 2
    assert len(ends) <= 2


def test_a_missing_bar_does_not_move_the_beginning() -> None:
    index = pd.date_range("2026-01-01", periods=700, freq="1s", tz="UTC")
    newest = index[-1]
    begin = index[-rows_since(index, 620, newest, 1)]
    holey = index.delete([500, 698, 699])
    assert holey[-rows_since(holey, 620, newest, 1)] == begin
    assert rows_since(index[:1], 620, newest, 1) == 1
