"""An exchange and a daemon in one process, held to completeness when they are left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2

from exchange.faults import Faults
from exchange.limits import Limits
from exchange.synthetic import SyntheticSource
from exchange.testing import Running, running
from exchange.world import default_world
from ingest_websocket import Daemon
from pairs.feeds.binance.protocol import SPOT, USDM
from pairs.feeds.choice import Feed
from pairs.settings import load_settings
from pairs.storage.audit import audit
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from tests.support.chaos import SEED, TALLY
from tests.support.daemon import eventually

SYMBOLS = ("BTCUSDT", "ETHUSDT")

DAMAGE = ("drop", "duplicate", "reorder", "mangle", "conflict")


class Desk:
    """A daemon in a thread of this process, and what is true after it."""

    def __init__(self, store: PostgresStore, exchange: Running, **options: Any) -> None:
        self.store, self.exchange = store, exchange
        self.market = options.pop("market", "spot")
        self.venue = "binance" if self.market == "spot" else "binance-usdm"
        symbols = options.pop("symbols", SYMBOLS)
        settings = load_settings({"SYMBOLS": ",".join(symbols), "HISTORY_HOURS": "0"})
        protocol = SPOT if self.market == "spot" else USDM
        feed = Feed(self.venue, exchange.ws_url, exchange.rest_url, protocol)  # type: ignore[arg-type]
        self._ready = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(feed, settings, options))
        self._thread.start()
        self._ready.wait()

    def _work(self, feed: Feed, settings: Any, options: dict[str, Any]) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self.daemon = Daemon(feed, self.store, settings, **options)
            self._ready.set()
            await self.daemon.run()

        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again in stop()
            self.error = error

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.daemon.stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the daemon does not stop"
        if self.error is not None:
            raise self.error

    def count(self, query: str = "SELECT count(*) FROM v_ticks") -> int:
        while True:
            with contextlib.suppress(psycopg2.OperationalError), self.store.transaction() as cursor:
                cursor.execute(query)
                row = cursor.fetchone()
                return int(row[0]) if row and row[0] is not None else 0

    def flowing(self, more: int = 60) -> None:
        """Trades arrive (again)."""
        before = self.count()
        eventually(lambda: self.count() >= before + more, f"{more} more trades")

    def settled(self) -> None:
        """No gap is open, every feed says it lives, and half a second later it is still so."""
        eventually(lambda: self._calm() and (time.sleep(0.5) or self._calm()), "calm", 90)

    def _calm(self) -> bool:
        gaps = self.count("SELECT count(*) FROM v_gaps WHERE state = 'open'")
        return gaps == 0 and bool(health(self.store)["healthy"])

    def assert_complete(self) -> None:
        """The stored set is the exchange's tape, but for what stands in v_gaps as lost."""
        with self.store.transaction() as cursor:
            for symbol in self.daemon.settings.symbols:
                known = self.store.known_ids(self.venue, symbol)  # type: ignore[arg-type]
                assert known is not None, f"nothing of {symbol}"
                cursor.execute(
                    "SELECT trade_id, price, size, (extract(epoch FROM ts) * 1000)::bigint,"
                    " buyer_is_maker FROM v_ticks WHERE venue = %s AND symbol = %s"
                    " ORDER BY trade_id",
                    (self.venue, symbol),
                )
                stored = cursor.fetchall()
                cursor.execute(
                    "SELECT first_id, last_id FROM v_gaps WHERE venue = %s AND symbol = %s"
                    " AND state IN ('void', 'unrecoverable')",
                    (self.venue, symbol),
                )
                lost = {i for a, b in cursor.fetchall() for i in range(a, b + 1)}
                tape = [
                    (i, float(p), float(q), us // 1000, m)
                    for i, p, q, us, m in self.exchange.log(symbol, *known, self.market)
                ]
                missing = {row[0] for row in tape} - {row[0] for row in stored} - lost
                same = TALLY.compare(tape, stored, lost)
                assert not missing, f"{symbol}: {len(missing)} missing, {sorted(missing)[:5]}"
                assert same, f"{symbol}: altered or too many"
        assert audit(self.store)["ok"]


@contextlib.contextmanager
def desk(
    store: PostgresStore,
    faults: Faults | None = None,
    *,
    source: SyntheticSource | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Iterator[Desk]:
    """An exchange at some 500 trades/s, a daemon on it; on leaving everything must be right."""
    symbols = list(options.get("symbols", SYMBOLS))
    made = source or SyntheticSource(default_world().only(symbols).steady(500), seed=SEED)
    more = {"limits": limits} if limits else {}
    with running(made, faults=faults, **more) as exchange:
        active = Desk(store, exchange, **options)
        try:
            yield active
            troubled = [n for n in DAMAGE if getattr(exchange.faults, n)]
            for name in troubled:
                setattr(exchange.faults, name, 0.0)
            if troubled:
                active.flowing()  # a frame lost just now shows with the next one
            active.settled()
        finally:
            active.stop()
        active.assert_complete()
