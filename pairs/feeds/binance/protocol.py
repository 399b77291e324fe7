"""Binance's public market data: addresses, and frames → trades. Pure; the sockets are elsewhere.

Prices and sizes are stored as float8, so a number is accepted only where the float reads back as
exactly the decimal that was sent (always so up to 15 significant digits); anything else is
rejected with its reason and kept, never rounded in silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from pairs.market import Kline, Rejected, Trade

_DECIMAL = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_EXACT_CHARS = 16  # at most 15 digits and a point
_ID_LIMIT = 2**63
US_FROM = 10**14  # larger times are µs, smaller ones ms, for every moment from 1973 to 5138
_TIME_RANGE_US = (1_230_000_000_000_000, 4_100_000_000_000_000)  # 2008 … 2099
MAX_FRAME_BYTES = 32 * 2**20
REST_PAGE = 1000
SIMULATED = "X-Simulated"  # the header by which an exchange says that its market is none
LOOPBACK = ("//127.", "//localhost", "//[::1]")  # never through a proxy
_LARGEST_AGGREGATE = 100_000  # trades; one of a tenth of a second at one price holds far fewer
_SHOWN_CHARS = 300  # of what is quoted in reasons and log lines; frames are kept to 10,000


def wrong_nature(says: str | None, simulated: bool | None) -> str:
    """Why nothing of this exchange may be stored under the venue chosen; empty where it may.
    `says` is what the exchange calls itself (SIMULATED), `simulated` what the venue holds: True
    and False demand it, None takes both."""
    if simulated is None or simulated == bool(says):
        return ""
    if says:
        return f"this exchange says that it is simulated ({says[:30]}): not stored as real trades"
    return "this exchange does not say that it is simulated: not stored among simulated trades"


@dataclass(frozen=True, slots=True)
class Control:
    """A message about the connection instead of the market."""

    kind: Literal["ack", "error", "shutdown"]
    text: str


@dataclass(frozen=True, slots=True)
class BinanceMarket:
    """What differs between the markets. The id of a USD-M trade is that of its aggregate: there
    `@trade` is undocumented and carries placeholders. `suffix` is added to the symbols that are
    stored, for a market that shares a venue with another."""

    event: str
    id_field: str
    ws_path: str
    rest_path: str
    trades_by_id: str
    weight_per_minute: int
    kline_s: tuple[int, ...]
    weights: tuple[tuple[str, int], ...]
    short_weights: tuple[tuple[str, int], ...] = ()  # of requests for less than 100 rows
    suffix: str = ""

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """What REST calls a trade's id, time, price, size and side."""
        if self.id_field == "a":
            return "a", "T", "p", "q", "m"
        return "id", "time", "price", "qty", "isBuyerMaker"

    def wire(self, symbol: str) -> str:
        """The exchange's name of a stored symbol."""
        return symbol.removesuffix(self.suffix)

    def weight(self, endpoint: str, rows: int = REST_PAGE) -> int:
        """What a request for so many rows costs of the limit per minute."""
        full = dict(self.weights).get(endpoint, 1)
        return dict(self.short_weights).get(endpoint, full) if rows < 100 else full


SPOT = BinanceMarket(
    "trade",
    "t",
    "",
    "/api/v3",
    "historicalTrades",
    6000,
    (60, 1),
    (("historicalTrades", 25), ("trades", 25), ("aggTrades", 4), ("klines", 2)),
)
USDM = BinanceMarket(
    "aggTrade",
    "a",
    "/market",
    "/fapi/v1",
    "aggTrades",
    2400,
    (60,),
    (("aggTrades", 20), ("klines", 5)),
    (("klines", 1),),
)
PROTOCOLS = {"spot": SPOT, "usdm": USDM}


@dataclass(frozen=True, slots=True)
class Unstorable:
    """A trade that the exchange tells by id, but in a form that cannot be stored. `unreadable`: a
    row stands where it should be, of which not even the id is known."""

    trade_id: int
    rejected: Rejected
    unreadable: bool = False


class _Data(msgspec.Struct, rename={"first": "f", "last": "l"}):
    e: str
    s: str
    p: str
    q: str
    T: int
    m: bool
    t: int = -1
    a: int = -1
    first: Any = None
    last: Any = None


class _Combined(msgspec.Struct):
    data: _Data


_combined = msgspec.json.Decoder(_Combined).decode
_raw = msgspec.json.Decoder(_Data).decode


def stream_url(base: str, protocol: BinanceMarket, symbols: Iterable[str]) -> str:
    """The combined stream of the trades of `symbols`, below a bare base address."""
    names = (f"{protocol.wire(symbol).lower()}@{protocol.event}" for symbol in symbols)
    return f"{base}{protocol.ws_path}/stream?streams=" + "/".join(
        quote(name, safe="@") for name in names
    )


def parse(
    frame: str | bytes, received_us: int, protocol: BinanceMarket = SPOT
) -> Trade | Control | Rejected | None:
    """One frame, raw or combined, as what it means; None for streams that hold no trades."""
    try:
        message = _combined(frame).data
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
        try:
            message = _raw(frame)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
            return _parse_other(frame, received_us, protocol)
    if message.e != protocol.event:
        return None
    try:
        return Trade(
            message.s + protocol.suffix,
            _trade_id(message.t if protocol.id_field == "t" else message.a),
            _time_us(message.T),
            exact(message.p, "price"),
            exact(message.q, "size"),
            message.m,
            received_us,
            1 if protocol.id_field == "t" else _count(message.first, message.last),
        )
    except ValueError as error:
        number = _readable(message.t if protocol.id_field == "t" else message.a)
        none = number is not None and protocol.id_field == "a" and is_nothing(message.q)
        return Rejected(str(error), _shown(frame), message.s + protocol.suffix, number, none)


def _parse_other(
    frame: str | bytes, received_us: int, protocol: BinanceMarket
) -> Trade | Control | Rejected | None:
    """Everything that is not a trade in the usual form."""
    try:
        message = json.loads(frame, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        # ArithmeticError: an exponent that no Decimal can hold.
        return Rejected(f"not JSON: {error}", _shown(frame))
    if isinstance(message, dict):
        control = _control(message)
        if control is not None:
            return control
        data = message.get("data", message)
        if isinstance(data, dict) and data.get("e") == protocol.event:
            return _odd_trade(frame, received_us, data, protocol)
        if isinstance(data, dict) and not data.keys().isdisjoint(("e", "u", "lastUpdateId")):
            return None  # another stream: bookTicker has no "e", a partial book only its id
    return Rejected("not a message of this protocol", _shown(frame))


def _control(message: dict[str, Any]) -> Control | None:
    data = message.get("data", message)
    if isinstance(data, dict) and data.get("e") == "serverShutdown":
        return Control("shutdown", "the server announces its shutdown")
    error = message.get("error", message)
    if isinstance(error, dict) and "code" in error and "msg" in error:
        return Control("error", f"{error['code']}: {error['msg']}"[:_SHOWN_CHARS])
    if "result" in message and "id" in message:
        return Control("ack", json.dumps(message["result"], default=str)[:_SHOWN_CHARS])
    return None


def _odd_trade(
    frame: str | bytes, received_us: int, data: dict[str, Any], protocol: BinanceMarket
) -> Trade | Rejected:
    """A trade whose fields have unusual types: JSON numbers are as exact as strings."""
    symbol = data.get("s")
    try:
        if not isinstance(symbol, str) or not symbol:
            raise ValueError(f"symbol {_brief(symbol)} is no text")
        if not isinstance(data.get("m"), bool):
            raise ValueError(f"buyer_is_maker {_brief(data.get('m'))} is neither true nor false")
        for field, what in ((protocol.id_field, "trade id"), ("T", "trade time")):
            if type(data.get(field)) is not int:
                raise ValueError(f"{what} {_brief(data.get(field))} is no integer")
        return Trade(
            symbol + protocol.suffix,
            _trade_id(data[protocol.id_field]),
            _time_us(data["T"]),
            exact(data.get("p"), "price"),
            exact(data.get("q"), "size"),
            data["m"],
            received_us,
            1 if protocol.id_field == "t" else _count(data.get("f"), data.get("l")),
        )
    except ValueError as error:
        if not isinstance(symbol, str):
            return Rejected(str(error), _shown(frame))
        number = _readable(data.get(protocol.id_field))
        return Rejected(str(error), _shown(frame), symbol + protocol.suffix, number)


def exact(value: object, what: str) -> float:
    """A positive decimal as the float that reads back as the same decimal; else ValueError."""
    text = str(value) if type(value) in (int, Decimal) else value
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise ValueError(f"{what} {_brief(value)} is no positive decimal number")
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"{what} {_brief(text)} is not positive and finite")
    if len(text) > _EXACT_CHARS and Decimal(repr(number)) != Decimal(text):
        raise ValueError(f"{what} {_brief(text)} has more digits than can be stored exactly")
    return number


def _trade_id(value: int) -> int:
    if not 0 <= value < _ID_LIMIT:
        raise ValueError(f"trade id {value} is outside 0 … 2^63-1")
    return value


def is_nothing(size: object) -> bool:
    """Whether a size is exactly zero: aggregates of USD-M often are, and hold no trade then."""
    text = str(size) if type(size) in (int, Decimal) else size
    return isinstance(text, str) and bool(_DECIMAL.fullmatch(text)) and float(text) == 0


def _readable(value: object) -> int | None:
    """What is a trade id, if it is one."""
    return value if type(value) is int and 0 <= value < _ID_LIMIT - 2 else None


def _count(first: object, last: object) -> int:
    """The trades of an aggregate by the ids of its first and last one, as klines count them. They
    are told for information (−1, null and nonsense have been seen): 1 where they say nothing."""
    if type(first) is int and type(last) is int and 0 <= first <= last:
        count = last - first + 1
        return count if count <= _LARGEST_AGGREGATE else 1
    return 1


def _time_us(value: int) -> int:
    micros = value if value >= US_FROM else value * 1000
    if not _TIME_RANGE_US[0] <= micros <= _TIME_RANGE_US[1]:
        raise ValueError(f"trade time {value} is no time in ms or µs between 2008 and 2099")
    return micros


def _brief(value: object) -> str:
    return repr(value)[:_SHOWN_CHARS]


def _shown(frame: str | bytes) -> str:
    text = frame if isinstance(frame, str) else frame[:10_000].decode("utf-8", "backslashreplace")
    return text[:10_000]


def parse_rest_trades(
    symbol: str,
    rows: Any,
    received_us: int,
    protocol: BinanceMarket = SPOT,
    since: int | None = None,
) -> list[Trade | Unstorable]:
    """The rows of historicalTrades, trades or aggTrades, ascending by id. A row that cannot be
    stored stands in the list as `Unstorable`, one whose id cannot be read under the ids that it
    may be: those between its neighbours. `since` is the id that was asked for. ValueError where no
    row is a trade."""
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of trades, received {str(rows)[:200]}")
    found: list[Trade | Unstorable] = []
    unread: dict[int, Rejected] = {}  # by how many rows stand before it
    for row in rows:
        try:
            trade_id = whole(row[protocol.names[0]], "trade id")
            _trade_id(trade_id)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"a row without a trade id: {type(error).__name__} {error}"[:_SHOWN_CHARS]
            unread[len(found)] = Rejected(reason, _brief(row), symbol)
            continue
        found.append(_row(symbol, row, trade_id, received_us, protocol))
    if rows and not found:
        raise ValueError(f"no row of {len(rows)} is a trade, the first is {str(rows[0])[:200]}")
    for k, rejected in unread.items():
        low = found[k - 1].trade_id + 1 if k else since
        if low is not None and k < len(found):
            between = range(low, found[k].trade_id)[:REST_PAGE]
            found += [
                Unstorable(i, replace(rejected, trade_id=i), unreadable=True) for i in between
            ]
    return sorted(found, key=lambda row: row.trade_id)


def _row(
    symbol: str, row: Any, trade_id: int, received_us: int, protocol: BinanceMarket
) -> Trade | Unstorable:
    _, when, price, size, maker = protocol.names
    try:
        if not isinstance(row[maker], bool):
            raise ValueError(f"{maker} {_brief(row[maker])} is neither true nor false")
        return Trade(
            symbol,
            trade_id,
            _time_us(whole(row[when], "trade time")),
            exact(row[price], "price"),
            exact(row[size], "size"),
            row[maker],
            received_us,
            1 if protocol.id_field == "t" else _count(row.get("f"), row.get("l")),
        )
    except KeyError as error:
        return Unstorable(trade_id, Rejected(f"{error} is missing", _brief(row), symbol, trade_id))
    except ValueError as error:
        rejected = Rejected(str(error), _brief(row), symbol, trade_id, is_nothing(row.get(size)))
        return Unstorable(trade_id, rejected)


def whole(value: object, what: str) -> int:
    """A whole number, as JSON has it or as text."""
    if type(value) is int:
        return value
    text = str(value) if isinstance(value, str | Decimal) else ""
    if not re.fullmatch(r"-?\d{1,30}", text, re.ASCII):
        raise ValueError(f"{what} {_brief(value)} is no integer")
    return int(text)


def parse_klines(
    symbol: str, bar_s: int, rows: Any, aside: list[Rejected] | None = None
) -> list[Kline]:
    """The rows of /api/v3/klines, the bar that is still forming included if it is there. A row
    that is not that, or holds a number that no bar can, goes into `aside`; without one it is a
    ValueError."""
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of klines, received {str(rows)[:200]}")
    found = []
    for row in rows:
        try:
            found.append(_kline(symbol, bar_s, row))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            if aside is None:
                raise ValueError(f"the kline {str(row)[:200]} is no bar: {error}") from error
            reason = f"kline of {bar_s} s: {error}"[:_SHOWN_CHARS]
            aside.append(Rejected(reason, _brief(row), symbol))
    return found


def _kline(symbol: str, bar_s: int, row: Any) -> Kline:
    made = Kline(
        symbol=symbol,
        bar_s=bar_s,
        ts_us=_time_us(whole(row[0], "open time")),
        open=float(row[1]),
        high=float(row[2]),
        low=float(row[3]),
        close=float(row[4]),
        volume=float(row[5]),
        quote_volume=float(row[7]),
        taker_buy_volume=float(row[9]),
        trades=whole(row[8], "number of trades"),
    )
    rest = (made.volume, made.quote_volume, made.taker_buy_volume)
    if made.trades == 0 and made.volume == 0:
        return made  # a span without trades; some servers fill its prices with zeros
    if not (
        all(map(math.isfinite, (made.open, made.high, made.low, made.close)))
        and 0 < made.low <= min(made.open, made.close) <= max(made.open, made.close) <= made.high
        and all(0 <= number < math.inf for number in rest)
    ):
        raise ValueError("its prices and sums belong to no bar")
    return made
