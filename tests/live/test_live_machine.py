"""Random timelines of a market on a real PostgreSQL: stalls, losses, late and repaired trades,
clocks that differ, silence. What is shown as closed is final but for a revision, every alert is
judged on the bar as it finally is or is marked, and ages are true. Held against live_model.py; a
small part here, thousands of steps in `make chaos`."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pairs.alerts.evaluator import Evaluator
from pairs.alerts.rules import AlertState, bar_readings, evaluate
from pairs.alerts.store import create_rule, delete_rule, list_events, list_rules, store_outcomes
from pairs.analytics.pair import pair_view
from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.binance.rest import RestError
from pairs.ingest import closing
from pairs.ingest.closing import Closing
from pairs.ingest.liveness import StreamState
from pairs.live.bars import Leg, LiveBars
from pairs.market import Instrument, Trade
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import price_rule
from tests.support.chaos import SEED, TALLY
from tests.support.live_model import Line, S

T0 = 1_767_225_600 * S  # 2026-01-01
VENUE = "binance"
AGE_S = 8.0  # a machine under load is slow; clocks and ages of the machine differ by far more
PHASES = (Phase.generate, *((Phase.shrink,) if "SHRINK" in os.environ else ()))
_numbers = itertools.count(1)

legs = st.sampled_from((0, 1))
prices = st.sampled_from((90.0, 99.0, 101.0, 110.0))


class Rest:
    """What the exchange answers; it knows of a trade a while after it was printed, and may not
    answer at all."""

    protocol = SPOT

    def __init__(self, machine: LiveMachine) -> None:
        self._machine = machine
        self.lag_us = 0
        self.away = False

    async def time_ms(self) -> int:
        return self._machine.now_us // 1000

    async def latest_id(self, symbol: str, kind: object) -> int | None:
        if self.away:
            raise RestError("away")
        (line,) = (one for one in self._machine.lines if one.symbol == symbol)
        return line.told_by_rest(self._machine.now_us, self.lag_us) or None


class LiveMachine(RuleBasedStateMachine):
    """`now_us` is the exchange's clock, `clock_us` the daemon's: off by hours, at the same pace."""

    store: ClassVar[PostgresStore]

    @initialize(off_s=st.sampled_from((-3600, -5, 0, 5, 3600)), bar=st.sampled_from(("1s", "5s")))
    def begin(self, off_s: int, bar: str) -> None:
        number = next(_numbers)
        self.now_us, self.off_us = T0, time.time_ns() // 1000 - T0 + off_s * S
        self.bar_us = int(bar[0]) * S
        self.lines = [Line(f"Y{number}USDT"), Line(f"X{number}USDT")]
        self.watched = {line.symbol: StreamState(state="live") for line in self.lines}
        self.rest = Rest(self)
        closing.steady_us = self.clock_us  # type: ignore[attr-defined]
        self.closing = Closing(
            self.watched,
            self.rest,
            self.store,
            VENUE,
            lambda: 0.0,  # type: ignore[arg-type]
        )
        self.pair = tuple(Instrument(VENUE, line.symbol) for line in self.lines)
        self.bars = LiveBars(self.store.reads, self.pair, bar, (1, 1))
        self.before: tuple[Leg, ...] = ()
        self.times: dict[tuple[str, int], tuple[int, float]] = {}  # when each was written
        for line in self.lines:
            line.print(self.now_us, 99.0)
        self._deliver(0, 1)
        self._deliver(1, 1)
        self.rule = price_rule(y=self.pair[0], x=self.pair[1], bar=bar, condition="crosses")
        self.rule_id = create_rule(self.store, self.rule)
        (stored,) = [r for r in list_rules(self.store) if r.rule_id == self.rule_id]
        self.started = stored.state
        self.evaluated_at = 0.0
        self.evaluator = Evaluator(self.store, clock=lambda: self.evaluated_at)
        self.evaluator.load()

    def clock_us(self) -> int:
        return self.now_us + self.off_us

    # -- the market, and the line

    @rule(
        leg=legs,
        after_ms=st.integers(0, 2500),
        price=prices,
        back_ms=st.sampled_from((0,) * 7 + (1500,)),
    )
    def print(self, leg: int, after_ms: int, price: float, back_ms: int) -> None:
        self.now_us += after_ms * 1000
        self.lines[leg].print(max(T0, self.now_us - back_ms * 1000), price)

    @rule(leg=legs, count=st.integers(1, 4), waited_s=st.sampled_from((0, 0, 0, 60, 300)))
    def deliver(self, leg: int, count: int, waited_s: int) -> None:
        self._deliver(leg, count, waited_s)

    def _deliver(self, leg: int, count: int, waited_s: int = 0) -> None:
        """The next ones come; the database takes them so much later."""
        line = self.lines[leg]
        come = [t._replace(received_us=self.clock_us()) for t in line.waiting[:count]]
        del line.waiting[:count]
        for trade in come:
            self.watched[line.symbol].heard(trade, 0, 0.0)
        self.now_us += waited_s * S
        self._write(line, come)

    def _write(self, line: Line, trades: list[Trade]) -> None:
        if trades:
            self.store.write(VENUE, trades, self.clock_us)
            line.store(trades)
            for trade in trades:
                key = line.symbol, trade.trade_id
                self.times.setdefault(key, (self.clock_us(), time.monotonic()))

    @rule(leg=legs, count=st.integers(1, 3))
    def lose(self, leg: int, count: int) -> None:
        del self.lines[leg].waiting[:count]

    @rule(leg=legs, most=st.integers(1, 3))
    def repair(self, leg: int, most: int) -> None:
        line = self.lines[leg]
        found = line.missing[:most]
        self._write(line, [t._replace(received_us=self.clock_us()) for t in found])

    @rule(leg=legs, waited_s=st.sampled_from((60, 300)))
    def repair_while_silent(self, leg: int, waited_s: int) -> None:
        """A hole is filled long after the newest trade has come."""
        line = self.lines[leg]
        for price in (99.0, 101.0):
            line.print(self.now_us, price)
        del line.waiting[:-1]
        self._deliver(leg, 1, waited_s)
        self.repair(leg, 3)
        self.look()

    @rule(leg=legs, back=st.integers(0, 3))
    def come_again(self, leg: int, back: int) -> None:
        line = self.lines[leg]
        again = [line.stored[i] for i in sorted(line.stored)[-1 - back :]]
        self._write(line, [t._replace(received_us=self.clock_us()) for t in again])

    @rule(ms=st.integers(500, 9000))
    def silence(self, ms: int) -> None:
        self.now_us += ms * 1000

    # -- what asks and looks

    @rule(lag_ms=st.sampled_from((0, 400, 900)), away=st.sampled_from((False, False, False, True)))
    def ask(self, lag_ms: int, away: bool) -> None:
        self.rest.lag_us, self.rest.away = lag_ms * 1000, away
        self.closing._next = dict.fromkeys(self.watched, 0.0)
        due = self.closing._due()
        if due:
            asyncio.run(self.closing._ask(due))

    @rule()
    def look(self) -> None:
        snapshot = self.bars.poll(0)
        assert snapshot.error is None
        for line, leg in zip(self.lines, snapshot.legs, strict=True):
            self._final(line, leg)
            self._age(line, leg)
        for old, new in zip(self.before, snapshot.legs, strict=True) if self.before else ():
            assert len(new.closed) >= len(old.closed), "a closed bar is open again"
            if new.revision == old.revision:
                pd.testing.assert_frame_equal(
                    new.closed.loc[old.closed.index], old.closed, check_freq=False
                )
        self.before = snapshot.legs
        fresh = LiveBars(self.store.reads, self.pair, snapshot.bar, (1, 1)).poll(0)
        for held, anew in zip(snapshot.legs, fresh.legs, strict=True):
            pd.testing.assert_frame_equal(held.closed, anew.closed, check_freq=False)

    def _final(self, line: Line, leg: Leg) -> None:
        """A closed bar is what the exchange has printed of it, but for what is known to lack."""
        printed, doubtful = line.closes(self.bar_us, printed=True), line.doubtful(self.bar_us)
        for ts, close in leg.closed["close"].items():
            start = int(pd.Timestamp(str(ts)).timestamp()) * S
            if start not in doubtful:
                assert close == printed[start], f"{line.symbol} closed at {close} too early"

    def _age(self, line: Line, leg: Leg) -> None:
        newest = line.newest
        assert leg.feed is not None
        assert leg.feed.last_trade == datetime.fromtimestamp(newest.ts_us / S, UTC)
        assert leg.feed.received_age_s is not None
        # The database's clock does not jump with the exchange's: the age is as of the write.
        true_s = (self.written_us(line) - line.received_us[newest.trade_id]) / S
        assert abs(leg.feed.received_age_s - true_s - self.since_s(line)) < AGE_S

    def written_us(self, line: Line) -> int:
        return self.times[line.symbol, line.newest.trade_id][0]

    def since_s(self, line: Line) -> float:
        return time.monotonic() - self.times[line.symbol, line.newest.trade_id][1]

    @rule(patience=st.booleans())
    def evaluate(self, patience: bool) -> None:
        self.evaluated_at += 400.0 if patience else 1.0
        for _ in range(2):
            self.evaluated_at += 6.0
            outcomes = self.evaluator.step([VENUE])
            self.evaluator.settle(outcomes, store_outcomes(self.store, outcomes, []))

    @invariant()
    def step(self) -> None:
        TALLY.steps += 1

    def teardown(self) -> None:
        """All comes in the end; then every alert is right, or says what is not."""
        if not hasattr(self, "rule_id"):
            return
        for leg, line in enumerate(self.lines):
            self._deliver(leg, 1000)
            line.print(self.now_us + 60 * S, 99.0)
            self._deliver(leg, 1)
        for leg in (0, 1):
            self.repair(leg, 1000)
        self.look()
        self.evaluate(True)
        self._told()
        delete_rule(self.store, self.rule_id)

    def _told(self) -> None:
        y, x = self.bars.poll(0).legs
        view = pair_view(y.closed, x.closed, self.rule.spec)
        state = AlertState(self.started.last_ts)
        _, due = evaluate(self.rule, state, bar_readings(self.rule, view, state.last_ts))
        events = [e for e in list_events(self.store, limit=10_000) if e.rule_id == self.rule_id]
        told = {(event.ts, event.edge): event for event in events}
        for event in due:
            found: Any = told.get((event.ts, event.edge))
            assert found is not None, f"never told: {event}"
            assert found.remark or math.isclose(found.value, event.value)
        for key in told.keys() - {(event.ts, event.edge) for event in due}:
            assert told[key].remark, f"told, and not so: {told[key]}"


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 25), pytest.param(250, 50, marks=pytest.mark.chaos)]
)
def test_a_market_as_it_comes(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, examples: int, steps: int
) -> None:
    print(f"CHAOS_SEED={SEED}")
    monkeypatch.setattr(closing, "steady_us", closing.steady_us)  # set by the machine, put back

    class Machine(LiveMachine):
        pass

    Machine.store = store
    made = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(SEED)(Machine), settings=made)
