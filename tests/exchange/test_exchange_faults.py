"""Faults of frames, without sockets: chances, exact ids, damage, settings."""

import json

import pytest

from exchange import Faults
from exchange.faults import INJECTIONS, MANGLES, Ids, injection, mangled
from exchange.frames import Message, TradeMessage
from exchange.tape import Symbol

BTC = Symbol("BTCUSDT", "BTC", "USDT", 2, 5)


def trade(number: int, info: Symbol = BTC) -> TradeMessage:
    return TradeMessage(
        info, number, 8414354, 29, 1_700_000_000_000_000, True, 1_700_000_000_001_000
    )


def ids(messages: list[Message]) -> list[int | None]:
    return [m.trade_id for m in messages]


def through(faults: Faults, count: int = 1000, batch: int = 50) -> list[Message]:
    out: list[Message] = []
    for first in range(0, count, batch):
        out += faults.apply([trade(n) for n in range(first, first + batch)])
    return out


def test_no_fault_changes_nothing() -> None:
    batch: list[Message] = [trade(n) for n in range(9)]
    assert Faults().apply(batch) is batch


def test_chances_are_near_and_repeatable() -> None:
    for kind in ("drop", "duplicate", "reorder", "conflict"):
        first, again = (ids(through(Faults(**{kind: 0.1}))) for _ in range(2))
        assert first == again
        other = ids(through(Faults(seed=1, **{kind: 0.1})))
        assert other != first
    assert 850 < len(through(Faults(drop=0.1))) < 950
    assert 1050 < len(through(Faults(duplicate=0.1))) < 1150


def test_exact_ids() -> None:
    assert ids(through(Faults(drop_ids=Ids("3-5,7")), 10, 10)) == [0, 1, 2, 6, 8, 9]
    assert ids(through(Faults(void_ids=Ids("4")), 6, 6)) == [0, 1, 2, 3, 5]
    assert ids(through(Faults(duplicate_ids=Ids("1")), 3, 3)) == [0, 1, 1, 2]
    assert ids(through(Faults(reorder_ids=Ids("1"), reorder_by=2), 6, 2)) == [0, 2, 3, 1, 4, 5]


def test_a_reordered_frame_is_late_but_not_lost() -> None:
    out = ids(through(Faults(reorder=0.2, reorder_by=7)))
    assert out != sorted(out)  # type: ignore[type-var]
    assert set(range(990)) <= set(out)
    assert len(out) == len(set(out))


def test_a_conflict_repeats_the_id_at_another_price() -> None:
    one, two, *_ = through(Faults(conflict_ids=Ids("0")), 2, 2)
    first, second = (json.loads(m.payload(False)) for m in (one, two))
    assert (first["t"], second["t"]) == (0, 0)
    assert (first.pop("p"), second.pop("p")) == ("84143.54000000", "84984.97540000")
    assert first == second


def test_skipping_frames_of_a_symbol() -> None:
    faults = Faults()
    faults.skip("3", ["BTCUSDT"])
    assert ids(through(faults, 6, 2)) == [3, 4, 5]
    faults.skip("2@ETHUSDT", ["BTCUSDT", "ETHUSDT"])
    assert len(through(faults, 6, 2)) == 6


def test_silence_stall_and_symbols() -> None:
    assert through(Faults(silence=frozenset({"btcusdt@trade"}))) == []
    assert len(through(Faults(silence=frozenset({"ethusdt@trade"})))) == 1000
    assert through(Faults(stall=True)) == []
    assert len(through(Faults(drop=1.0, symbols=frozenset({"ETHUSDT"})))) == 1000
    assert through(Faults(drop=1.0, symbols=frozenset({"BTCUSDT"}))) == []


@pytest.mark.parametrize("kind", MANGLES)
@pytest.mark.parametrize("form", [0, 1])
def test_mangled_frames(kind: str, form: int) -> None:
    good, bad = trade(5), mangled(trade(5), kind)
    assert bad.trade_id == 5
    raw = bad.wire(form)
    assert raw != good.wire(form)
    payload = raw[2:] if raw[1] < 126 else raw[4:]
    if kind == "binary":
        assert raw[0] == 0x82
        return
    if kind in ("truncated", "utf8"):
        with pytest.raises(ValueError, match=r"column|codec"):
            json.loads(payload)
        return
    told = json.loads(payload)
    event = told["data"] if form else told
    price = {
        "number": 84143.54,
        "nan": "NaN",
        "empty": "",
        "negative": "-84143.54000000",
        "zero": "0.00000000",
        "decimals30": "84143.540000000000000000000000000001",
    }
    assert event["p"] == price.get(kind, "84143.54000000")
    if kind == "decimals30":
        assert len(event["p"].split(".")[1]) == 30
    assert ("M" in event) == (kind != "missing_m")
    assert ("nq" in event) == (kind == "unknown")
    assert event["t"] == 5


def test_setting_from_text() -> None:
    faults = Faults()
    faults.set("drop", "0.25")
    faults.set("drop_ids", "1-3,9")
    faults.set("stall", "true")
    faults.set("silence", "a@trade,b@trade")
    faults.set("rest_lag", "20")
    assert (faults.drop, faults.stall, faults.rest_lag) == (0.25, True, 20)
    assert 2 in faults.drop_ids
    assert 4 not in faults.drop_ids
    told = faults.describe()
    assert told["drop_ids"] == "1-3,9-9"
    assert told["silence"] == ["a@trade", "b@trade"]
    for name, value in [
        ("nope", "1"),
        ("drop", "much"),
        ("stall", "2"),
        ("drop_ids", "a-b"),
        ("mangle_as", "x"),
        ("close_code", "1005"),
    ]:
        with pytest.raises(ValueError, match=r"allowed|convert|unknown"):
            faults.set(name, value)
    for event in ("nope", "close:x", "close:5", "inject:nope", "shutdown:soon"):
        with pytest.raises(ValueError, match=r"allowed|convert|unknown"):
            faults.do(event)


def test_injections_are_framed() -> None:
    for kind in (*INJECTIONS, "binary", "huge"):
        assert injection(kind)[0] in (0x81, 0x82)
    assert len(injection("huge")) > 10_000_000
