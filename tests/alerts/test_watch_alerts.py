"""The watcher as a process of its own: nothing repeated, nothing lost, no secret told."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.server import Exchange
from exchange.synthetic import SyntheticSource
from exchange.testing import running
from exchange.world import default_world
from pairs.alerts import evaluator
from pairs.alerts.evaluator import Evaluator
from pairs.alerts.outbox import channel_states
from pairs.alerts.rules import AlertState, bar_readings, evaluate
from pairs.alerts.store import create_rule, list_events, list_rules, pulse, store_outcomes
from pairs.analytics.pair import PairSpec, pair_view
from pairs.market import Instrument
from pairs.settings import SettingsError, load_settings
from pairs.storage.ownership import Ownership
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.alert_rules import only, price_rule, prices, readings, rule, watch_once
from tests.support.daemon import daemon, eventually
from tests.support.rows import rows
from tests.support.sink import SECRET, Sink
from watch_alerts import open_channels, redacted

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("CHAOS_SEED", "20261124"))


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@contextlib.contextmanager
def watcher(database_url: str, log: Path, *urls: str) -> Iterator[subprocess.Popen[bytes]]:
    """`watch_alerts.py` as a process; ended with SIGTERM, which must end it with 0."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "ALERT_URLS": " ".join(urls),
        "LOG_LEVEL": "DEBUG",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "watch_alerts.py"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def evaluated(store: PostgresStore, bars: int) -> Callable[[], bool]:
    """Whether the only rule has seen the last of so many bars."""
    last = readings([0.0] * bars)[-1].ts
    return lambda: only(store).state.last_ts == last


def settled(store: PostgresStore) -> bool:
    states = {d.state for event in list_events(store, limit=10_000) for d in event.deliveries}
    return states <= {"delivered", "given_up"}


# -- the process


def test_a_failing_channel_is_retried_and_delays_no_other(
    store: PostgresStore, database_url: str, tmp_path: Path, sink: Sink
) -> None:
    """The first channel refuses twice, the second never answers in time, the third is well."""
    good, deaf = Sink(), Sink()
    answered = threading.Event()
    sink.answer = lambda n: 503 if n <= 2 else 200
    deaf.answer = lambda _: (answered.wait(30) and 200) or 500
    log = tmp_path / "log"
    create_rule(store, price_rule())
    try:
        with watcher(database_url, log, sink.url(), deaf.url("?rto=3"), good.url()):
            prices(store, [99.0, 101.0])
            eventually(lambda: good.alerts, "the well one is told")
            assert sink.alerts == []
            eventually(lambda: len(sink.alerts) == 1, "the refusing one is told")
            for line in (
                "delivery_failed event=1 channel=json attempts=1 next_attempt_s=",
                "delivered event=1 channel=json attempts=3",
                "delivery_failed event=1 channel=json-2",
            ):
                eventually(lambda line=line: line in log.read_text(), line)  # type: ignore[misc]
            eventually(lambda: channel_states(store)[1].last_error, "the deaf one is told of")
            json_1, json_2, json_3 = channel_states(store)
            assert (json_1.last_error, json_3.last_error, json_2.waiting) == (None, None, 1)
            answered.set()
            eventually(lambda: settled(store), "all is delivered")
        assert good.received[0]["title"] == "dear: ETHUSDT price above 100: 101"
        assert (sink.alerts, good.alerts, sink.tried) == ([1], [1], 3)
        assert set(deaf.alerts) == {1}  # at least once
    finally:
        answered.set()
        good.close()
        deaf.close()
    stored = str(rows(store, "SELECT d, c FROM alert_delivery d, alert_channel c"))
    assert SECRET not in log.read_text() + stored
    assert "127.0.0.1" not in stored


@pytest.mark.parametrize(
    ("bars", "kills"), [(160, 3), pytest.param(3000, 60, marks=pytest.mark.chaos)]
)
def test_killed_at_random_points(
    store: PostgresStore, database_url: str, tmp_path: Path, sink: Sink, bars: int, kills: int
) -> None:
    """Every event stored exactly once, as the pure evaluation has it, and delivered at least
    once, over a channel that fails now and then."""
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    sink.answer = lambda n: 500 if n % 4 == 1 else 200
    values = [100 + 5 * rng.uniform(-1, 1) for _ in range(bars)]
    made = price_rule(persistence=2, hysteresis=2.0, condition="crosses", cool_down_s=4)
    create_rule(store, made)
    stop = threading.Event()

    def trade_on() -> None:
        for k, value in enumerate(values):
            prices(store, [value], first=k)
            stop.wait(0.05)

    writer = threading.Thread(target=trade_on)
    writer.start()
    log = tmp_path / "log"
    try:
        for _ in range(kills):
            with watcher(database_url, log, sink.url()) as process:
                eventually(lambda: "watching" in log.read_text(), "it watches")
                time.sleep(rng.uniform(1.2, 3.0))
                process.kill()
                process.wait()
        writer.join()
        with watcher(database_url, log, sink.url()):
            eventually(evaluated(store, len(values)), "the last bar is evaluated")
            eventually(lambda: settled(store), "all is delivered")
    finally:
        stop.set()
        writer.join()
    _, expected = evaluate(made, AlertState(), readings(values))
    told = list_events(store, limit=10_000)
    assert [(e.ts, e.edge, e.value) for e in told] == [(e.ts, e.edge, e.value) for e in expected]
    assert len(told) > 5
    assert set(sink.alerts) == {e.event_id for e in told}


def test_what_closed_while_nothing_ran_is_told_in_order_at_the_next_start(
    store: PostgresStore, database_url: str, tmp_path: Path, sink: Sink
) -> None:
    create_rule(store, price_rule())
    prices(store, [99.0, 101.0])
    watch_once(store, ("json",))
    prices(store, [99.0, 102.0, 99.0, 103.0], first=2)
    with watcher(database_url, tmp_path / "log", sink.url()):
        eventually(lambda: len(sink.received) == 3, "all three")
    assert [e.value for e in list_events(store)] == [101.0, 102.0, 103.0]
    assert sink.alerts == [e.event_id for e in list_events(store)]
    assert "catch_up rule=1 bars=4" in (tmp_path / "log").read_text()


def test_trades_to_webhook_with_stops_of_daemon_and_watcher(
    store: PostgresStore,
    database_url: str,
    tmp_path: Path,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole path: what was told while it was live, and caught up after a stop of everything,
    is what the complete record says."""
    monkeypatch.setattr(Exchange, "_say_simulated", lambda *_: None)  # the rule's venue is real
    made = rule(
        threshold=0.0, condition="crosses", spec=PairSpec(hedge="fixed", beta=10.0, window=4)
    )
    create_rule(store, made)
    world = default_world().only(["BTCUSDT", "ETHUSDT"]).steady(20)
    log = tmp_path / "log"
    with running(SyntheticSource(world, seed=SEED)) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        for least in (2, 5):
            with (
                daemon(database_url, addresses, tmp_path / "daemon"),
                watcher(database_url, log, sink.url()),
            ):
                eventually(lambda least=least: len(sink.alerts) >= least, "alerts")
                if least == 5:
                    eventually(lambda: "catch_up" in log.read_text(), "what closed meanwhile")
            if least == 2:
                time.sleep(5)  # nothing runs; the market goes on
    (stored,) = list_rules(store)
    legs = [read_bars(store.engine, *leg, 1) for leg in (made.y, made.x)]
    every = bar_readings(made, pair_view(*legs, made.spec), None)
    assert stored.state.last_ts is not None
    seen = [reading for reading in every if reading.ts <= stored.state.last_ts]
    _, expected = evaluate(made, AlertState(), seen)
    told = list_events(store)
    assert [(e.ts, e.edge, e.value) for e in told] == [(e.ts, e.edge, e.value) for e in expected]
    assert set(sink.alerts) <= {e.event_id for e in told}


def test_the_database_is_lost_and_comes_back(
    store: PostgresStore, database_url: str, tmp_path: Path, sink: Sink
) -> None:
    create_rule(store, price_rule())
    log = tmp_path / "log"
    with watcher(database_url, log, sink.url()):
        prices(store, [99.0, 101.0])
        eventually(lambda: len(sink.received) == 1, "the first alert")
        with store.transaction() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        prices(store, [99.0, 102.0], first=2)
        eventually(lambda: len(sink.received) == 2, "the second alert")
        eventually(lambda: "database_lost" in log.read_text(), "it says so")


def test_a_second_watcher_waits_and_takes_over(
    store: PostgresStore, database_url: str, tmp_path: Path, sink: Sink
) -> None:
    create_rule(store, price_rule())
    first_log, second_log = tmp_path / "first", tmp_path / "second"
    with watcher(database_url, first_log, sink.url()) as first:
        eventually(lambda: "watching" in first_log.read_text(), "the first watches")
        with watcher(database_url, second_log, sink.url()):
            eventually(lambda: "another watcher" in second_log.read_text(), "the second waits")
            prices(store, [99.0, 101.0])
            eventually(lambda: sink.alerts == [1], "told once")
            # Killed before it has noted this, it would be told again: at least once.
            eventually(lambda: settled(store), "noted as told")
            first.kill()
            first.wait()
            prices(store, [99.0, 101.0], first=2)
            eventually(lambda: len(sink.alerts) == 2, "told by the second")
    assert sink.alerts == [1, 2]
    assert "watching" in second_log.read_text()


def test_without_rules_it_loads_no_pair_maths_and_notices_the_first_rule(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    prices(store, [99.0, 101.0])
    with watcher(database_url, log) as process:
        eventually(lambda: "watching channels=none" in log.read_text(), "it watches")
        eventually(lambda: (pulse(store).watcher_age_s or 99) < 5, "its sign of life")
        if sys.platform == "linux":
            assert "llvmlite" not in Path(f"/proc/{process.pid}/maps").read_text()
        create_rule(store, price_rule())
        eventually(lambda: list_events(store), "the alert")
    assert list_events(store)[0].deliveries == ()


@pytest.mark.processes
def test_a_bad_address_is_refused_without_telling_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "watch_alerts.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "ALERT_URLS": f"json://h/x nonsense://{SECRET}"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("watch_alerts: ALERT_URLS[2]='nonsense://***' is not usable")
    assert SECRET not in done.stderr


# -- channels


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise's, handled there
def test_names_of_channels_hold_no_secret() -> None:
    urls = load_settings({"ALERT_URLS": f"json://h/{SECRET},json://h/b jsons://h/c"}).alert_urls
    channels = open_channels(urls)
    assert [channel.name for channel in channels] == ["json", "json-2", "jsons"]
    assert SECRET not in repr(channels) + repr(load_settings({"ALERT_URLS": urls[0]}))


@pytest.mark.parametrize("value", [f"{SECRET}", f"json://h {SECRET}", f"a/b://{SECRET}"])
def test_malformed_addresses_are_refused_without_telling_them(value: str) -> None:
    with pytest.raises(SettingsError, match="ALERT_URLS") as caught:
        load_settings({"ALERT_URLS": value})
    assert SECRET not in str(caught.value)


def test_what_a_service_answers_is_told_without_the_address() -> None:
    url = "mailtos://user%40desk:p%21ss@mail.example.org?to=Boss@example.org"
    said = "Failed user@desk p!ss at MAIL.EXAMPLE.ORG for boss@example.org: error 535"
    told = redacted(said, url)
    assert told.endswith(": error 535")
    for secret in ("user", "p!ss", "example", "boss"):
        assert secret not in told.lower()


# -- no rule is silently left out


def problem(store: PostgresStore) -> str:
    watch_once(store)
    return only(store).problem or ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y": Instrument("binance", "SOLUSDT")}, "no closed 1s bar of binance:SOLUSDT is stored"),
        ({"quantity": "zscore", "spec": PairSpec(window=60)}, "warming up: 20 of 119 bars"),
        ({"quantity": "zscore", "spec": PairSpec(window=9000)}, "at most 8999 1s bars are kept"),
        ({"quantity": "zscore", "spec": PairSpec(window=5)}, "undefined at the last bar"),
        ({"x": Instrument("upload", "MINE")}, "nothing is stored of upload:MINE"),
        (
            {"quantity": "staleness", "threshold": 9.0, "x": Instrument("binance", "XRPUSDT")},
            "nothing was ever received of binance:XRPUSDT",
        ),
    ],
)
def test_why_a_rule_cannot_be_evaluated_is_told(
    store: PostgresStore, changes: dict[str, Any], said: str
) -> None:
    prices(store, [100.0] * 20)
    create_rule(store, price_rule(**changes))
    assert said in problem(store)


def test_a_stopped_feed_is_told_at_its_rules(store: PostgresStore) -> None:
    prices(store, [99.0] * 5)
    create_rule(store, price_rule())
    ownership = Ownership(store.connect, "binance")
    ownership.claim(["ETHUSDT"])
    ownership.heartbeat({"ETHUSDT": ("disconnected", "HTTP 451")})
    ownership.close()
    assert problem(store) == "no new bars: the feed of ETHUSDT is disconnected (HTTP 451)"


def test_one_rules_failure_is_its_own(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices(store, [99.0, 101.0])
    create_rule(store, price_rule(spec=PairSpec(window=7)))
    create_rule(store, price_rule())
    real = evaluator.pair_view

    def failing(y: Any, x: Any, spec: PairSpec) -> Any:
        if spec.window == 7:
            raise ArithmeticError("it went wrong")
        return real(y, x, spec)

    monkeypatch.setattr(evaluator, "pair_view", failing)
    assert len(watch_once(store)) == 1
    bad, good = list_rules(store)
    assert bad.problem == "cannot be evaluated: it went wrong"
    assert good.problem is None
    monkeypatch.undo()
    watch_once(store)
    assert list_rules(store)[0].problem is None  # and it has lost nothing
    assert [e.rule_id for e in list_events(store)] == [good.rule_id, bad.rule_id]


def test_evaluation_waits_for_the_repair_of_missing_trades(store: PostgresStore) -> None:
    """The bars of a hole come in their order, not behind those that were evaluated already."""
    clock = [0.0]

    def step() -> None:
        outcomes = evaluator.step(["binance"])
        evaluator.settle(outcomes, store_outcomes(store, outcomes, []))
        clock[0] += 6.0

    prices(store, [99.0, 99.0])
    create_rule(store, price_rule(condition="crosses"))
    evaluator = Evaluator(store, clock=lambda: clock[0])
    evaluator.load()
    step()
    prices(store, [99.0, 99.0], first=6)
    for _ in range(3):
        step()
    assert only(store).state.last_ts == readings([0.0] * 2)[-1].ts
    assert "waits up to 30 s for the repair of missing trades (4 of ETHUSDT" in str(
        only(store).problem
    )
    prices(store, [99.0, 101.0, 101.0, 99.0], first=2)
    step()
    assert only(store).problem is None
    assert [(e.edge, e.value) for e in list_events(store)] == [("up", 101.0), ("down", 99.0)]
    prices(store, [101.0], first=12)  # a hole that nobody fills: it goes on, and says so
    for _ in range(7):
        step()
    assert [e.value for e in list_events(store)][2:] == [101.0]
    assert "evaluated although trades are missing" in str(only(store).problem)


def test_staleness_tells_a_feed_that_fell_silent_and_its_return(store: PostgresStore) -> None:
    made = rule(quantity="staleness", condition="crosses", threshold=60.0, name="silence")
    create_rule(store, made)
    prices(store, [100.0])
    clock = [0.0]
    evaluator = Evaluator(store, clock=lambda: clock[0])
    evaluator.load()
    received = "UPDATE feed SET last_received = now() - interval '%s s'"
    for silent_s in (1, 59, 61, 62, 3):
        with store.transaction() as cursor:
            cursor.execute(received, (silent_s,))
        outcomes = evaluator.step()
        evaluator.settle(outcomes, store_outcomes(store, outcomes, []))
        clock[0] += 1.0
    told = list_events(store)
    assert [(e.edge, round(e.value)) for e in told] == [("up", 61), ("down", 3)]
    assert round(told[0].figures["staleness_x"] or 0) == 61
    assert only(store).problem is None
