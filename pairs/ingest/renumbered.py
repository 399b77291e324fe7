"""Has the exchange begun to count its trades anew? Test networks do every month, and a symbol that
is listed again may. Two counts in one record would be a market that never was."""

from __future__ import annotations

import asyncio

from pairs.clock import BEHIND_US
from pairs.feeds.binance.budget import PROBE
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.market import Trade, Venue
from pairs.storage.postgres import PostgresStore

LEAP = 1_000_000  # ids that jump or fall by more are held against REST before they are believed
TURNED_US = 1_000_000  # of one count, a lower id is not that much newer


async def counts_anew(
    rest: BinanceRest, symbol: str, high_id: int, last_us: int
) -> tuple[int | None, str]:
    """The newest id that the exchange tells of a symbol, and why it can be no later trade of the
    record that ends with `high_id` at `last_us`; empty where it can. Told by the newest trade
    itself: an answer that trails behind holds older trades under the lower ids."""
    latest = await rest.latest_id(symbol)
    if latest is None or high_id < 0 or not last_us:
        return latest, ""
    rows = await rest.trades_from(symbol, latest, 1, PROBE)
    newest = rows[0] if rows and isinstance(rows[0], Trade) else None
    below = latest < high_id - LEAP
    if newest is not None and newest.trade_id == latest:
        below |= latest <= high_id and newest.ts_us > last_us + TURNED_US
        if not below and (latest <= high_id or newest.ts_us >= last_us - BEHIND_US):
            return latest, ""
    elif not below:
        return latest, ""
    return latest, reason(symbol, f"the exchange is at {latest}, the record ends with {high_id}")


async def began_behind(
    store: PostgresStore, rest: BinanceRest, venue: Venue, symbol: str, stored_id: int
) -> str:
    """Why what the exchange tells is not the record that holds `stored_id`, the trade before a
    hole; empty where it is. The exchange is asked for the first trade of that one's time: it is
    stored as it is told, or nothing is known of it."""
    before_us = await asyncio.to_thread(store.time_of, venue, symbol, stored_id)
    if before_us is None:
        return ""
    try:
        told = await rest.first_since(symbol, before_us // 1000)
    except RestError as error:
        if not error.refused:
            raise
        return ""  # it cannot be asked by time
    if told is None or told[0] > stored_id:
        return ""
    trade_id, told_us = told
    stored_us = await asyncio.to_thread(store.time_of, venue, symbol, trade_id)
    if stored_us is None:
        known = await asyncio.to_thread(store.known_ids, venue, symbol)
        if known is None or trade_id >= known[0]:
            return ""
    elif not told_us or abs(told_us - stored_us) <= TURNED_US:
        return ""
    return reason(symbol, f"id {trade_id} is another trade now than when the record had it")


def reason(symbol: str, what: str) -> str:
    """What is said of a symbol that stops."""
    return f"ids began anew: {what}; `database_utils.py new-record {symbol}` begins another record"
