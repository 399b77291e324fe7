"""Addresses, control requests, frames and limits, without sockets."""

import json
from typing import Any

import pytest

from exchange.frames import AggregateMessage, TradeMessage, ws_frame
from exchange.limits import Limits, Weights, Window
from exchange.protocol import ControlError, Session, control, open_session, shutdown_event
from exchange.tape import Symbol

BTC = Symbol("BTCUSDT", "BTC", "USDT", 2, 5)


@pytest.mark.parametrize(
    ("target", "combined", "micro", "streams"),
    [
        ("/ws", False, False, []),
        ("/ws/btcusdt@trade", False, False, ["btcusdt@trade"]),
        ("/ws/btcusdt@trade/ethusdt@trade", False, False, ["btcusdt@trade", "ethusdt@trade"]),
        ("/ws/btcusdt%40trade", False, False, ["btcusdt@trade"]),
        ("/stream", True, False, []),
        ("/stream?streams=a@trade/b@trade", True, False, ["a@trade", "b@trade"]),
        ("/stream?streams=a%40trade%2Fb%40trade", True, False, ["a@trade", "b@trade"]),
        ("/stream?streams=%E5%B8%81usdt@trade", True, False, ["币usdt@trade"]),
        ("/stream?streams=a@trade&timeUnit=microsecond", True, True, ["a@trade"]),
        ("/ws/a@trade?timeUnit=MICROSECOND", False, True, ["a@trade"]),
        ("/stream?streams=a/a", True, False, ["a"]),
    ],
)
def test_addresses(target: str, combined: bool, micro: bool, streams: list[str]) -> None:
    session = open_session(target)
    assert session is not None
    assert (session.combined, session.micro) == (combined, micro)
    assert list(session.streams) == streams


@pytest.mark.parametrize("target", ["/", "/wss", "/markets/ws/a", "/streams", "/api/v3/ws"])
def test_other_addresses_are_none(target: str) -> None:
    assert open_session(target) is None


def ask(session: Session, **request: Any) -> Any:
    return json.loads(control(session, json.dumps(request), 10))


def test_subscriptions() -> None:
    session = Session()
    assert ask(session, method="SUBSCRIBE", params=["a@trade", "b@trade"], id=1) == {
        "result": None,
        "id": 1,
    }
    assert ask(session, method="UNSUBSCRIBE", params=["a@trade", "never"], id="x")["id"] == "x"
    assert ask(session, method="LIST_SUBSCRIPTIONS", id=3) == {"result": ["b@trade"], "id": 3}
    assert ask(session, method="GET_PROPERTY", params=["combined"], id=4)["result"] is False
    assert ask(session, method="SET_PROPERTY", params=["combined", True], id=5)["result"] is None
    assert ask(session, method="GET_PROPERTY", params=["combined"], id=6)["result"] is True
    assert session.combined


@pytest.mark.parametrize(
    ("text", "code", "message", "request_id"),
    [
        ("{", 3, "Invalid JSON", None),
        (b"\xff\xfe", 3, "Invalid JSON", None),
        ("[]", 2, "must be an object", None),
        ('{"id":1}', 2, "missing field `method`", 1),
        ('{"method":"X","id":1}', 2, "unknown variant `X`", 1),
        ('{"method":"SUBSCRIBE","id":1}', 2, "missing field `params`", 1),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "must be a string", 1),
        ('{"method":"SUBSCRIBE","params":[],"id":-1}', 2, "unsigned integer", None),
        ('{"method":"SET_PROPERTY","params":[1],"id":1}', 2, "property name", 1),
        ('{"method":"SET_PROPERTY","params":["x",1],"id":1}', 0, "Unknown property", 1),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "expected Boolean", 1),
        (
            json.dumps({"method": "SUBSCRIBE", "params": list("abcdefghijk"), "id": 9}),
            4,
            "Too many subscriptions",
            9,
        ),
    ],
)
def test_errors_in_both_forms(
    text: str | bytes, code: int, message: str, request_id: object
) -> None:
    session = Session()
    with pytest.raises(ControlError, match=message) as caught:
        control(session, text, 10)
    flat = json.loads(caught.value.reply(False))
    assert (flat["code"], flat["id"]) == (code, request_id)
    wrapped = json.loads(caught.value.reply(True))
    assert wrapped == {"error": {"code": code, "msg": flat["msg"]}, "id": request_id}
    assert not session.streams


def test_a_trade_reads_as_on_the_real_exchange() -> None:
    """Field for field the real frame in the protocol's description."""
    message = TradeMessage(BTC, 3735683259, 6183763, 2000, 1723161255342123, True, 1723161255343999)
    assert message.body(True, False) == (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
        b'"t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,'
        b'"m":true,"M":true}}'
    )
    assert b'"E":1723161255343999' in message.payload(True)
    assert b'"T":1723161255342123' in message.payload(True)
    assert message.wire(0) is message.wire(0), "serialised once"
    assert len({message.wire(form) for form in range(4)}) == 4


def test_an_aggregate_reads_as_on_the_real_exchange() -> None:
    row = (4074409497, 8414354, 29, 6714977585, 6714977586, 1790418592302000, True)
    assert AggregateMessage(BTC, row, 1790418592302000).payload(False) == (
        b'{"e":"aggTrade","E":1790418592302,"s":"BTCUSDT","a":4074409497,"p":"84143.54000000",'
        b'"q":"0.00029000","f":6714977585,"l":6714977586,"T":1790418592302,"m":true,"M":true}'
    )


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frame_lengths(size: int) -> None:
    """RFC 6455, section 5.2: 7, 7 + 16 or 7 + 64 bits of length."""
    frame = ws_frame(b"x" * size)
    assert frame[0] == 0x81
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame) == head + size


def test_the_shutdown_event_in_both_forms() -> None:
    assert shutdown_event(1770123456789999, False, False) == (
        b'{"e":"serverShutdown","E":1770123456789}'
    )
    assert json.loads(shutdown_event(1770123456789999, True, False)) == {
        "stream": "!serverShutdown",
        "data": {"e": "serverShutdown", "E": 1770123456789},
    }


def test_a_window_slides() -> None:
    window = Window(2, 10.0)
    assert [window.allow(t) for t in (0, 1, 2, 9.9, 10, 10.5)] == [1, 1, 0, 0, 1, 0]
    assert window.wait_s(10.5) == pytest.approx(0.5)


def test_weights_refuse_then_ban_then_forget() -> None:
    weights = Weights(Limits(weight_per_minute=50, hammering=2, ban_s=120))
    assert weights.spend(25, None, 600.0) == (200, 0)
    assert weights.spend(25, None, 610.0) == (200, 0)
    assert weights.used == 50
    status, wait = weights.spend(1, None, 630.0)
    assert (status, wait) == (429, 31)
    assert weights.spend(1, None, 631.0)[0] == 429
    assert weights.spend(1, None, 632.0) == (418, 120)
    assert weights.spend(1, None, 700.0)[0] == 418, "a new minute does not lift a ban"
    assert weights.spend(1, None, 752.5) == (200, 0)
    assert weights.used == 1
    assert weights.spend(5, 3, 752.6)[0] == 429, "a lower limit may be asked for"
