"""The peers' side of benchmarks.backtest. Runs in its own environment and imports nothing of ours.

python backtest_peer.py DATA.npz: answers each line on stdin (`run`, `grid`, …) with a line of JSON.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import vectorbt as vbt
from backtesting import Backtest, Strategy
from numba import njit

DATA = np.load(sys.argv[1])
# Without a zone: vectorbt converts the index of every result, and a zoned one takes it seconds.
INDEX = pd.DatetimeIndex(DATA["times"])
OPEN, CLOSE = (
    pd.DataFrame({"y": DATA[f"{name}_y"], "x": DATA[f"{name}_x"]}, index=INDEX)
    for name in ("open", "close")
)
BETA, NOTIONAL, CAPITAL = 0.7, 10_000.0, 1_000_000.0


@njit(nogil=True)
def sides(z, entry, leave):
    """The side wanted from each close on."""
    out, side = np.zeros(len(z)), 0.0
    for t in range(len(z)):
        if side == 0.0:
            side = 1.0 if z[t] < -entry else -1.0 if z[t] > entry else 0.0
        elif side * z[t] >= -leave:
            side = 0.0
        out[t] = side
    return out


def zscore(close, window):
    spread = close["y"] - BETA * close["x"]
    rolling = spread.rolling(window)
    return ((spread - rolling.mean()) / rolling.std()).to_numpy()


def orders(close, price, z, entry, leave):
    """Signed sizes of both legs, NaN where nothing is traded, filled one bar after the signal at
    these prices; what is open at the end is closed at the last close."""
    wanted = sides(z, entry, leave)
    before = np.concatenate(([0.0], wanted[:-1]))
    changed = wanted != before
    units = NOTIONAL / (close["y"].to_numpy() + abs(BETA) * close["x"].to_numpy())
    entered = pd.Series(np.where(changed & (wanted != 0.0), units, np.nan)).ffill().to_numpy()
    y = np.where(changed, np.where(wanted != 0.0, wanted, -before) * entered, np.nan)
    y = np.concatenate(([np.nan], y[:-1]))
    price = price.to_numpy().copy()
    if wanted[-2] != 0.0:
        y[-1], price[-1] = -wanted[-2] * entered[-2], close.to_numpy()[-1]
    return np.column_stack([y, -BETA * y]), price


def portfolio(close, price, size, fee, slippage, groups):
    return vbt.Portfolio.from_orders(
        close,
        size=size,
        price=price,
        fees=fee,
        slippage=slippage,
        init_cash=CAPITAL,
        group_by=groups,
        cash_sharing=True,
        freq=INDEX[1] - INDEX[0],
    )


KEPT = {}


def decide(rows, window, entry, leave):
    """z-score and decisions, kept for `trade`."""
    close, price = CLOSE.iloc[:rows], OPEN.iloc[:rows]
    KEPT["orders"] = (close, *orders(close, price, zscore(close, window), entry, leave))


def run(rows, window, entry, leave, fee, slippage):
    """z-score, decisions, fills of both legs, value, trades and metrics."""
    decide(rows, window, entry, leave)
    return trade(fee, slippage)


def trade(fee, slippage):
    """Fills of both legs, value, trades and metrics of decisions made before."""
    close, size, paid = KEPT["orders"]
    made = portfolio(close, paid, size, fee, slippage, True)
    value = made.value()
    return [
        float(value.iloc[-1]),
        len(made.trades.records) / 2,
        float(made.sharpe_ratio()),
        -float(made.max_drawdown()),
        float(made.total_return()),
    ]


def grid(rows, sets, fee, slippage):
    """Total return and Sharpe ratio of every (window, entry, exit), all in one portfolio."""
    close, price = CLOSE.iloc[:rows], OPEN.iloc[:rows]
    scores = {window: zscore(close, window) for window, _, _ in sets}
    made = [orders(close, price, scores[w], entry, leave) for w, entry, leave in sets]
    sizes, prices = (np.hstack(parts) for parts in zip(*made, strict=True))
    columns = pd.MultiIndex.from_product([range(len(sets)), ["y", "x"]], names=["set", "leg"])
    wide = pd.DataFrame(np.tile(close.to_numpy(), len(sets)), index=close.index, columns=columns)
    made = portfolio(wide, prices, sizes, fee, slippage, "set")
    return [made.total_return().tolist(), made.sharpe_ratio().tolist()]


def one_leg(rows, window, entry, leave):
    """By backtesting.py, which trades one instrument: the spread itself, raised above 0, one unit
    of it, free of costs. Trades, sums of their entry and exit rows, and their profit."""
    part = slice(0, rows)
    opened, closed = ((frame["y"] - BETA * frame["x"]).iloc[part] + 1e6 for frame in (OPEN, CLOSE))
    bars = pd.DataFrame(
        {
            "Open": opened,
            "High": np.maximum(opened, closed),
            "Low": np.minimum(opened, closed),
            "Close": closed,
        }
    )
    score = zscore(CLOSE.iloc[part], window)

    class Reversion(Strategy):
        def init(self):
            self.z = self.I(lambda: score)

        def next(self):
            z = self.z[-1]
            if not self.position:
                if z < -entry:
                    self.buy(size=1)
                elif z > entry:
                    self.sell(size=1)
            elif (z if self.position.is_long else -z) >= -leave:
                self.position.close()

    made = Backtest(bars, Reversion, cash=1e9, finalize_trades=True).run()["_trades"]
    return [
        len(made),
        int(made["EntryBar"].sum()),
        int(made["ExitBar"].sum()),
        float(made["PnL"].sum()),
    ]


def main() -> None:
    vbt.settings.array_wrapper["freq"] = None
    print(json.dumps([vbt.__version__, version("backtesting")]), flush=True)
    works = {"decide": decide, "run": run, "trade": trade, "grid": grid, "one_leg": one_leg}
    for line in sys.stdin:
        work, arguments = json.loads(line)
        print(json.dumps(works[work](*arguments)), flush=True)


if __name__ == "__main__":
    main()
