"""What the ingestion must survive: each fault against the local exchange and a real PostgreSQL.

After each, the stored set equals the exchange's tape over the covered ids: nothing missing,
nothing twice, nothing altered, no gap left open, the daemon alive. A fast selection is part of
`make test`; `make chaos` runs all of it. `CHAOS_SEED` repeats a run.
"""

from __future__ import annotations

import contextlib
import time
import types
from typing import Any

import psycopg2
import pytest

import ingest_websocket
from exchange.faults import Faults, Ids
from exchange.limits import Limits
from exchange.synthetic import SyntheticSource
from exchange.testing import Running, running
from exchange.world import default_world
from pairs.feeds.binance import rest
from pairs.ingest import backfill, inbox, liveness
from pairs.storage import postgres
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.chaos import SEED
from tests.support.daemon import eventually
from tests.support.desk import SYMBOLS, Desk, desk

chaos = pytest.mark.chaos


def rows(store: PostgresStore, query: str) -> list[tuple[Any, ...]]:
    with store.transaction() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


# -- connection


@pytest.mark.parametrize(
    "event",
    [
        "abort",
        "close:1001",
        pytest.param("close:1008", marks=chaos),
        "shutdown:0",
        pytest.param("shutdown:3", marks=chaos),
        "half_open",
        pytest.param("stall", marks=chaos),
    ],
)
def test_connections_that_end(store: PostgresStore, event: str) -> None:
    with desk(store) as d:
        for _ in range(2):
            d.flowing()
            d.exchange.faults.do(event)
            time.sleep(1)
        d.flowing()


def test_the_next_connection_overlaps_the_last(store: PostgresStore) -> None:
    """Renewed six times within their life: no hole at all, every trade of the overlap once."""
    with desk(store, life_s=1.5) as d:
        d.flowing()
        d.settled()
        before = d.count("SELECT max(gap_id) FROM gap")
        time.sleep(9)
        assert d.count("SELECT max(gap_id) FROM gap") == before
        assert d.daemon.streams[0].reconnects == 0
        assert d.count("SELECT sum(duplicates) FROM feed") > 0


@chaos
def test_an_announced_shutdown_with_lead_leaves_no_hole(store: PostgresStore) -> None:
    with desk(store) as d:
        d.flowing()
        d.settled()
        before = d.count("SELECT max(gap_id) FROM gap")
        d.exchange.faults.do("shutdown:6")
        time.sleep(8)
        assert d.count("SELECT max(gap_id) FROM gap") == before


def test_one_stream_falls_silent_while_the_other_flows(store: PostgresStore) -> None:
    with desk(store) as d:
        d.flowing()
        d.exchange.faults.silence = frozenset({"ethusdt@trade"})
        eventually(
            lambda: any(
                f.symbol == "ETHUSDT" and f.state in ("stale", "disconnected", "starting")
                for f in read_feeds(store.engine, "binance")
            ),
            "the silent stream is told",
            20,
        )
        d.exchange.faults.silence = frozenset()


@chaos
def test_acknowledged_and_then_never_any_data(store: PostgresStore) -> None:
    with desk(store, Faults(mute=True)) as d:
        time.sleep(14)
        d.exchange.faults.mute = False
        d.flowing()


@pytest.mark.parametrize("status", [451, *(pytest.param(s, marks=chaos) for s in (403, 429, 503))])
def test_refused_handshakes_are_told_and_never_a_hot_loop(
    store: PostgresStore, status: int
) -> None:
    with desk(store) as d:
        d.flowing()
        d.exchange.faults.handshake_status = status
        d.exchange.faults.do("close:1001")
        eventually(
            lambda: any(str(status) in f.detail for f in read_feeds(store.engine, "binance")),
            "the reason is told",
        )
        attempts = d.daemon.streams[0].reconnects
        time.sleep(5)
        assert d.daemon.streams[0].reconnects - attempts <= 10
        d.exchange.faults.handshake_status = 0
        d.flowing()


@chaos
def test_a_connection_that_is_cut_every_few_frames(store: PostgresStore) -> None:
    with desk(store, Faults(close_every_frames=400)) as d:
        time.sleep(15)
        assert d.daemon.streams[0].reconnects < 25
        d.exchange.faults.close_every_frames = 0
        d.flowing()


@chaos
def test_the_exchanges_limit_of_attempts_is_never_met(store: PostgresStore) -> None:
    """300 attempts in 5 minutes, scaled to 10 in 10 s, on a connection that is cut at once."""
    limits = Limits(attempts=10, attempts_window_s=10.0)
    with desk(store, Faults(close_every_frames=50), limits=limits) as d:
        time.sleep(15)
        assert not any("429" in f.detail for f in read_feeds(store.engine, "binance"))
        d.exchange.faults.close_every_frames = 0
        d.flowing()


@chaos
def test_an_outage_longer_than_any_wait(store: PostgresStore) -> None:
    """Neither stream nor REST for 45 s: waits grow to 30 s, and no attempt is the last."""
    with desk(store) as d:
        d.flowing()
        d.exchange.faults.handshake_status = 503
        d.exchange.faults.rest_status = 503
        d.exchange.faults.do("abort")
        time.sleep(45)
        d.exchange.faults.handshake_status = d.exchange.faults.rest_status = 0
        eventually(lambda: d.daemon.streams[0].connected_at, "connected", 35)
        d.flowing(1000)


@chaos
def test_a_name_that_does_not_resolve_and_then_does(store: PostgresStore) -> None:
    with desk(store) as d:
        d.flowing()
        right = d.daemon.feed.ws_url
        d.daemon.feed.ws_url = "ws://nowhere.invalid:9443"
        d.exchange.faults.do("close:1001")
        time.sleep(4)
        d.daemon.feed.ws_url = right
        d.flowing()


# -- data


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=0.05, seed=SEED),
        Faults(duplicate=0.3, reorder=0.1, seed=SEED),
        pytest.param(Faults(reorder=0.5, reorder_by=40, seed=SEED), marks=chaos),
        pytest.param(Faults(drop=0.2, duplicate=0.2, reorder=0.2, seed=SEED), marks=chaos),
    ],
    ids=["lost", "doubled and late", "very late", "all of it"],
)
def test_frames_lost_doubled_and_late(store: PostgresStore, faults: Faults) -> None:
    with desk(store, faults) as d:
        d.flowing(800)


def test_the_cursor_does_not_jump_a_hole_under_repair(store: PostgresStore) -> None:
    """Live trades are stored meanwhile; v_feed.last_trade_id stays before the hole."""
    with desk(store) as d:
        d.flowing()
        d.settled()
        d.exchange.faults.rest_status = 500
        d.exchange.faults.do("skip:50@BTCUSDT")
        eventually(lambda: d.count("SELECT count(*) FROM v_gaps WHERE state = 'open'"), "the hole")
        first = d.count("SELECT min(first_id) FROM v_gaps WHERE state = 'open'")
        cursor = "SELECT last_trade_id FROM v_feed WHERE symbol = 'BTCUSDT'"
        newest = "SELECT max(trade_id) FROM v_ticks WHERE symbol = 'BTCUSDT'"
        before = d.count(newest)
        eventually(lambda: d.count(newest) > before + 100, "live trades go on")
        assert d.count(cursor) == first - 1
        d.exchange.faults.rest_status = 0
        eventually(lambda: d.count(cursor) > before, "the cursor moves on")


@pytest.mark.parametrize("ids", [50, pytest.param(2600, marks=chaos)])
def test_a_jump_of_the_ids(store: PostgresStore, ids: int) -> None:
    """The larger one spans several REST pages, with the connection cut meanwhile."""
    with desk(store) as d:
        d.flowing()
        d.settled()
        d.exchange.faults.do(f"skip:{ids}@BTCUSDT")
        if ids > 1000:
            d.exchange.faults.rest_delay_s = 0.3
            time.sleep(ids / 250)
            d.exchange.faults.do("abort")
            d.exchange.faults.rest_delay_s = 0.0
        eventually(
            lambda: d.count(
                "SELECT count(*) FROM v_gaps WHERE symbol = 'BTCUSDT'"
                f" AND last_id - first_id + 1 >= {ids}"
            ),
            "the jump is seen",
        )


def test_rest_that_trails_is_waited_for(store: PostgresStore) -> None:
    with desk(store, Faults(drop=0.02, rest_lag=20, seed=SEED)) as d:
        d.flowing(600)


def test_the_same_id_with_another_price(store: PostgresStore) -> None:
    with desk(store, Faults(conflict=0.02, seed=SEED)) as d:
        d.flowing(500)
        eventually(
            lambda: d.count("SELECT count(*) FROM quarantine WHERE reason LIKE 'conflict%'"),
            "the conflict is recorded",
        )


MANGLED = [
    "truncated",
    "utf8",
    "binary",
    "number",
    "nan",
    "empty",
    "negative",
    "zero",
    "decimals30",
    "unknown",
    "missing_m",
]


@pytest.mark.parametrize(
    "kind",
    [k if k in ("truncated", "utf8", "nan") else pytest.param(k, marks=chaos) for k in MANGLED],
)
def test_damaged_frames(store: PostgresStore, kind: str) -> None:
    """The connection survives, what cannot be read is kept aside, and the hole is repaired."""
    with desk(store, Faults(mangle=0.03, mangle_as=kind, seed=SEED)) as d:
        d.flowing(400)
        if kind not in ("number", "binary", "unknown", "missing_m"):
            eventually(lambda: d.count("SELECT count(*) FROM quarantine"), "kept aside")
        assert d.daemon.streams[0].reconnects == 0


def test_odd_messages(store: PostgresStore) -> None:
    with desk(store) as d:
        d.flowing()
        for kind in (
            "null",
            "list",
            "object",
            "text",
            "truncated",
            "utf8",
            "error",
            "error_wrapped",
            "other_symbol",
            "binary",
            "huge",
        ):
            d.exchange.faults.do(f"inject:{kind}")
        d.flowing(300)
        eventually(lambda: d.count("SELECT count(*) FROM quarantine") >= 6, "kept aside")
        assert d.daemon.streams[0].reconnects == 0


def test_ids_that_never_were_end_as_void(store: PostgresStore) -> None:
    faults = Faults(seed=SEED)
    source = SyntheticSource(default_world().only(list(SYMBOLS)).steady(500), seed=SEED)
    with running(source) as probe:
        latest = _newest(probe, "BTCUSDT")
    faults.void_ids = Ids(f"{latest + 3000}-{latest + 3009}")
    faults.symbols = frozenset({"BTCUSDT"})
    with desk(store, faults, source=SyntheticSource(source.world, seed=SEED)) as d:
        eventually(lambda: d.count("SELECT count(*) FROM v_gaps WHERE state = 'void'"), "void", 60)
        assert rows(store, "SELECT last_id - first_id + 1 FROM v_gaps WHERE state = 'void'") == [
            (10,)
        ]


def _newest(exchange: Running, symbol: str) -> int:
    import json
    import urllib.request

    url = f"{exchange.rest_url}/api/v3/trades?symbol={symbol}&limit=1"
    with urllib.request.urlopen(url) as answer:
        return int(json.load(answer)[0]["id"])


def test_what_the_exchange_no_longer_keeps_ends_as_unrecoverable(store: PostgresStore) -> None:
    with desk(store) as d:
        d.flowing()
        d.settled()
        d.exchange.faults.rest_status = 500  # hold the repair until the floor is above the hole
        d.exchange.faults.do("skip:40@BTCUSDT")
        eventually(lambda: d.count("SELECT count(*) FROM v_gaps WHERE state = 'open'"), "the hole")
        (last,) = rows(store, "SELECT max(last_id) FROM v_gaps WHERE state = 'open'")[0]
        d.exchange.faults.symbols = frozenset({"BTCUSDT"})
        d.exchange.faults.retention_floor = int(last) + 1
        d.exchange.faults.rest_status = 0
        eventually(
            lambda: d.count("SELECT count(*) FROM v_gaps WHERE state = 'unrecoverable'"),
            "unrecoverable",
        )
        d.flowing()


@pytest.mark.parametrize("shift_s", [pytest.param(-10, marks=chaos), 3600])
def test_another_clock_than_the_exchanges(store: PostgresStore, shift_s: int) -> None:
    """Trades reach back to the beginning of the exchange's minute, not of ours."""
    clock = lambda: time.time_ns() // 1000 + shift_s * 1_000_000  # noqa: E731
    source = SyntheticSource(
        default_world().only(list(SYMBOLS)).steady(500), seed=SEED, clock=clock
    )
    with desk(store, source=source) as d:
        d.flowing(300)
    first = rows(store, "SELECT extract(epoch FROM min(ts)) FROM v_ticks")[0][0]
    assert float(first) % 60 < 2


def test_midnight(store: PostgresStore) -> None:
    midnight = 1_790_000_000 // 86_400 * 86_400 * 1_000_000
    began = time.time_ns() // 1000
    clock = lambda: midnight - 4_000_000 + time.time_ns() // 1000 - began  # noqa: E731
    source = SyntheticSource(
        default_world().only(list(SYMBOLS)).steady(500), seed=SEED, clock=clock
    )
    with desk(store, source=source) as d:
        time.sleep(6)
        d.flowing()
    days = rows(store, "SELECT count(DISTINCT ts::date) FROM v_ticks")
    assert days == [(2,)]


@pytest.mark.parametrize("step_s", [-10, pytest.param(10, marks=chaos)])
def test_the_own_clock_is_set_while_running(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    """Nothing shows it: all goes by ids, the exchange's time, and a clock that nobody sets."""
    with desk(store) as d:
        d.flowing()
        # What the minute's beginning brought is older than five seconds by itself.
        newest = d.count("SELECT max(trade_id) FROM v_ticks WHERE symbol = 'BTCUSDT'")
        shim = types.SimpleNamespace(**vars(time))
        shim.time_ns = lambda: time.time_ns() + step_s * 10**9
        shim.time = lambda: time.time() + step_s
        for module in (ingest_websocket, inbox, rest, backfill, liveness, postgres):
            monkeypatch.setattr(module, "time", shim)
        d.exchange.faults.do("abort")
        d.flowing(500)
    stepped = rows(
        store,
        "SELECT count(*) FROM v_ticks WHERE abs(extract(epoch FROM received - ts)) > 5"
        f" AND symbol = 'BTCUSDT' AND trade_id > {newest}",
    )
    assert stepped[0][0] == 0


@chaos
def test_hours_of_silence_are_no_gap(store: PostgresStore) -> None:
    source = SyntheticSource(default_world().only(list(SYMBOLS)).steady(0.02), seed=SEED)
    with desk(store, source=source) as d:
        eventually(
            lambda: {f.state for f in read_feeds(store.engine, "binance")} == {"quiet"}, "quiet"
        )
        d.daemon.streams[0].renew()
        time.sleep(5)
        assert {f.state for f in read_feeds(store.engine, "binance")} == {"quiet"}
        if not all(store.known_ids("binance", symbol) for symbol in SYMBOLS):
            pytest.skip("no trade of a symbol fell into this minute: nothing to compare")


# -- repair


@pytest.mark.parametrize(
    "fault",
    [
        {"rest_status": 429, "rest_retry_after": 2},
        pytest.param({"rest_status": 418, "rest_retry_after": 5}, marks=chaos),
        pytest.param({"rest_status": 500}, marks=chaos),
        pytest.param({"rest_body": "html"}, marks=chaos),
        {"rest_body": "truncated"},
        pytest.param({"rest_delay_s": 12.0}, marks=chaos),
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_rest_that_refuses_or_answers_nonsense(store: PostgresStore, fault: dict[str, Any]) -> None:
    with desk(store, Faults(drop=0.02, seed=SEED)) as d:
        d.flowing()
        d.exchange.faults.rest_times = 4
        for name, value in fault.items():
            setattr(d.exchange.faults, name, value)
        d.flowing(500)  # the stream goes on meanwhile
        eventually(
            lambda: d.exchange.faults.rest_times == 0 or "rest_delay_s" in fault, "all refused", 60
        )
        for name in fault:
            setattr(
                d.exchange.faults,
                name,
                0.0 if name == "rest_delay_s" else "" if name == "rest_body" else 0,
            )


@chaos
def test_five_symbols_at_once_keep_the_weight_budget(store: PostgresStore) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
    source = SyntheticSource(default_world().only(list(symbols)).steady(5000), seed=SEED)
    with desk(store, source=source, symbols=symbols) as d:
        d.flowing()
        d.settled()
        d.exchange.faults.handshake_status = 503
        d.exchange.faults.do("close:1001")
        time.sleep(30)
        d.exchange.faults.handshake_status = 0
        d.flowing()
        d.settled()
        assert not any("429" in name or "418" in name for name in d.exchange.stats)


# -- database


class Moody(PostgresStore):
    """A store whose next writes fail in a chosen way, before or after they are committed."""

    fail: list[tuple[str, psycopg2.Error]]

    def write(self, venue: Any, trades: Any, *clock: Any, **named: Any) -> Any:
        when, error = self.fail.pop() if self.fail else ("", None)
        if error is not None and when == "before":
            raise error
        written = super().write(venue, trades, *clock, **named)
        if error is not None:
            raise error
        return written


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("after", psycopg2.OperationalError("server closed the connection unexpectedly")),
        ("before", psycopg2.errors.DeadlockDetected("deadlock detected")),
        pytest.param(
            "before", psycopg2.errors.SerializationFailure("could not serialize"), marks=chaos
        ),
        ("before", psycopg2.errors.DiskFull("No space left on device")),
        pytest.param(
            "before", psycopg2.errors.InsufficientPrivilege("permission denied"), marks=chaos
        ),
        pytest.param("after", psycopg2.errors.AdminShutdown("terminating connection"), marks=chaos),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_writes_that_fail(store: PostgresStore, when: str, error: psycopg2.Error) -> None:
    """With `after`, the answer to a COMMIT is lost: the retry must change nothing."""
    moody = Moody(store.connect)
    moody.fail = []
    with desk(moody) as d:
        d.flowing()
        moody.fail = [(when, error)] * 3
        eventually(lambda: not moody.fail, "three failures")
        d.flowing()
    moody.close()


def test_every_backend_is_terminated_again_and_again(store: PostgresStore) -> None:
    with desk(store) as d:
        for _ in range(4):
            d.flowing(100)
            with contextlib.suppress(psycopg2.Error), store.transaction() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        d.flowing(100)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=chaos)])
def test_a_stalled_database(store: PostgresStore, seconds: int) -> None:
    """All writes wait for a lock, at 1,650 trades/s; the exchange's pings are answered."""
    source = SyntheticSource(default_world().only(list(SYMBOLS)).steady(1650), seed=SEED)
    limits = Limits(ping_interval_s=1.0, pong_timeout_s=3.0)
    with desk(store, source=source, limits=limits) as d:
        d.flowing()
        with store.transaction() as cursor:
            cursor.execute("SELECT FROM feed ORDER BY instrument_id FOR UPDATE")
            time.sleep(seconds)
            assert len(d.daemon.inbox) < inbox.QUEUE_FRAMES
        assert d.daemon.streams[0].reconnects == 0
        d.flowing(1000)


def test_a_full_queue_closes_the_socket_and_loses_nothing(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "QUEUE_FRAMES", 1000)
    with desk(store) as d:
        d.flowing()
        with store.transaction() as cursor:
            cursor.execute("SELECT FROM feed ORDER BY instrument_id FOR UPDATE")
            eventually(lambda: d.daemon.streams[0].reconnects, "the socket is closed")
            assert len(d.daemon.inbox) <= 1000
        d.flowing()


# -- markets and load


def test_usdm_beside_spot(store: PostgresStore) -> None:
    own = PostgresStore(store.connect)  # a daemon's store has its daemon's name
    with contextlib.closing(own), desk(store, Faults(drop=0.02, seed=SEED)) as spot:
        futures = Desk(own, spot.exchange, market="usdm")
        try:
            spot.exchange.usdm_faults.drop = 0.02
            eventually(
                lambda: (
                    spot.count("SELECT count(*) FROM v_ticks WHERE venue = 'binance-usdm'") > 150
                ),
                "aggregates",
            )
            spot.exchange.usdm_faults.do("abort")
            spot.exchange.usdm_faults.drop = 0.0
            spot.flowing(300)
            futures.settled()
        finally:
            futures.stop()
        futures.assert_complete()


@chaos
def test_fifty_symbols(store: PostgresStore) -> None:
    from exchange.world import load_world

    symbols = tuple(f"L{i:03d}USDT" for i in range(50))
    source = SyntheticSource(load_world(50, 30.0), seed=SEED)
    with desk(store, Faults(drop=0.01, seed=SEED), source=source, symbols=symbols) as d:
        d.flowing(10_000)
        d.exchange.faults.do("abort")
        d.flowing(10_000)
