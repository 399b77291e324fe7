"""Which exchange it is: Binance, or the local one where Binance cannot be had."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from websockets.asyncio.client import connect

from pairs.feeds.binance.protocol import PROTOCOLS, SIMULATED, SPOT, BinanceMarket, stream_url
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.feeds.binance.stream import CONNECT_ERRORS, describe
from pairs.feeds.local import LocalExchange
from pairs.feeds.network import NetworkSettingError, stream_options
from pairs.market import PERPETUAL, Venue
from pairs.settings import Settings

log = logging.getLogger("ingest")

TRY_S = 5.0  # FEED=auto decides within seconds
ASK_S = 2.0  # FEED=binance asks only what it is; every later answer is looked at anyway


@dataclass
class Feed:
    """Where the trades come from: addresses, the venue they are stored under, and the reason.
    `simulated`: what the exchange has to say of itself at every answer (feeds.binance)."""

    venue: Venue
    ws_url: str
    rest_url: str
    protocol: BinanceMarket = SPOT
    note: str = ""
    local: LocalExchange | None = None
    simulated: bool | None = None


async def choose_feed(settings: Settings) -> Feed:
    """By FEED, for `auto` by one attempt, and by what the exchange says it is."""
    protocol = PROTOCOLS[settings.market]
    real = Feed(
        settings.exchange_venue,
        settings.binance_ws_url,
        settings.binance_rest_url,
        protocol,
        simulated=False,
    )
    # Under venue `local` both markets live side by side: perpetuals carry a suffix there.
    under_local = replace(protocol, suffix=PERPETUAL) if settings.market == "usdm" else protocol
    if settings.feed == "local" and settings.own_addresses:
        note = "FEED=local, own addresses"
        return replace(real, venue="local", protocol=under_local, note=note, simulated=None)
    note = "FEED=local"
    if settings.feed != "local":
        why, says = await _ask(real, settings.symbols[0], stream=settings.feed == "auto")
        if says:
            note = f"the exchange at {real.rest_url} says that it is simulated ({says[:30]})"
            log.warning("%s: its data are stored under venue local", note)
            return replace(real, venue="local", protocol=under_local, note=note, simulated=True)
        if settings.feed == "binance" or why is None:
            log.info("venue %s, %s", real.venue, why or "which is reachable")
            return real
        note = f"Binance cannot be reached ({why})"
    local = LocalExchange(settings.symbols)
    await local.ensure()
    log.warning("%s: using the local exchange, SIMULATED data under venue local", note)
    return Feed("local", local.ws_url, local.rest_url, under_local, note, local)


async def _ask(feed: Feed, symbol: str, *, stream: bool) -> tuple[str | None, str | None]:
    """(why this exchange cannot be used, what it says it is); None where it can, and where it
    says nothing. `stream`: it has to accept a connection, too."""
    says, asked = None, "REST"
    limit = TRY_S if stream else ASK_S
    try:
        async with asyncio.timeout(limit), BinanceRest(feed.rest_url, feed.protocol) as rest:
            try:
                await rest.get("ping", timeout_s=limit)
            except RestError as error:
                if not error.refused:  # an answer of another kind is an answer
                    raise
            says = rest.says
            if not stream:
                return None, says
            asked = "the stream"
            url = stream_url(feed.ws_url, feed.protocol, [symbol])
            async with connect(
                url,
                open_timeout=TRY_S,
                close_timeout=0.5,
                **stream_options(url),
            ) as socket:
                headers = socket.response.headers if socket.response is not None else {}
                return None, says or headers.get(SIMULATED)
    except NetworkSettingError:
        raise  # nothing to wait for: somebody has to correct it
    except (*CONNECT_ERRORS, RestError) as error:
        return f"{asked}: {describe(error)}", says
