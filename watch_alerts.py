"""The alerts without a browser: evaluates the stored rules, stores what fires, delivers it.

python watch_alerts.py [--test]

One watcher at a time evaluates, by a lease; it is woken by the daemon's commits. Events
and their deliveries are stored in the transaction that moves the rule's state, so a restart
neither repeats nor loses an alert. One thread per channel delivers, with retries, at least once.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C while the modules load: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import logging
import math
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from pairs.alerts import outbox
from pairs.alerts.lock import Watch
from pairs.messages import (
    INTERRUPTED,
    exit_code,
    failed,
    noted,
    one_line,
    start_logging,
    watch_uncaught,
)
from pairs.retry import backoff
from pairs.settings import Parser, Settings, SettingsError, load_settings
from pairs.storage.database import Database, StoreError, open_database, open_patiently
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore
from pairs.storage.retention import prune_alerts

if TYPE_CHECKING:
    from pairs.alerts.evaluator import Evaluator

log = logging.getLogger("alerts")
Result = TypeVar("Result")

HEARTBEAT_S = 2.0
RELOAD_S = 15.0  # rules are read again so often, even where no edit was notified
PRUNE_EVERY_S = 3600.0
RETRY_FIRST_S, RETRY_CAP_S = 1.0, 300.0
RETRY_FOR_S = 86_400.0  # an alert older than this is not worth telling any more
LOOK_S = 30.0  # a channel looks into the outbox so often, even when not woken
STOP_S = 12.0  # longer than one attempt over a channel


# -- channels


@dataclass(frozen=True)
class Channel:
    """Where alerts go. `name` is free of secrets: the scheme, and a number from the second on."""

    name: str
    url: str = field(repr=False)
    plugin: Any = field(repr=False)

    def send(self, title: str, body: str) -> str | None:
        """Deliver; None, or why it failed, without the address."""
        said = _Said()
        apprise_log = logging.getLogger("apprise")
        apprise_log.addHandler(said)
        try:
            if self.plugin.notify(
                body=body, title=title, body_format="text", notify_type="warning"
            ):
                return None
            reason = "; ".join(said.lines) or "the service did not take it and gives no reason"
        except Exception as error:  # noqa: BLE001 - a plugin's; its traceback holds the address
            reason = one_line(f"{type(error).__name__}: {error}")
        finally:
            apprise_log.removeHandler(said)
        return redacted(reason, self.url)[:500]


class _Said(logging.Handler):
    """What apprise says in this thread: the only place where it gives a reason."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(" ".join(record.getMessage().split()))


def redacted(text: str, url: str) -> str:
    """The text without any part of the address that could be secret."""
    scheme, _, rest = url.partition("://")
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[/:@?&=,;+#]+", whole)}
    for secret in sorted({rest, *parts} - {scheme, ""}, key=len, reverse=True):
        if len(secret) > 2:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text


def open_channels(urls: Sequence[str]) -> list[Channel]:
    """The channels of ALERT_URLS. Raises SettingsError for an address apprise cannot use."""
    if not urls:
        return []
    for name in ("apprise", "urllib3"):  # what they log may hold addresses
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    import apprise  # here only: what it costs, a desk without channels saves

    asset = apprise.AppriseAsset(app_id="Pairs", app_desc="Pairs workstation", app_url="")
    seen: Counter[str] = Counter()
    channels = []
    for number, url in enumerate(urls, 1):
        scheme = url.partition("://")[0].lower()
        plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if plugin is None:
            raise SettingsError(
                f"ALERT_URLS[{number}]='{scheme}://***' is not usable: an address as apprise "
                "documents it for this service is allowed"
            )
        seen[scheme] += 1
        name = scheme if seen[scheme] == 1 else f"{scheme}-{seen[scheme]}"
        channels.append(Channel(name, url, plugin))
    return channels


class Courier(threading.Thread):
    """Delivers what waits for one channel, oldest first, each with its own retries."""

    def __init__(self, store: PostgresStore, channel: Channel, stop: threading.Event) -> None:
        super().__init__(name=f"courier-{channel.name}", daemon=True)
        self._store = store
        self._channel = channel
        self._stop_asked = stop
        self._rng = random.Random()  # noqa: S311 - jitter, not cryptography
        self.wake = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            try:
                wait = self._patiently(self._deliver_due)
            except Exception:
                log.exception("courier_failed channel=%s", self._channel.name)
                wait = LOOK_S
            self.wake.wait(wait)
            self.wake.clear()

    def _deliver_due(self) -> float:
        """Attempt everything that is due; seconds until something is due again."""
        name = self._channel.name
        while not self._stop_asked.is_set():
            claimed = outbox.claim(self._store, name)
            if claimed is None:
                due = outbox.next_due_s(self._store, name)
                return LOOK_S if due is None else min(LOOK_S, due + 0.01)
            self._attempt(claimed)
        return 0.0

    def _attempt(self, claimed: outbox.Claimed) -> None:
        event, name, attempts = claimed.event_id, claimed.channel, claimed.attempts
        body = f"{claimed.body}\nalert {event}"
        error = self._channel.send(claimed.title, body)
        if error is None:
            self._patiently(lambda: outbox.delivered(self._store, claimed))
            log.info("delivered event=%d channel=%s attempts=%d", event, name, attempts)
            return
        wait: float | None = None
        if claimed.age_s < RETRY_FOR_S:
            ceiling = min(RETRY_CAP_S, RETRY_FIRST_S * 2.0 ** min(attempts - 1, 20))
            wait = self._rng.uniform(ceiling / 2, ceiling)
        self._patiently(lambda: outbox.failed(self._store, claimed, error, wait))
        if wait is None:
            log.error(
                'given_up event=%d channel=%s attempts=%d reason="%s"', event, name, attempts, error
            )
        else:
            log.warning(
                'delivery_failed event=%d channel=%s attempts=%d next_attempt_s=%.1f reason="%s"',
                event,
                name,
                attempts,
                wait,
                error,
            )

    def _patiently(self, act: Callable[[], Result]) -> Result:
        """Wait for a database that is away: what a channel has answered must not be forgotten."""
        waits = backoff(self._rng, 0.5, 5.0)
        while True:
            try:
                return act()
            except DATABASE_ERRORS as error:
                wait = next(waits)
                log.warning(
                    'outbox_waits channel=%s seconds=%.1f reason="%s"',
                    self._channel.name,
                    wait,
                    one_line(error),
                )
                if self._stop_asked.wait(wait):
                    raise SystemExit from None  # of this thread: the next start delivers


# -- evaluation


class Watcher:
    """Evaluates while it holds the lock. `run` returns once told to stop."""

    def __init__(
        self, store: PostgresStore, channels: Sequence[Channel], retention_days: float
    ) -> None:
        self._store = store
        self._names = [channel.name for channel in channels]
        self._retention_days = retention_days
        self._stop = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._couriers = [Courier(store, channel, self._stop) for channel in channels]
        self._evaluator: Evaluator | None = None

    def stop(self) -> None:
        """Safe in a signal handler."""
        self._stop.set()
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def run(self) -> None:
        watch = Watch(self._store.connect)
        waits = backoff(random.Random(), 0.5, 5.0)  # noqa: S311
        try:
            while not self._stop.is_set():
                try:
                    if self._own(watch):
                        waits = backoff(random.Random(), 0.5, 5.0)  # noqa: S311
                        self._watch(watch)
                except DATABASE_ERRORS as error:
                    wait = next(waits)
                    log.error('database_lost error="%s" next_attempt_s=%.1f', one_line(error), wait)
                    self._stop.wait(wait)
        finally:
            self._end_couriers()
            watch.close()

    def _own(self, watch: Watch) -> bool:
        """Wait until no other watcher evaluates; False when told to stop first."""
        told = False
        while not self._stop.is_set():
            if watch.claim():
                return True
            if not told:
                log.warning("another watcher evaluates the alerts: waiting")
                told = True
            self._stop.wait(HEARTBEAT_S)
        return False

    def _watch(self, watch: Watch) -> None:
        """Evaluate whatever becomes due, until told to stop."""
        if not any(courier.is_alive() for courier in self._couriers):
            self._begin_deliveries()
        log.info("watching channels=%s", ",".join(self._names) or "none")
        self._evaluator = None  # another watcher may have moved the states: read them anew
        beat = loaded = pruned = -math.inf
        exist, rules, venues = False, True, frozenset[str]()
        while not self._stop.is_set():
            now = time.monotonic()
            if now - beat >= HEARTBEAT_S or rules:
                exist, beat = watch.heartbeat(), now
            if now - pruned >= PRUNE_EVERY_S:
                self._prune()
                pruned = now
            wait = HEARTBEAT_S
            if exist or self._evaluator is not None:
                if rules or now - loaded >= RELOAD_S:
                    self._load()
                    loaded = now
                wait = min(wait, self._evaluate(venues))
            woken = watch.wait(wait, self._wake_read)
            rules, venues = woken.rules, woken.venues
            if woken.tests:
                self._wake_couriers()

    def _load(self) -> None:
        if self._evaluator is None:
            from pairs.alerts.evaluator import (
                Evaluator,  # the pair maths: loaded once there is a rule
            )

            self._evaluator = Evaluator(self._store)
        before = len(self._evaluator)
        self._evaluator.load()
        if len(self._evaluator) != before:
            log.info("rules enabled=%d", len(self._evaluator))

    def _evaluate(self, venues: frozenset[str]) -> float:
        """Evaluate what is due and store it; seconds until something is due again."""
        from pairs.alerts.store import store_outcomes

        evaluator = self._evaluator
        if evaluator is None:
            return HEARTBEAT_S
        outcomes = evaluator.step(venues)
        taken = store_outcomes(self._store, outcomes, self._names)
        for rule_id, events in taken.items():
            for number, event, title in events:
                log.warning(
                    'fired rule=%d event=%d ts=%s edge=%s value=%.8g title="%s"',
                    rule_id,
                    number,
                    event.ts.isoformat(),
                    event.edge,
                    event.value,
                    title,
                )
        if any(taken.values()):
            self._wake_couriers()
        if evaluator.settle(outcomes, taken):
            evaluator.load()
        return evaluator.wait_s()

    def _wake_couriers(self) -> None:
        for courier in self._couriers:
            courier.wake.set()

    def _begin_deliveries(self) -> None:
        gone = outbox.register_channels(self._store, self._names)
        if gone:
            log.warning("given_up deliveries=%d: their channels are no longer configured", gone)
        for courier in self._couriers:
            courier.start()

    def _end_couriers(self) -> None:
        self._stop.set()
        deadline = time.monotonic() + STOP_S
        for courier in self._couriers:
            courier.wake.set()
            if courier.is_alive():
                courier.join(max(0.1, deadline - time.monotonic()))

    def _prune(self) -> None:
        gone = prune_alerts(self._store, self._retention_days)
        if gone:
            log.info("pruned events=%d older_than_days=%g", gone, self._retention_days)


# -- the command


def test(channels: Sequence[Channel]) -> int:
    """Send one message over every channel; 1 where one fails, 2 where there is none."""
    if not channels:
        raise SettingsError("ALERT_URLS is empty: there is no channel to test")
    bad = 0
    for channel in channels:
        error = channel.send("Test of the alerts", "This channel of the pairs workstation works.")
        print(f"{channel.name}: {error or 'delivered'}")
        bad += error is not None
    return 1 if bad else 0


def serve(settings: Settings, database: Database, channels: Sequence[Channel]) -> None:
    """Run until SIGTERM or SIGINT."""
    store = open_patiently(database, partial(noted, "watch_alerts"))
    watcher = Watcher(store, channels, settings.alert_retention_days)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop())
    try:
        watcher.run()
    finally:
        store.close()
    log.info("stopped: everything evaluated is stored")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code. Failures are one line on stderr."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)  # until the watcher takes them over
    parser = Parser(
        description="Evaluate the stored alert rules without a browser and deliver what fires."
    )
    parser.add_argument(
        "--test", action="store_true", help="send a test message over every channel, then exit"
    )
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        start_logging(settings.log_level)
        channels = open_channels(settings.alert_urls)
        if arguments.test:
            return test(channels)
        database = open_database(settings)
        try:
            serve(settings, database, channels)
        finally:
            database.leave()
    except KeyboardInterrupt:
        return INTERRUPTED if arguments.test else 0
    except (SettingsError, StoreError, OSError) as error:
        failed("watch_alerts", error)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    watch_uncaught()
    sys.exit(main())
