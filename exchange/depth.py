"""Depth: snapshots, and the streams of changes and of the best levels. Pure.

An update has the number of its mark, so the numbers of a stream's events follow from the clock
alone: the first of each is one more than the last of the event before, for every listener.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from exchange.asking import RestError, View, asked_symbol, integer
from exchange.book import MARK_US, Book, Side, changes
from exchange.frames import Message, Plain
from exchange.source import Source
from exchange.tape import Symbol

_STREAM = re.compile(r"depth(5|10|20)?(?:@(\d{3,4})ms)?")
SPOT_SPEEDS, USDM_SPEEDS = (1000, 100), (250, 100, 500)  # ms; the first where none is named
_MOST_EVENTS = 20  # of a stream at once: after a longer stall one event tells all of it


@dataclass(frozen=True, slots=True)
class DepthStream:
    """What a depth stream tells: changes, or so many of the best levels, how often."""

    name: str
    symbol: str
    levels: int
    every_us: int


def depth_stream(name: str, speeds: tuple[int, ...]) -> DepthStream | None:
    """The stream of this name, None where it is no depth stream."""
    symbol, _, kind = name.partition("@")
    match = _STREAM.fullmatch(kind)
    if match is None:
        return None
    speed = int(match[2] or speeds[0])
    if speed not in speeds:
        return None
    return DepthStream(name, symbol.upper(), int(match[1] or 0), speed * 1000)


def depth_messages(
    source: Source, streams: list[str], past_us: int, now_us: int, *, futures: bool
) -> list[Message]:
    """The events that fall due in past < t ≤ now."""
    out: list[Message] = []
    book = cache(source.book)
    for name in streams:
        asked = depth_stream(name, USDM_SPEEDS if futures else SPOT_SPEEDS)
        if asked is None or asked.symbol not in source.symbols:
            continue
        ticks = range(past_us // asked.every_us, now_us // asked.every_us + 1)
        marks = [tick * asked.every_us // MARK_US for tick in ticks]
        if len(marks) > _MOST_EVENTS or asked.levels:
            marks = [marks[0], marks[-1]]
        for before, mark in itertools.pairwise(marks):
            now = book(asked.symbol, mark)
            if mark > before and now.bids:
                event = _event(source, asked, book(asked.symbol, before), now, futures=futures)
                out.append(event)
    return out


def _event(
    source: Source, asked: DepthStream, before: Book, now: Book, *, futures: bool
) -> Message:
    info, sent = source.symbols[asked.symbol], source.now_us()
    if asked.levels and not futures:
        return Plain(asked.name, _best_levels(info, now, asked.levels))
    if asked.levels:
        bids, asks = now.bids[: asked.levels], now.asks[: asked.levels]
    else:
        bids, asks = changes(before.bids, now.bids), changes(before.asks, now.asks)
    levels = f'"b":{_written(info, bids)},"a":{_written(info, asks)}'
    numbers = f'"s":"{info.name}","U":{before.mark + 1},"u":{now.mark}'
    if futures:
        times = f'"E":{sent // 1000},"T":{now.mark * MARK_US // 1000}'
        more = f',"pu":{before.mark}'
        return Plain(asked.name, _update(times, numbers + more, levels))
    forms = [_update(f'"E":{sent // unit}', numbers, levels) for unit in (1000, 1)]
    return Plain(asked.name, forms[0], forms[1])


def _update(times: str, numbers: str, levels: str) -> bytes:
    return f'{{"e":"depthUpdate",{times},{numbers},{levels}}}'.encode()


def _best_levels(info: Symbol, book: Book, count: int) -> bytes:
    bids, asks = _written(info, book.bids[:count]), _written(info, book.asks[:count])
    return f'{{"lastUpdateId":{book.mark},"bids":{bids},"asks":{asks}}}'.encode()


def _written(info: Symbol, side: Side) -> str:
    rows = [f'["{info.price(price)}","{info.quantity(lots)}"]' for price, lots in side]
    return f"[{','.join(rows)}]"


# -- REST


def written_side(info: Symbol, side: Side) -> list[list[str]]:
    """Levels as REST tells them."""
    return [[info.price(price), info.quantity(lots)] for price, lots in side]


def _snapshot(view: View, symbol: str, limit: int) -> dict[str, Any]:
    info = view.source.symbols[symbol]
    book = view.source.book(symbol, view.source.now_us() // MARK_US)
    return {
        "lastUpdateId": book.mark,
        "bids": written_side(info, book.bids[:limit]),
        "asks": written_side(info, book.asks[:limit]),
    }


def depth(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    """`/api/v3/depth`."""
    symbol = asked_symbol(view, params)
    limit = integer(params, "limit")
    limit = 100 if limit is None else limit
    if limit < 1:
        raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
    return _snapshot(view, symbol, min(limit, 5000))


_USDM_LIMITS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}


def futures_depth(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    """`/fapi/v1/depth`, which knows certain limits only."""
    symbol = asked_symbol(view, params)
    limit = integer(params, "limit")
    limit = 500 if limit is None else limit
    if limit not in _USDM_LIMITS:
        raise RestError(-4021, f"{limit} is not valid depth limit.")
    now = view.source.now_us()
    times = {"E": now // 1000, "T": now // MARK_US * MARK_US // 1000}
    told = _snapshot(view, symbol, limit)
    return {"lastUpdateId": told.pop("lastUpdateId"), **times, **told}


def _asked(params: Mapping[str, str], usual: int) -> int:
    limit = params.get("limit", "")
    return int(limit) if limit.isdecimal() else usual


def depth_weight(params: Mapping[str, str]) -> int:
    """5 up to 100 levels, 25 up to 500, 50 up to 1,000, 250 beyond."""
    steps = ((100, 5), (500, 25), (1000, 50))
    return next((weight for most, weight in steps if _asked(params, 100) <= most), 250)


def futures_depth_weight(params: Mapping[str, str]) -> int:
    """2 up to 50 levels, 5 for 100, 10 for 500, 20 for 1,000."""
    return _USDM_LIMITS.get(_asked(params, 500), 20)
