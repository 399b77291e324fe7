"""Which exchange it is: Binance, or the local one where Binance cannot be had."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from websockets.asyncio.client import connect

from feeds.binance import LOOPBACK, PROTOCOLS, SPOT, Protocol, stream_url
from feeds.binance_rest import BinanceRest, RestError
from feeds.binance_stream import CONNECT_ERRORS, describe
from feeds.local import LocalExchange
from market import PERPETUAL, Venue
from settings import Settings

log = logging.getLogger("ingest")

TRY_S = 5.0  # FEED=auto decides within seconds


@dataclass
class Feed:
    """Where the trades come from: addresses, the venue they are stored under, and the reason."""

    venue: Venue
    ws_url: str
    rest_url: str
    protocol: Protocol = SPOT
    note: str = ""
    local: LocalExchange | None = None


async def choose_feed(settings: Settings) -> Feed:
    """By FEED, and for `auto` by one attempt."""
    protocol = PROTOCOLS[settings.market]
    real = Feed(
        settings.exchange_venue, settings.binance_ws_url, settings.binance_rest_url, protocol
    )
    # Under venue `local` both markets live side by side: perpetuals carry a suffix there.
    simulated = replace(protocol, suffix=PERPETUAL) if settings.market == "usdm" else protocol
    if settings.feed == "binance":
        return real
    if settings.feed == "local" and settings.own_addresses:
        return replace(real, venue="local", protocol=simulated, note="FEED=local, own addresses")
    note = "FEED=local"
    if settings.feed == "auto":
        why = await _unreachable(real, settings.symbols[0])
        if why is None:
            log.info("Binance is reachable: venue %s", real.venue)
            return real
        note = f"Binance cannot be reached ({why})"
    local = LocalExchange(settings.symbols)
    await local.ensure()
    log.warning("%s: using the local exchange, SIMULATED data under venue local", note)
    return Feed("local", local.ws_url, local.rest_url, simulated, note, local)


async def _unreachable(feed: Feed, symbol: str) -> str | None:
    """Why this exchange cannot be used; None where REST and the stream both answer."""
    try:
        async with asyncio.timeout(TRY_S), BinanceRest(feed.rest_url, feed.protocol) as rest:
            try:
                await rest.get("ping")
            except RestError as error:
                if not error.refused:  # an answer of another kind is an answer
                    raise
            url = stream_url(feed.ws_url, feed.protocol, [symbol])
            async with connect(
                url,
                open_timeout=TRY_S,
                close_timeout=0.5,
                proxy=None if any(host in url for host in LOOPBACK) else True,
            ):
                return None
    except (*CONNECT_ERRORS, RestError) as error:
        return describe(error)
