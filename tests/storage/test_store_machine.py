"""Random sequences of everything that happens to the store, on a real PostgreSQL, held after every
step against the model in store_model.py. A small part here, thousands of steps in `make chaos`."""

from __future__ import annotations

import copy
import itertools
import os
import random
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pairs.market import Trade
from pairs.storage.audit import audit
from pairs.storage.batch import at
from pairs.storage.covering import cover
from pairs.storage.gaps import Gap
from pairs.storage.partitions import TRADES_PER_PARTITION
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_changes
from pairs.storage.retention import prune
from tests.support.chaos import SEED, TALLY
from tests.support.store_model import LENGTHS, Model, S, bucket, stated

T0 = 1_723_161_600 * S
DAY_US = 86_400 * S
BASE = TRADES_PER_PARTITION - 20  # the ids of a tape lie on both sides of a partition's edge
SPAN = 48
VENUE = "binance"
PHASES = (Phase.generate, *((Phase.shrink,) if "SHRINK" in os.environ else ()))  # it takes minutes
LEAVES = (0, 1)
GAPS = "SELECT first_id, last_id, state FROM v_gaps WHERE symbol = %(symbol)s"
_symbols = itertools.count(1)
Failures = list[BaseException]

ids = st.integers(0, SPAN - 1)
WRONG = st.just({}) | st.sampled_from(  # what a false kline has more than the true one
    (
        {"trades": 1},
        {"trades": 2, "close": 0.25},
        {"close": 0.25},
        {"volume": 1 / 64},
        {"high": -1.0},
        {"low": 1.0},
        {"quote_volume": 1.0, "taker_buy_volume": 1 / 64},
    )
)
SKIPPED = st.sampled_from((0, 0, 0, 1, 4))
batches = st.lists(st.tuples(ids, st.booleans()), min_size=1, max_size=8)
runs_of_ids = st.tuples(ids, st.integers(1, 12)).map(
    lambda drawn: range(drawn[0], min(SPAN, sum(drawn)))
)


def tape(symbol: str, number: int) -> list[Trade]:
    """What the exchange printed: several in a second, some with a time behind their id's turn."""
    rng = random.Random(number)
    made = []
    for k in range(SPAN):
        ts = T0 + k * 9 * S // 4 + rng.choice((0, 0, 0, 0, -7, 4)) * S + rng.randrange(S)
        price, size = 100 + rng.randrange(400) / 4, rng.randrange(1, 64) / 64
        made.append(Trade(symbol, BASE + k, ts, price, size, rng.random() < 0.5, ts + 900))
    return made


class StoreMachine(RuleBasedStateMachine):
    """Two writers, a repair that may act on what it read long ago, retention, klines, files."""

    source: PostgresStore  # set by the test

    @initialize(number=st.integers(0, 10**6))
    def begin(self, number: int) -> None:
        self.symbol = f"S{next(_symbols)}USDT"
        self.tape = tape(self.symbol, number)
        self.model = Model()
        self.now_us = T0 + SPAN * 2 * S
        self.held: Gap | None = None
        self.files: dict[int, float] = {}
        self.shown: dict[Any, Any] = {}
        self.revision = 0
        self.uncovered = False
        self.stores = [PostgresStore(self.source.connect) for _ in range(2)]
        self.number = self.stores[0].instrument_id(VENUE, self.symbol)

    # -- what comes from the exchange

    @rule(which=st.integers(0, 1), drawn=batches)
    def scattered(self, which: int, drawn: list[tuple[int, bool]]) -> None:
        """Late, doubled and conflicting trades in one batch."""
        trades = []
        for k, odd in drawn:
            trade = self.tape[k]
            if odd and trade.trade_id in self.model.folded:
                trade = trade._replace(price=7.0, ts_us=trade.ts_us + 9 * S)
            trades.append(trade)
        self.write(which, trades)

    @rule(which=st.integers(0, 1), run=runs_of_ids)
    def stretch(self, which: int, run: range) -> None:
        self.write(which, [self.tape[k] for k in run])

    @rule(
        which=st.integers(0, 1), skipped=st.sampled_from((0, 0, 0, 1, 4)), count=st.integers(1, 6)
    )
    def live(self, which: int, skipped: int, count: int) -> None:
        """What follows the newest, after a hole perhaps: the path of the usual batch."""
        high = self.model.high if self.model.high is not None else BASE - 1
        start = max(0, high + 1 - BASE) + skipped
        if trades := self.tape[start : start + count]:
            self.write(which, trades)

    @rule(which=st.integers(0, 1), first=ids)
    def begin_at(self, which: int, first: int) -> None:
        self.stores[which].begin_at(VENUE, self.symbol, BASE + first)
        self.model.begin_at(BASE + first)

    def write(self, which: int, trades: list[Trade]) -> None:
        written = self.stores[which].write(VENUE, trades)
        assert (written.stored, written.expired) == self.model.write(trades)

    # -- repair

    @rule(index=st.integers(0, 3))
    def read_gaps(self, index: int) -> None:
        gaps = self.stores[0].open_gaps(VENUE, self.symbol)
        assert [(g.first_id, g.last_id, "open") for g in gaps] == sorted(
            gap for gap in self.model.gaps if gap[2] == "open"
        )
        self.held = gaps[index % len(gaps)] if gaps else None

    @precondition(lambda self: self.held)
    @rule(size=st.integers(1, 10))
    def page(self, size: int) -> None:
        """The next page of the gap that was read, perhaps before retention."""
        assert self.held is not None
        missing = self.stores[0].first_missing(VENUE, self.held)
        stored = self.model.ticks()
        low = max(self.held.first_id, self.model.kept_from)
        due = [i for i in range(low, self.held.last_id + 1) if i not in stored]
        assert missing == (due[0] if due else None)
        if missing is not None:
            last = min(self.held.last_id, missing + size - 1)
            self.write(0, self.tape[missing - BASE : last + 1 - BASE])

    @precondition(lambda self: self.held)
    @rule(size=st.integers(1, 10), offset=st.integers(0, 6))
    def stale_page(self, size: int, offset: int) -> None:
        """A page asked for before something else happened."""
        assert self.held is not None
        low = min(self.held.last_id, self.held.first_id + offset)
        high = min(self.held.last_id, low + size - 1)
        self.write(0, self.tape[low - BASE : high + 1 - BASE])

    @precondition(lambda self: self.held)
    @rule(
        offset=st.integers(0, 6),
        size=st.integers(1, 6),
        state=st.sampled_from(("void", "unrecoverable")),
    )
    def settle(self, offset: int, size: int, state: str) -> None:
        assert self.held is not None
        gap = (self.held.first_id, self.held.last_id)
        low = min(gap[1], gap[0] + offset)
        high = min(gap[1], low + size - 1)
        if any(i in self.model.folded for i in range(low, high + 1)):
            return  # repair settles what is missing only
        self.stores[0].settle(VENUE, self.held, low, high, state, "drawn")
        self.model.settle(gap, (low, high), state)

    # -- others

    @rule(forget=st.sampled_from(("", "rows", "all")))
    def digests(self, forget: str) -> None:
        """A store from before digests, or whose rows were deleted to have them made anew: they
        are counted again sooner or later."""
        if forget:
            self.rows("DELETE FROM partition_digest RETURNING 1")
            if forget == "all":
                forgotten = "tail_chunk = NULL, tail_n = 0, tail_digest = 0"
                self.rows(f"UPDATE feed SET {forgotten} RETURNING 1")
            self.uncovered = True
        else:
            while cover(self.source, VENUE, [self.symbol]):
                pass
            self.uncovered = False

    @rule(reach=st.integers(0, SPAN))
    def retention(self, reach: int) -> None:
        limit_us = T0 + reach * 9 * S // 4
        self.prune(limit_us)
        self.model.prune(limit_us)

    @rule(k=ids, bar_s=st.sampled_from(LENGTHS), wrong=WRONG, beside=st.sampled_from((0, 0, 0, 1)))
    def kline(self, k: int, bar_s: int, wrong: dict[str, float], beside: int) -> None:
        """The bar of a trade as the exchange states it, of all trades that it printed; or another,
        or one where none was printed perhaps."""
        ts = bucket(self.tape[k].ts_us, bar_s)
        made = replace(
            stated([t for t in self.tape if bucket(t.ts_us, bar_s) == ts], bar_s, ts),
            ts_us=ts + beside * bar_s * S,
        )
        made = replace(made, **{name: getattr(made, name) + by for name, by in wrong.items()})
        ts = made.ts_us
        changed = self.stores[1].write_klines(VENUE, [made])
        assert changed == (self.model.klines.get((bar_s, ts)) != made)
        self.model.klines[bar_s, ts] = made

    @rule(minute=st.integers(0, 3), close=st.integers(1, 4))
    def upload(self, minute: int, close: int) -> None:
        index = pd.DatetimeIndex([datetime.fromtimestamp(T0 / S + 60 * minute, UTC)])
        values = {name: [float(close)] for name in ("open", "high", "low", "close", "volume")}
        before = self.files.get(minute)
        done = self.stores[0].write_upload(self.symbol, 60, pd.DataFrame(values, index=index))
        assert (done.new, done.replaced, done.unchanged) == (
            before is None,
            before not in (None, close),
            before == close,
        )
        self.files[minute] = float(close)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = PostgresStore(self.source.connect)

    @rule(one=runs_of_ids, other=runs_of_ids, reach=st.none() | st.integers(0, SPAN))
    def at_once(self, one: range, other: range, reach: int | None) -> None:
        """Two batches and perhaps retention side by side: as if in one of their orders, where
        retention finds what is too old of each partition before it drops it."""
        limit_us = T0 + (reach or 0) * 9 * S // 4
        works = [
            lambda: self.stores[0].write(VENUE, [self.tape[k] for k in one]),
            lambda: self.stores[1].write(VENUE, [self.tape[k] for k in other]),
        ]
        works.append(lambda: cover(self.source, VENUE, [self.symbol]))  # changes nothing seen
        orders = [["one", "other"], ["other", "one"]]
        if reach is not None:
            works.append(lambda: self.prune(limit_us))
            steps = ["one", "other", *(f"{do} {leaf}" for leaf in LEAVES for do in ("look", "cut"))]
            orders = [
                list(o)
                for o in set(itertools.permutations(steps))
                if [x for x in o if " " in x] == steps[2:]
            ]
        failed: Failures = []
        side_by_side(works, failed)
        assert failed == []
        ticks, gaps, bars = self.ticks(), self.rows(GAPS), self.bars()
        possible = [self.after(order, one, other, limit_us) for order in orders]
        self.model = next(
            (
                m
                for m in possible
                if (ticks_of(m), gaps_of(m), m.bars()) == (ticks, final(m.kept_from, gaps), bars)
            ),
            possible[0],
        )

    def after(self, order: list[str], one: range, other: range, limit_us: int) -> Model:
        model, found = copy.deepcopy(self.model), 0
        for step in order:
            do, _, leaf = step.partition(" ")
            if do == "look":
                found = model.too_old(int(leaf), limit_us)
            elif do == "cut":
                model.cut(found)
            else:
                model.write([self.tape[k] for k in (one if do == "one" else other)])
        return model

    def prune(self, limit_us: int) -> None:
        now = datetime.fromtimestamp((limit_us + DAY_US) / S, UTC)
        assert prune(self.source, 1, now)["blocked"] == []

    # -- what is to hold after every step

    @invariant()
    def the_store_is_what_the_model_is(self) -> None:
        if not hasattr(self, "model"):
            return
        same(self.ticks(), ticks_of(self.model))
        same(final(self.model.kept_from, self.rows(GAPS)), gaps_of(self.model))
        last = self.rows(
            "SELECT last_trade_id, (extract(epoch FROM last_trade) * 1000000)::bigint,"
            " last_received = ANY(SELECT received FROM v_ticks t WHERE t.symbol = f.symbol"
            "  AND t.ts = f.last_trade) FROM v_feed f WHERE symbol = %(symbol)s"
        )
        times = [t.ts_us for t in self.model.folded.values()]
        kept = any(t.ts_us == max(times) for t in self.model.ticks().values())
        same(last, [(self.model.last_trade_id(), max(times, default=None), kept)])
        TALLY.steps += 1

    @invariant()
    def bars_and_their_revision(self) -> None:
        if not hasattr(self, "model"):
            return
        found = self.bars()
        same(found, self.model.bars())
        uploaded = self.rows(
            "SELECT (extract(epoch FROM ts)::bigint - %(t0)s) / 60, close, complete FROM v_bars"
            " WHERE venue = 'upload' AND symbol = %(symbol)s ORDER BY 1"
        )
        same(uploaded, [(m, close, True) for m, close in sorted(self.files.items())])
        (revision,) = self.rows("SELECT revision FROM feed WHERE instrument_id = %(number)s")[0]
        assert revision >= self.revision
        noted = read_changes(self.source.engine, (VENUE, self.symbol), self.revision, revision)
        for bar_s in LENGTHS:
            known = [key for key in self.shown if key[0] == bar_s]
            for key in sorted(known)[:-1]:  # the newest is read anew in any case
                changed = self.shown[key] != found[key]
                assert revision > self.revision or not changed, f"{key} changed unseen"
                if self.shown[key][:-1] != found[key][:-1] and noted is not None:
                    start = at(key[1])
                    assert any(
                        low < start + timedelta(seconds=bar_s) and high >= start
                        for low, high in noted
                    ), f"{key} is not among the changes {noted}"
        self.shown, self.revision = found, revision

    @invariant()
    def the_audit_agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        report = audit(self.stores[0])["venues"][VENUE][self.symbol]
        assert report["klines_false"] == self.model.false_klines()
        checks = {name for name, value in report.items() if isinstance(value, bool)} - {"ok"}
        failed = {name for name in checks if not report[name]}
        assert failed == ({"klines_match_trades"} if report["klines_false"] else set()), report
        assert report["ok"] == (not failed)
        assert (report["partitions_without_digest"] > 0) <= self.uncovered
        assert report["trades"] == len(self.model.ticks())
        assert report["missing_named"] == self.model.missing()
        conflicts = self.rows("SELECT count(*) FROM quarantine WHERE symbol = %(symbol)s")
        assert conflicts >= [(len(self.model.conflicts),)]

    def ticks(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price, size,"
            " buyer_is_maker FROM v_ticks WHERE venue = 'binance' AND symbol = %(symbol)s"
            " ORDER BY 1"
        )

    def bars(self) -> dict[tuple[int, int], tuple[Any, ...]]:
        found = self.rows(
            "SELECT bar_s, (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close,"
            " volume, trades, source, complete FROM v_bars WHERE venue = 'binance'"
            " AND symbol = %(symbol)s"
        )
        return {(bar_s, ts): tuple(values) for bar_s, ts, *values in found}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.source.transaction() as cursor:
            cursor.execute(query, {"symbol": self.symbol, "number": self.number, "t0": T0 // S})
            return cursor.fetchall()

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for store in self.stores:
            store.close()
        with self.source.transaction() as cursor:  # the next begins on an empty store
            cursor.execute(
                f"DROP TABLE IF EXISTS trade_{self.number};"
                "DELETE FROM bar; DELETE FROM kline; DELETE FROM gap; DELETE FROM feed;"
                "DELETE FROM quarantine; DELETE FROM bar_change; DELETE FROM partition_digest;"
                "DELETE FROM instrument"
            )


def same(found: Any, expected: Any) -> None:
    """Equal, or told where not: hypothesis tells the steps, this the outcome."""
    if found != expected:
        rows = [x.items() if isinstance(x, dict) else x for x in (found, expected)]
        more, less = ([r for r in rows[k] if r not in rows[1 - k]] for k in (0, 1))
        raise AssertionError(f"stored, not expected: {more}; expected, not stored: {less}")


def ticks_of(model: Model) -> list[tuple[Any, ...]]:
    return [
        (i, t.ts_us, t.price, t.size, t.buyer_is_maker) for i, t in sorted(model.ticks().items())
    ]


def gaps_of(model: Model) -> list[tuple[int, int, str]]:
    return final(model.kept_from, model.gaps)


def final(kept_from: int, gaps: Iterable[tuple[Any, ...]]) -> list[tuple[int, int, str]]:
    """In order; what retention has left behind for good is told in how many rows it will."""
    found: list[tuple[int, int, str]] = []
    for low, high, state in sorted(gaps):
        before = found[-1] if found else (0, -2, "")
        if before[1] == low - 1 and before[2] == state and high < kept_from:
            low = found.pop()[0]
        found.append((low, high, state))
    return found


def side_by_side(works: list[Any], failed: Failures) -> None:
    """All at once, in threads; what goes wrong in one is noted."""
    start = threading.Barrier(len(works))

    def run(work: Any) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a thread's error is to be seen
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def run_machine(store: PostgresStore, examples: int, steps: int) -> None:
    StoreMachine.source = store
    seed(SEED)(StoreMachine)
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=PHASES,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_store_is_its_model(store: PostgresStore) -> None:
    run_machine(store, examples=10, steps=20)


@pytest.mark.chaos
def test_the_store_is_its_model_over_thousands_of_steps(store: PostgresStore) -> None:
    run_machine(store, examples=100, steps=50)
