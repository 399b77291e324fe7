"""`GET /control…`: faults, statistics and the true tape for tests in other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from exchange.protocol import SPOT
from exchange.source import Source

if TYPE_CHECKING:
    from exchange.server import Exchange

TapeRow = tuple[int, str, str, int, bool]


def tape_rows(source: Source, symbol: str, from_id: int, to_id: int) -> list[TapeRow]:
    """Printed trades with from_id ≤ id ≤ to_id: id, price, quantity, time in µs, maker."""
    if symbol not in source.symbols:
        known = ", ".join(source.symbols)
        raise ValueError(f"symbol {symbol!r} is not listed: allowed are {known}")
    info = source.symbols[symbol]
    first = max(from_id, source.first_id(symbol))
    last = min(to_id, source.last_id(symbol))
    if last < first:
        return []
    trades = source.trades(symbol, first, last - first + 1).up_to_id(last)
    columns = (trades.ids, trades.price, trades.qty, trades.t, trades.maker)
    return [
        (number, info.price(price), info.quantity(qty), t, maker)
        for number, price, qty, t, maker in zip(*(c.tolist() for c in columns), strict=True)
    ]


def answer_control(exchange: Exchange, path: str, query: str) -> tuple[int, bytes]:
    """HTTP status and JSON body.

    `/control?<fault>=<value>&do=<event>` sets faults and tells them all, `/control/stats`
    counts, `/control/connections` lists the present ones, `/control/log?symbol=&from_id=&to_id=`
    dumps the tape. `market=usdm` chooses the futures.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    try:
        market = exchange.market(dict(pairs).get("market", SPOT))
        if path == "/control":
            for name, value in pairs:
                if name == "do":
                    market.faults.do(value)
                elif name != "market":
                    market.faults.set(name, value)
            return 200, msgspec.json.encode(market.faults.describe())
        if path == "/control/connections":
            return 200, msgspec.json.encode(exchange.connections())
        if path == "/control/stats":
            return 200, msgspec.json.encode(dict(exchange.stats))
        if path == "/control/log":
            return 200, _log(market.source, dict(pairs))
    except ValueError as error:
        return 400, msgspec.json.encode({"error": str(error)})
    return 404, b""


def _log(source: Source, params: dict[str, str]) -> bytes:
    symbol = params.get("symbol", "")
    first = int(params.get("from_id", "0"))
    last = int(params.get("to_id", 2**62))
    rows = tape_rows(source, symbol, first, last)
    return msgspec.json.encode({"symbol": symbol, "rows": rows})
