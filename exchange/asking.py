"""What a REST request asks for: endpoints, parameters, errors, and what may be told. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from exchange.source import Source
from exchange.tape import MICRO_FROM, Trades

ILLEGAL = "Illegal characters found in parameter '{}'; legal range is '{}'."
MISSING = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"  # as the exchange prints it


class RestError(Exception):
    """An error body `{"code": …, "msg": …}` with its HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(code, message)


def error_body(code: int, message: str) -> bytes:
    """The exchange's error JSON."""
    return msgspec.json.encode({"code": code, "msg": message})


@dataclass(frozen=True, slots=True)
class View:
    """What REST may tell just now.

    `lag` trades less than the stream, nothing before `floor` (an id), none of `hidden` ids;
    `unit` is 1 for µs, 1000 for ms; `bars` is the most rows a klines page has.
    """

    source: Source
    unit: int = 1000
    lag: int = 0
    floor: int = 0
    hidden: Callable[[int], bool] | None = None
    bars: int = 1000

    def last_id(self, symbol: str) -> int:
        return self.source.last_id(symbol) - self.lag

    def first_id(self, symbol: str) -> int:
        return max(self.source.first_id(symbol), self.floor)

    def trades(self, symbol: str, first_id: int, count: int) -> Trades:
        """Printed trades from an id on."""
        first = max(first_id, self.first_id(symbol))
        last = self.last_id(symbol)
        count = min(count, last - first + 1)
        if count <= 0:
            return self.source.trades(symbol, last, 0)
        return self.source.trades(symbol, first, count).up_to_id(last)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its weight, the parameters it knows, its answer as plain data."""

    weight: int | Callable[[Mapping[str, str]], int]
    known: frozenset[str]
    answer: Callable[[View, Mapping[str, str]], Any]


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query; the last of a name counts."""
    return dict(parse_qsl(query, keep_blank_values=True))


def weight_of(asked: Endpoint, query: str) -> int:
    """What a request counts for."""
    return asked.weight if isinstance(asked.weight, int) else asked.weight(parameters(query))


def answer(asked: Endpoint, view: View, query: str) -> tuple[int, bytes]:
    """HTTP status and JSON body of a request to an endpoint."""
    try:
        params = parameters(query)
        unknown = set(params) - asked.known
        if unknown:
            message = f"Too many parameters; expected '{len(asked.known)}' and received '{{}}'."
            raise RestError(-1101, message.format(len(asked.known) + len(unknown)))
        return 200, msgspec.json.encode(asked.answer(view, params))
    except RestError as error:
        return error.status, error.body


# -- parameters


def asked_symbol(view: View, params: Mapping[str, str]) -> str:
    name = params.get("symbol", "")
    if not name:
        raise RestError(-1102, MISSING.format("symbol"))
    if not re.fullmatch(r"[^\W_a-z][\w.-]{0,49}", name) or name != name.upper():
        raise RestError(-1100, ILLEGAL.format("symbol", _SYMBOL))
    if name not in view.source.symbols:
        raise RestError(-1121, "Invalid symbol.")
    return name


def integer(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not text:
        raise RestError(-1105, f"Parameter '{name}' was empty.")
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise RestError(-1100, ILLEGAL.format(name, "^[0-9]{1,20}$"))
    return int(text)


def asked_limit(params: Mapping[str, str], most: int = 1000) -> int:
    limit = integer(params, "limit")
    if limit is None:
        return 500
    if limit < 1:
        raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, most)


def start_time(params: Mapping[str, str]) -> int | None:
    """startTime in µs: the exchange takes ms as well as µs."""
    value = integer(params, "startTime")
    return value * 1000 if value is not None and value < MICRO_FROM else value


def end_time(params: Mapping[str, str]) -> int | None:
    """endTime in µs, inclusive: one given in ms means all of that millisecond."""
    value = integer(params, "endTime")
    return value * 1000 + 999 if value is not None and value < MICRO_FROM else value


def asked_symbols(view: View, params: Mapping[str, str]) -> list[str]:
    if "symbol" in params:
        return [asked_symbol(view, params)]
    if "symbols" not in params:
        return list(view.source.symbols)
    try:
        names = json.loads(params["symbols"])
    except ValueError:
        raise RestError(-1100, ILLEGAL.format("symbols", "a JSON list of symbols")) from None
    if not isinstance(names, list) or not names:
        raise RestError(-1102, MISSING.format("symbols"))
    return [asked_symbol(view, {"symbol": str(name)}) for name in names]


def endpoint(
    weight: int | Callable[[Mapping[str, str]], int],
    answer: Callable[[View, Mapping[str, str]], Any],
    names: str,
) -> Endpoint:
    """An endpoint that knows the parameters `names`."""
    return Endpoint(weight, frozenset(names.split()), answer)
