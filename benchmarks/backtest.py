"""`run` and a grid of parameters against vectorbt, backtesting.py and an itertuples loop.

python -m benchmarks.backtest [--runs 5] [--rows 1000000]

The first two run in an environment of their own (benchmarks/requirements-backtest.txt), in turn
with ours and within the same minutes; it is made at the first run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest import Costs, Rules, run
from benchmarks.compare import ONE_THREAD, in_turn_repeated
from benchmarks.harness import (
    Cell,
    in_turn,
    machine,
    milliseconds,
    options,
    parser,
    ratio,
    table,
    verdict,
)
from pairs.backtest.grid import combinations, grid
from pairs.backtest.simulation import align_and_check, simulate_scored
from pairs.jit import warm_up

HERE = Path(__file__).parent
PEER = HERE / ".backtest"
REQUIREMENTS = HERE / "requirements-backtest.txt"
# A capital that never runs out: vectorbt refuses orders without cash.
RULES = Rules(hedge="fixed", beta=0.7, window=120, entry_z=2.0, exit_z=0.0, capital=1_000_000)
COSTS = Costs(fee_bps=1, slippage_bps=1)
HEAD = ["work", "peer", "peer ms", "ours ms", "ratio", "wanted", "largest difference"]
Bars = tuple[pd.DataFrame, pd.DataFrame]


def market(rows: int) -> Bars:
    """Minutes of two legs whose spread returns with a half-life of 35."""
    rng = np.random.default_rng(rows)
    x = 100 * np.exp(rng.normal(0, 2e-4, rows).cumsum() / 3)
    error = rng.normal(0, 0.02, rows)
    for t in range(1, rows):
        error[t] += 0.98 * error[t - 1]
    y = 0.7 * x + 30 + error
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")

    def bars(close: Any) -> pd.DataFrame:
        opens = np.concatenate(([close[0]], close[:-1])) * np.exp(rng.normal(0, 1e-5, rows))
        return pd.DataFrame({"open": opens, "close": close}, index=index)

    return bars(y), bars(x)


def itertuples(y: pd.DataFrame, x: pd.DataFrame, rules: Rules, costs: Costs) -> list[float]:
    """The same backtest as most would write it: pandas for z, a loop over the rows for the rest."""
    beta = float(rules.beta or 0.0)
    spread = y["close"] - beta * x["close"]
    rolling = spread.rolling(rules.window)
    frame = pd.DataFrame(
        {
            "open_y": y["open"],
            "open_x": x["open"],
            "close_y": y["close"],
            "close_x": x["close"],
            "z": (spread - rolling.mean()) / rolling.std(),
        }
    )
    slip, fee = costs.slippage_bps / 1e4, costs.fee_bps / 1e4
    cash, side, pending, trades, equity = rules.capital, 0, 0, [], []
    units = qty_y = qty_x = entry_y = entry_x = fees = 0.0
    for row in frame.itertuples():
        if pending and side == 0:
            side, qty_y = pending, pending * units
            qty_x = -beta * qty_y
            entry_y = row.open_y * (1 + slip if qty_y > 0 else 1 - slip)
            entry_x = row.open_x * (1 + slip if qty_x > 0 else 1 - slip)
            fees = fee * (abs(qty_y) * entry_y + abs(qty_x) * entry_x)
            entered = row.Index
        elif pending:
            exit_y = row.open_y * (1 - slip if qty_y > 0 else 1 + slip)
            exit_x = row.open_x * (1 - slip if qty_x > 0 else 1 + slip)
            fees += fee * (abs(qty_y) * exit_y + abs(qty_x) * exit_x)
            pnl = qty_y * (exit_y - entry_y) + qty_x * (exit_x - entry_x) - fees
            trades.append(
                (
                    side,
                    entered,
                    row.Index,
                    qty_y,
                    qty_x,
                    entry_y,
                    entry_x,
                    exit_y,
                    exit_x,
                    fees,
                    pnl,
                )
            )
            cash += pnl
            side = 0
        pending = 0
        if side == 0:
            equity.append(cash)
            if row.z < -rules.entry_z:
                pending = 1
            elif row.z > rules.entry_z:
                pending = -1
            if pending:
                units = rules.notional / (row.close_y + abs(beta) * row.close_x)
        else:
            equity.append(
                cash + qty_y * (row.close_y - entry_y) + qty_x * (row.close_x - entry_x) - fees
            )
            if side * row.z >= -rules.exit_z:
                pending = 2
    curve = pd.Series(equity, index=frame.index)
    returns = curve.pct_change()
    sharpe = float(returns.mean() / returns.std() * math.sqrt(525_600))
    ledger = pd.DataFrame(trades)
    return [
        float(curve.iloc[-1]),
        len(ledger),
        sharpe,
        float((1 - curve / curve.cummax()).max()),
        float(curve.iloc[-1] / rules.capital - 1),
    ]


def ours(y: pd.DataFrame, x: pd.DataFrame) -> list[float]:
    found = run(y, x, RULES, COSTS)
    m = found.metrics
    return [
        float(found.equity.iloc[-1]),
        len(found.trades),
        m["sharpe"],
        m["max_drawdown"],
        m["total_return"],
    ]


class Peers:
    """The peers' process: one question, one answer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.vectorbt, self.backtesting = self._answer()

    def ask(self, work: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([work, arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peers' process has ended: see its message above")
        return json.loads(line)


def install() -> str | None:
    """Make the peers' environment where it is missing; why it cannot be, if it cannot."""
    python = PEER / "bin" / "python"
    ready = PEER / ".installed"
    if ready.exists() and ready.read_text() == REQUIREMENTS.read_text():
        return None
    print("installing peers into benchmarks/.backtest (once, a minute or two) …", file=sys.stderr)
    shutil.rmtree(PEER, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(PEER)],
        [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr or done.stdout).strip().splitlines()[-1]
    ready.write_text(REQUIREMENTS.read_text())
    return None


@contextlib.contextmanager
def peers(y: pd.DataFrame, x: pd.DataFrame) -> Iterator[Peers]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.npz"
        times = pd.DatetimeIndex(y.index).tz_localize(None).to_numpy()
        np.savez(
            path,
            times=times,
            open_y=y["open"],
            open_x=x["open"],
            close_y=y["close"],
            close_x=x["close"],
        )
        process = subprocess.Popen(
            [PEER / "bin" / "python", HERE / "backtest_peer.py", path],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD, "TQDM_DISABLE": "1"},
        )
        try:
            yield Peers(process)
        finally:
            process.terminate()
            process.wait()


def difference(a: Sequence[float], b: Sequence[float], what: str, tolerance: float = 1e-6) -> float:
    """The largest relative difference of figures; ends the benchmark above `tolerance`."""
    left, right = np.array(a, dtype=float), np.array(b, dtype=float)
    found = float(np.nanmax(np.abs(left - right) / np.maximum(np.abs(right), 1e-9)))
    if not found <= tolerance or not np.array_equal(np.isnan(left), np.isnan(right)):
        raise SystemExit(f"{what}: figures differ by {found:.1e}: {left[:5]} and {right[:5]}")
    return found


def row(work: str, peer: str, times: Sequence[float], wanted: float, off: float) -> list[str]:
    fast, slow = times
    return [
        work,
        peer,
        milliseconds(slow),
        milliseconds(fast),
        ratio(slow / fast),
        verdict(slow / fast, wanted, f"{wanted:g}×"),
        Cell(f"{off:.0e}", off),
    ]


def single(bars: Bars, peer: Peers | None, runs: int) -> list[list[str]]:
    """One run with its trades, equity and metrics."""
    rows, mine = len(bars[0]), ours(*bars)
    work = f"run, {rows:,} bars, {mine[1]:,} trades"
    asked = (
        rows,
        RULES.window,
        RULES.entry_z,
        RULES.exit_z,
        COSTS.fee_bps / 1e4,
        COSTS.slippage_bps / 1e4,
    )
    found = []
    if peer is not None:
        off = difference(mine, peer.ask("run", *asked), "vectorbt")
        name = f"vectorbt {peer.vectorbt}, value, trades, metrics"
        times = in_turn_repeated(lambda: ours(*bars), lambda: peer.ask("run", *asked), runs=runs)
        found.append(row(f"{work}, z included", name, times, 50, off))
        pair = align_and_check(*bars, 1)
        prices = pair.scored(RULES, COSTS)
        peer.ask("decide", *asked[:4])
        times = in_turn_repeated(
            lambda: simulate_scored(pair, prices, RULES, COSTS),
            lambda: peer.ask("trade", *asked[4:]),
            runs=runs,
        )
        found.append(row(f"{work}, z given (to vectorbt: the orders)", name, times, 50, off))
    off = difference(mine, itertuples(*bars, RULES, COSTS), "itertuples")
    times = in_turn_repeated(
        lambda: ours(*bars), lambda: itertuples(*bars, RULES, COSTS), runs=runs
    )
    found.append(row(f"{work}, z included", "itertuples loop", times, 150, off))
    return found


def one_leg(bars: Bars, peer: Peers, runs: int) -> list[list[str]]:
    """backtesting.py knows no second leg and no costs of one: it trades the spread as it is."""
    rows = 100_000
    y, x = (frame.iloc[:rows] for frame in bars)
    asked = (rows, RULES.window, RULES.entry_z, RULES.exit_z)
    trades = run(y, x, RULES, Costs()).trades
    spread = {
        when: trades[f"{when}_y"] - trades["beta"] * trades[f"{when}_x"]
        for when in ("entry", "exit")
    }
    gained = (spread["exit"] - spread["entry"]) * trades["side"].map({"long": 1.0, "short": -1.0})
    rows_of = (y.index.get_indexer(trades[name]) for name in ("entry_time", "exit_time"))
    mine = [len(trades), *(int(at.sum()) for at in rows_of), float(gained.sum())]
    off = difference(mine, peer.ask("one_leg", *asked), "backtesting.py")
    times = in_turn_repeated(
        lambda: run(y, x, RULES, Costs()), lambda: peer.ask("one_leg", *asked), runs=runs
    )
    name = f"backtesting.py {peer.backtesting}, the spread as one leg"
    return [row(f"run, {rows:,} bars, {len(trades):,} trades, z included", name, times, 100, off)]


def many(bars: Bars, peer: Peers | None, runs: int) -> list[list[str]]:
    """1,000 sets of parameters on 100,000 bars; vectorbt gets 20 of them, for its memory's sake."""
    # Not one of these sets enters at this very last bar, which vectorbt cannot also leave at.
    rows = min(100_010, len(bars[0]))
    y, x = (leg.iloc[:rows] for leg in bars)
    sets = combinations(
        RULES,
        window=list(range(30, 230, 10)),
        entry_z=np.linspace(1, 3.25, 10).tolist(),
        exit_z=[-0.5, -0.25, 0.0, 0.25, 0.5],
    )
    part = sets[:: len(sets) // 20]
    asked = [(r.window, r.entry_z, r.exit_z) for r in part]
    fees = (COSTS.fee_bps / 1e4, COSTS.slippage_bps / 1e4)
    found, work = [], f"grid, {len(sets):,} sets × {rows:,} bars"
    if peer is not None:
        mine = grid(y, x, part, COSTS)
        returned, sharpe = peer.ask("grid", rows, asked, *fees)
        off = difference(mine["total_return"], returned, "vectorbt's grid")
        # vectorbt counts the first bar as a return of 0.
        off = max(off, difference(mine["sharpe"], sharpe, "vectorbt's grid", 1e-5))
        fast, slow = in_turn(
            lambda: grid(y, x, sets, COSTS),
            lambda: peer.ask("grid", rows, asked, *fees),
            runs=runs,
        )
        scaled = slow * len(sets) / len(part)
        name = f"vectorbt {peer.vectorbt}, {len(part)} sets, scaled"
        found.append(row(work, name, (fast, scaled), 25, off))
    else:
        fast, _ = in_turn(lambda: grid(y, x, sets, COSTS), lambda: None, runs=runs)
    word = "met" if fast < 1 else "MISSED"
    found.append(
        [work, "one second", "1,000", f"{1e3 * fast:,.0f}", f"{1 / fast:,.1f}×", f"1× {word}", ""]
    )
    return found


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="bars (default 1,000,000)")
    given = options(made)
    warm_up()
    machine("numpy", "pandas", "numba")
    bars = market(given.rows)
    reason = install()
    rows: list[list[str]] = []
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(peers(*bars)) if reason is None else None
        rows += single(bars, peer, given.runs)
        rows += one_leg(bars, peer, given.runs) if peer is not None else []
        rows += many(bars, peer, given.runs)
    table("Backtest of a pair", HEAD, rows)
    if reason is not None:
        sys.exit(f"vectorbt and backtesting.py are MISSING, they could not be installed: {reason}")


if __name__ == "__main__":
    main()
