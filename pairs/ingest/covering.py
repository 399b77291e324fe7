"""Partitions that were stored before they had a digest get one, in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from pairs.market import Venue
from pairs.messages import one_line
from pairs.storage.covering import cover
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore

log = logging.getLogger("ingest")
LOOK_EVERY_S = 3600.0  # for partitions without a digest
AGAIN_S = 60.0  # where the database did not answer


async def cover_partitions(store: PostgresStore, venue: Venue, symbols: Collection[str]) -> None:
    """Count them one after the other, at most half of the time, until cancelled. Only for symbols
    that this process ingests: no program that knows of no digests may write them."""
    counted = 0
    while True:
        began, wait = time.monotonic(), LOOK_EVERY_S
        try:
            if await asyncio.to_thread(cover, store, venue, list(symbols)):
                counted, wait = counted + 1, time.monotonic() - began
            elif counted:
                log.info("digests_begun partitions=%d", counted)
                counted = 0
        except DATABASE_ERRORS as error:
            wait = AGAIN_S
            log.warning('digests_wait error="%s"', one_line(error))
        await asyncio.sleep(wait)
