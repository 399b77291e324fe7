"""cryptofeed on the local exchange: ends with 0 once every channel has told something.

A program of its own, because cryptofeed takes signals over and keeps symbols for good. It tells
how many snapshots its order book took.
"""

import os
import sys
import threading

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
from cryptofeed.defines import CANDLES, FUNDING, L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance, BinanceFutures

ws, rest, market = sys.argv[1:]
seen, books = {}, []


def rests(kind):
    old = kind.rest_endpoints[0]
    return [RestEndpoint(rest, routes=old.routes)]


class Spot(Binance):
    websocket_endpoints = [WebsocketEndpoint(ws)]  # noqa: RUF012 - theirs are the same
    rest_endpoints = rests(Binance)


class Market(BinanceFutures):
    websocket_endpoints = [WebsocketEndpoint(ws + "/market")]  # noqa: RUF012 - theirs are the same
    rest_endpoints = rests(BinanceFutures)


class Public(BinanceFutures):
    websocket_endpoints = [WebsocketEndpoint(ws + "/public")]  # noqa: RUF012 - theirs are the same
    rest_endpoints = rests(BinanceFutures)


def note(name):
    async def told(item, receipt):
        seen[name] = seen.get(name, 0) + 1
        if name == L2_BOOK:
            books.append((item.sequence_number, item.delta is None))
        enough = books and len(books) > 20
        if set(seen) == set(wanted) and enough:
            print("snapshots", sum(first for _, first in books), flush=True)
            os._exit(0)

    return told


handler = FeedHandler(config={"log": {"filename": os.devnull, "level": "WARNING"}})


def add(kind, symbol, channels):
    noted = {channel: note(channel) for channel in channels}
    handler.add_feed(
        kind(symbols=[symbol], channels=channels, callbacks=noted, candle_closed_only=False)
    )


if market == "spot":
    wanted = [TRADES, TICKER, L2_BOOK, CANDLES]
    add(Spot, "BTC-USDT", wanted)
else:
    wanted = [TRADES, FUNDING, CANDLES, TICKER, L2_BOOK]
    for kind, channels in ((Market, wanted[:3]), (Public, wanted[3:])):
        add(kind, "BTC-USDT-PERP", channels)


def give_up():
    print("told were only", seen, len(books), flush=True)
    os._exit(1)


threading.Timer(60, give_up).start()
handler.run()
