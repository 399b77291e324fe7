"""The daemon against the local exchange and a real PostgreSQL, as processes of their own."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pairs.feeds.binance.protocol import parse_klines
from pairs.messages import CANNOT, NOT_NOW
from pairs.storage.audit import audit
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_feeds
from pairs.storage.reader import BAR_COLUMNS
from resampling import resample_bars, ticks_to_bars
from tests.support.chaos import TALLY
from tests.support.daemon import PAIR, ROOT, count, daemon, eventually, exchange
from tests.support.reference import data_file


def exchange_bars(rest_url: str, symbol: str, bar_s: int, start: int) -> pd.DataFrame:
    """Every bar with a trade, as the exchange itself states it."""
    interval = {1: "1s", 60: "1m"}[bar_s]
    rows: list[list[Any]] = []
    while True:
        query = f"symbol={symbol}&interval={interval}&limit=1000&startTime={start}"
        with urllib.request.urlopen(f"{rest_url}/api/v3/klines?{query}") as answer:
            page = json.load(answer)
        rows += page
        if len(page) < 1000:
            break
        start = page[-1][0] + 1
    klines = parse_klines(symbol, bar_s, rows)
    traded = [k for k in klines if k.trades]
    index = pd.DatetimeIndex(pd.to_datetime([k.ts_us for k in traded], unit="us", utc=True))
    table = {name: [float(getattr(k, name)) for k in traded] for name in BAR_COLUMNS}
    return pd.DataFrame(table, index=index.as_unit("us").rename("ts"))


def captures() -> list[str]:
    return [str(data_file("market", f"spot_{s}_trade.jsonl.gz")) for s in ("btcusdt", "ethusdt")]


def captured(symbol: str) -> list[tuple[int, float, float, int, bool]]:
    """The capture's trades as the exchange's own file of the day tells them."""
    path = data_file("market", f"spot_{symbol.lower()}_trades.csv.gz")
    with gzip.open(path, "rt", newline="") as lines:
        return [
            (
                int(row["id"]),
                float(row["price"]),
                float(row["qty"]),
                int(row["time"]),
                row["is_buyer_maker"] == "True",
            )
            for row in csv.DictReader(lines)
        ]


def assert_ground_truth(store: PostgresStore) -> None:
    """Rows, ids, sums and hash of both captures, from the database alone."""
    truth = json.loads(data_file("market", "ground_truth.json").read_text())
    with store.transaction() as cursor:
        for symbol in PAIR.split(","):
            expected = truth[f"spot_{symbol.lower()}"]
            cursor.execute(
                "SELECT trade_id, price, size, (extract(epoch FROM ts) * 1000)::bigint,"
                " buyer_is_maker FROM v_ticks WHERE symbol = %s ORDER BY trade_id",
                (symbol,),
            )
            rows = cursor.fetchall()
            TALLY.compare(captured(symbol), rows)
            assert len(rows) == expected["rows"]
            assert (rows[0][0], rows[-1][0]) == (expected["first_id"], expected["last_id"])
            assert (rows[0][3], rows[-1][3]) == (expected["first_T"], expected["last_T"])
            assert f"{sum(round(r[2] * 1e8) for r in rows) / 1e8:.8f}" == expected["sum_qty"]
            text = "".join(f"{i}|{p:.8f}|{q:.8f}|{t}|{int(m)}\n" for i, p, q, t, m in rows)
            digest = hashlib.sha256(text.encode()).hexdigest()
            assert digest == expected["sha256_of_id_p_q_T_m_lines"]


def test_the_real_capture_arrives_whole_and_its_bars_agree(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Replayed at full speed, with frames lost on the way."""
    options = (
        "--replay",
        *captures(),
        "--speed",
        "max",
        "--start-on-subscribe",
        "--fault",
        "drop=0.002",
    )
    truth = json.loads(data_file("market", "ground_truth.json").read_text())
    first_minute = truth["spot_ethusdt"]["first_T"] // 60_000 * 60_000
    total = sum(truth[f"spot_{s.lower()}"]["rows"] for s in PAIR.split(","))
    with exchange(*options) as addresses, daemon(database_url, addresses, tmp_path / "log"):
        eventually(lambda: count(store) >= total, f"{total} trades")
        eventually(
            lambda: count(store, "SELECT count(*) FROM v_gaps WHERE state = 'open'") == 0,
            "no open gap",
        )
        klines = {
            bar_s: exchange_bars(addresses[1], "ETHUSDT", bar_s, first_minute) for bar_s in (1, 60)
        }
    assert_ground_truth(store)
    report = audit(store)
    assert report["ok"], report
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT (extract(epoch FROM ts) * 1000000)::bigint, price, size, buyer_is_maker"
            " FROM v_ticks WHERE symbol = 'ETHUSDT' ORDER BY trade_id"
        )
        rows = cursor.fetchall()
    ticks = pd.DataFrame(rows, columns=["ts", "price", "size", "buyer_is_maker"])
    ticks.index = pd.DatetimeIndex(ticks.pop("ts").astype("datetime64[us]"), tz="UTC", name="ts")
    stored = {s: read_bars(store.engine, "local", "ETHUSDT", s) for s in (1, 60)}
    for bar_s, bar in ((1, "1s"), (60, "1min")):
        built = ticks_to_bars(ticks, bar)[list(stored[bar_s].columns)]
        pd.testing.assert_frame_equal(
            built, stored[bar_s], rtol=1e-12, check_dtype=False, check_index_type=False
        )
        pd.testing.assert_frame_equal(
            klines[bar_s], stored[bar_s], rtol=1e-12, check_dtype=False, check_index_type=False
        )
    larger = resample_bars(stored[1], "5min")[list(stored[1].columns)]
    pd.testing.assert_frame_equal(
        larger,
        ticks_to_bars(ticks, "5min")[list(stored[1].columns)],
        rtol=1e-12,
        check_dtype=False,
        check_index_type=False,
    )


def test_killed_at_random_and_restarted_it_misses_nothing(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    with exchange("--replay", *captures(), "--speed", "60", "--start-on-subscribe") as addresses:
        for pause in (1.5, 2.2, 1.1):
            with daemon(database_url, addresses, tmp_path / "log") as process:
                # A record begins with its first trade: what came before is nobody's hole.
                eventually(lambda: count(store) > 0, "the first trades", every=0.02)
                time.sleep(pause)
                process.kill()
                process.wait()
        with daemon(database_url, addresses, tmp_path / "log"):
            eventually(lambda: count(store) >= 34_419, "all trades")
            eventually(
                lambda: count(store, "SELECT count(*) FROM v_gaps WHERE state = 'open'") == 0,
                "no open gap",
            )
    assert_ground_truth(store)
    assert audit(store)["ok"]


@pytest.mark.chaos
def test_the_real_capture_through_a_line_that_keeps_breaking(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Cut every 700 frames, within the 735 trades of one millisecond too; pages of REST end there
    as well. By id, nothing of it matters."""
    options = (
        "--replay",
        *captures(),
        "--speed",
        "100",
        "--start-on-subscribe",
        "--fault",
        "close_every_frames=700",
    )
    with exchange(*options) as addresses, daemon(database_url, addresses, tmp_path / "log"):
        eventually(lambda: count(store) >= 34_419, "all trades", 180)
        eventually(
            lambda: count(store, "SELECT count(*) FROM v_gaps WHERE state = 'open'") == 0,
            "no open gap",
        )
    assert_ground_truth(store)
    assert audit(store)["ok"]


def test_first_start_gives_history_and_whole_bars(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Klines up to the running minute, trades from its beginning on; bars equal klines."""
    with (
        exchange("--symbols", PAIR) as addresses,
        daemon(database_url, addresses, tmp_path / "log", HISTORY_HOURS="2"),
    ):
        eventually(lambda: len(read_bars(store.engine, "local", "ETHUSDT", 60)) >= 118, "history")
        eventually(lambda: health(store)["healthy"], "health")
        eventually(lambda: count(store) > 200, "trades")
        # A record that began with the next minute is preceded by bars that have to end first.
        before = (
            "SELECT count(*) FROM kline_wanted WHERE first_ts <"
            " (SELECT date_trunc('minute', max(first)) FROM (SELECT min(ts) AS first FROM trade"
            " GROUP BY instrument_id) AS records)"
        )
        eventually(lambda: count(store, before) == 0, "the bars before the record")
    minutes = read_bars(store.engine, "local", "BTCUSDT", 60)
    steps = minutes.index.to_series().diff().dropna().unique()
    assert list(steps) == [pd.Timedelta(minutes=1)]
    sources = count(store, "SELECT count(DISTINCT source) FROM v_bars WHERE bar_s = 60")
    assert sources == 2
    seconds = read_bars(store.engine, "local", "BTCUSDT", 1)
    whole = resample_bars(seconds, "1min")[list(minutes.columns)].iloc[5:-1]
    pd.testing.assert_frame_equal(
        whole,
        minutes.loc[whole.index],
        rtol=1e-9,
        check_dtype=False,
        check_index_type=False,
        check_freq=False,
    )
    assert audit(store)["ok"]
    assert {feed.state for feed in read_feeds(store.engine, "local")} == {"stopped"}


def test_without_binance_auto_falls_back_to_simulated_data_and_says_so(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    nowhere = ("ws://127.0.0.1:9", "http://127.0.0.1:9")
    log = tmp_path / "log"
    with daemon(database_url, nowhere, log, FEED="auto"):
        eventually(lambda: count(store) > 20, "trades")
    assert count(store, "SELECT string_agg(DISTINCT venue, ',') FROM v_ticks") == "local"
    text = log.read_text()
    assert "Binance cannot be reached" in text
    assert "SIMULATED" in text


def test_a_second_daemon_waits_for_the_first(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with exchange("--symbols", PAIR) as addresses, contextlib.ExitStack() as stack:
        owner = stack.enter_context(daemon(database_url, addresses, first))
        eventually(lambda: count(store) > 0, "the first daemon's trades")
        stack.enter_context(daemon(database_url, addresses, second))
        eventually(lambda: "another daemon ingests" in second.read_text(), "the second waits")
        owner.kill()
        owner.wait()
        eventually(lambda: "connected url" in second.read_text(), "the second takes over")
        before = count(store)
        eventually(lambda: count(store) > before, "trades again")
    assert audit(store)["ok"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"FLUSH_MS": "soon"}, "FLUSH_MS='soon' is not usable"),
        ({"SYMBOLS": "NOSUCHCOIN"}, "the exchange knows none of NOSUCHCOIN"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:9/none"}, "cannot use the database"),
    ],
    ids=["malformed", "unknown symbol", "database"],
)
def test_a_failure_at_start_is_one_line_that_says_what_to_do(
    database_url: str, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with exchange("--symbols", PAIR) as (ws_url, rest_url):
        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "FEED": "binance",
            "BINANCE_WS_URL": ws_url,
            "BINANCE_REST_URL": rest_url,
            "LOG_LEVEL": "error",
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "ingest_websocket.py"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == (NOT_NOW if message == "cannot use the database" else CANNOT)
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
