"""One market of the exchange: its source, faults, limits and connections; spot or USD-M."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Response
from websockets.protocol import State

from exchange import rest, rest_futures
from exchange.asking import View, error_body, weight_of
from exchange.client import Client
from exchange.faults import Event, Faults, injection
from exchange.frames import Message
from exchange.limits import Limits, Weights, Window
from exchange.plain_http import LOCATION, TOO_MUCH, html_page, http_response, spoilt
from exchange.protocol import SPOT, Session
from exchange.source import Source
from exchange.tape import US
from exchange.told import STEP_US, Teller, is_slow

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Market:
    """What one market does once its sockets are open.

    `spawn` runs something on the side; `stopping` ends what waits. Counters go into `stats`,
    those of USD-M under names that begin with `usdm_`.
    """

    def __init__(
        self, name: str, source: Source, faults: Faults, limits: Limits, stats: Counter[str]
    ) -> None:
        self.name = name
        self.source = source
        self.faults = faults
        self.limits = limits
        self.endpoints = rest.ENDPOINTS if name == SPOT else rest_futures.ENDPOINTS
        self.clients: dict[Client, None] = {}
        self.stopping = asyncio.Event()
        self._stats = stats
        self._numbers = 0
        self._weights = Weights(limits)
        self._attempts = Window(limits.attempts, limits.attempts_window_s)
        self._wanted: Counter[str] = Counter()

    def count(self, what: str, more: int = 1) -> None:
        """Add to a counter."""
        self._stats[what if self.name == SPOT else f"{self.name}_{what}"] += more

    def loops(self, spawn: Spawn) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the exchange does."""
        seconds = [self._tell_each_second(spawn, slow=slow) for slow in (False, True)]
        return [self._pump(spawn), self._tell_depth(spawn), *seconds, self._watch(spawn)]

    # -- connections

    async def serve(self, client: Client, session: Session, spawn: Spawn) -> None:
        """One connection from its first moment to its end."""
        self._numbers += 1
        client.begin(session, self.limits, muted=self.faults.mute, number=self._numbers)
        if len(session.streams) > self.limits.streams:
            await client.close(1008, "Too many subscriptions")
            return
        self.count("connections")
        self.clients[client] = None
        self._count_streams()
        life = asyncio.get_running_loop().call_later(
            self.limits.life_s, lambda: spawn(client.close(1001, ""))
        )
        try:
            async for text in client:
                client.control(text, self.faults)
                self._count_streams()
        except ConnectionClosedError:
            self.count("connections_lost")  # gone without a closing handshake
        finally:
            life.cancel()
            del self.clients[client]
            self._count_streams()

    def _count_streams(self) -> None:
        wanted: Counter[str] = Counter()
        for client in self.clients:
            wanted.update(client.listens)
        self._wanted = wanted

    def describe_clients(self) -> list[dict[str, Any]]:
        """The present connections, the oldest first."""
        return [
            {"market": self.name, "number": c.number, "age_s": c.age_s, "streams": c.listens}
            for c in tuple(self.clients)
        ]

    def _chosen(self, which: str) -> list[Client]:
        """The open connections an event concerns, the oldest first."""
        clients = [c for c in self.clients if c.protocol.state is State.OPEN]
        if which == "oldest":
            return clients[:1]
        if which == "newest":
            return clients[-1:]
        return [c for c in clients if not which or c.number == int(which)]

    # -- frames out

    async def _pump(self, spawn: Spawn) -> None:
        async with aclosing(self.source.live(lambda: self._wanted)) as batches:
            async for batch in batches:
                self.count("messages", sum(message.count for message in batch))
                self._push(self.faults.apply(batch), spawn)
                if self.source.patient:
                    await asyncio.gather(*(c.caught_up() for c in tuple(self.clients)))

    def _push(self, batch: list[Message], spawn: Spawn) -> None:
        for client in tuple(self.clients):
            self.count("frames", client.push(batch))
            if 0 < self.faults.close_every_frames <= client.sent:
                client.sent = 0
                self._cut(client, self.faults.close_code, spawn)

    async def _tell_depth(self, spawn: Spawn) -> None:
        teller, past = Teller(self.source), self.source.now_us()
        while True:
            await asyncio.sleep((STEP_US - past % STEP_US) / US + 0.002)
            now = self.source.now_us()
            streams = [s for s in self._wanted if "@depth" in s and not self.source.provides(s)]
            if streams:
                due = await asyncio.to_thread(teller.often, streams, past, now)
                self._push(self.faults.apply(due), spawn)
            past = now

    async def _tell_each_second(self, spawn: Spawn, *, slow: bool) -> None:
        """What may take long while nothing is cached is told apart: nobody else waits for it."""
        teller = Teller(self.source)
        while True:
            into_second = self.source.now_us() % US / US
            await asyncio.sleep(1.0 - into_second + 0.01)
            streams = [
                s for s in self._wanted if not self.source.provides(s) and slow == is_slow(s)
            ]
            if streams:
                messages = await asyncio.to_thread(teller.each_second, streams)
                self._push(self.faults.apply(messages), spawn)

    # -- faults that concern connections

    async def _watch(self, spawn: Spawn) -> None:
        last_cut = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            while (event := self.faults.next_event()) is not None:
                self._happen(event, spawn)
            every = self.faults.close_every_s
            if every and time.monotonic() - last_cut >= every:
                last_cut = time.monotonic()
                for client in tuple(self.clients):
                    self._cut(client, self.faults.close_code, spawn)

    def _happen(self, event: Event, spawn: Spawn) -> None:
        if event.name == "skip":
            self.faults.skip(f"{event.value}@{event.which}", list(self.source.symbols))
            return
        clients = self._chosen(event.which)
        if event.name == "shutdown":
            spawn(self._shut_down(clients, float(event.value or 0), spawn))
        data = injection(event.value) if event.name == "inject" else b""
        for client in clients:
            if event.name == "close":
                self._cut(client, int(event.value or 1001), spawn)
            elif event.name == "abort":
                client.reset()
            elif event.name == "half_open":
                client.freeze()
            elif event.name == "stall":
                client.muted = True
            elif event.name == "inject":
                client.write(data)

    def _cut(self, client: Client, code: int, spawn: Spawn) -> None:
        if code == 1006:
            client.reset()
        else:
            spawn(client.close(code, ""))

    async def _shut_down(self, clients: list[Client], lead_s: float, spawn: Spawn) -> None:
        """Announce the end to connections, then close them."""
        for client in clients:
            client.announce_shutdown(self.source.now_us())
        await asyncio.sleep(lead_s)
        for client in clients:
            self._cut(client, 1001, spawn)

    # -- handshakes and REST

    def refuse_handshake(self) -> Response | None:
        """None to go on; a refusal otherwise."""
        status = self.faults.take_handshake()
        now = time.monotonic()
        if not status and not self._attempts.allow(now):
            status = 429
        if not status:
            return None
        self.count("handshakes_refused")
        retry = {"Retry-After": str(max(1, round(self._attempts.wait_s(now))))}
        body = error_body(0, LOCATION) if status == 451 else b""
        return http_response(status, body, retry if status in (429, 418, 503) else {})

    async def answer(self, path: str, query: str, headers: Headers) -> Response:
        """The answer to a request for one of `endpoints`."""
        self.count("requests")
        faults = self.faults
        faulty = faults.take_rest(path)
        if faulty and faults.rest_delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), faults.rest_delay_s)
        if faulty and faults.rest_status:
            return self._refusal(faults.rest_status, faults.rest_retry_after)
        weight = weight_of(self.endpoints[path], query)
        status, wait = self._weights.spend(weight, faults.weight_limit or None, time.time())
        if status != 200:
            return self._refusal(status, wait)
        view = self._view(headers.get("X-MBX-TIME-UNIT", ""))
        status, body = await asyncio.to_thread(rest.respond, view, path, query, self.endpoints)
        if faulty and faults.rest_body:
            return spoilt(faults.rest_body, status, body)
        return http_response(status, body, self._used())

    def _view(self, unit: str) -> View:
        spot, void = self.name == SPOT, self.faults.void_ids
        return View(
            source=self.source,
            unit=1 if spot and unit.upper() == "MICROSECOND" else 1000,
            lag=self.faults.rest_lag,
            floor=self.faults.retention_floor,
            hidden=void.__contains__ if void else None,
            bars=1000 if spot else 1500,
        )

    def _used(self) -> dict[str, str]:
        used = str(self._weights.used)
        return {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}

    def _refusal(self, status: int, wait: int) -> Response:
        self.count(f"refused_{status}")
        if status in (429, 418):
            text = TOO_MUCH.format(self.faults.weight_limit or self.limits.weight_per_minute)
            more = {"Retry-After": str(wait), **self._used()}
            return http_response(status, error_body(-1003, text), more)
        if status == 451:
            return http_response(status, error_body(0, LOCATION))
        return html_page(status)
