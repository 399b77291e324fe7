"""The backtest rules once more, slowly: plain Python written from the contract, one bar at a time.

It shares nothing with the application: no kernels, no windows, no resampling. Numbers are those
of the definitions: sums over each window by math.fsum, the textbook's Kalman filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

NAN = math.nan


@dataclass
class Slow:
    """What came of it; `margin`: how close any comparison was to going the other way."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    times: list[pd.Timestamp] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    zscores: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    margin: float = math.inf

    def above(self, value: float, limit: float) -> bool:
        """value >= limit, noting how clearly."""
        if math.isnan(value):
            return False
        self.margin = min(self.margin, abs(value - limit))
        return value >= limit


def fit(ys: list[float], xs: list[float]) -> tuple[float, float]:
    n = len(ys)
    mean_y, mean_x = math.fsum(ys) / n, math.fsum(xs) / n
    squares = math.fsum((x - mean_x) ** 2 for x in xs)
    if min(xs) == max(xs):
        return NAN, NAN
    cross = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    beta = cross / squares
    return beta, mean_y - beta * mean_x


def hedges(y: list[float], x: list[float], rules: Any) -> list[tuple[float, float]]:
    """Per row: the hedge ratio a signal would trade, and the spread."""
    if rules.hedge == "fixed":
        return [(rules.beta, a - rules.beta * b) for a, b in zip(y, x, strict=True)]
    if rules.hedge == "rolling":
        window = rules.hedge_window or rules.window
        out = []
        for t in range(len(y)):
            if t + 1 < window:
                out.append((NAN, NAN))
                continue
            beta, alpha = fit(y[t + 1 - window : t + 1], x[t + 1 - window : t + 1])
            out.append((beta, y[t] - alpha - beta * x[t]))
        return out
    if rules.delta is None:
        return discounted(y, x, rules.hedge_window or rules.window)
    return kalman(y, x, rules.delta, rules.observation_variance)


def discounted(y: list[float], x: list[float], memory: int) -> list[tuple[float, float]]:
    """Regressions of all rows before, each weighted by its age; the error of the row itself."""
    keep = (memory - 1) / (memory + 1)
    out = [(NAN, NAN)] * min(memory, len(y))
    for t in range(memory, len(y)):
        first = max(0, t - int(80 / -math.log(keep)))  # a weight of e^-80 is none
        ages = [keep ** (t - i) for i in range(first, t)]
        ys, xs, whole = y[first:t], x[first:t], math.fsum(ages)
        mean_y = math.fsum(w * v for w, v in zip(ages, ys, strict=True)) / whole
        mean_x = math.fsum(w * v for w, v in zip(ages, xs, strict=True)) / whole
        squares = math.fsum(w * (v - mean_x) ** 2 for w, v in zip(ages, xs, strict=True))
        if squares <= (1e-14 * x[t - 1]) ** 2 * whole:
            out.append((NAN, NAN))
            continue
        beta = (
            math.fsum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(ages, xs, ys, strict=True))
            / squares
        )
        out.append((beta, y[t] - mean_y - beta * (x[t] - mean_x)))
    return out


def kalman(y: list[float], x: list[float], delta: float, noise: float) -> list[tuple[float, float]]:
    drift = delta / (1 - delta)
    b = a = 0.0
    p = [[0.0, 0.0], [0.0, 0.0]]
    out = []
    for t in range(len(y)):
        if t > 0:
            p[0][0] += drift
            p[1][1] += drift
        h = (x[t], 1.0)
        error = y[t] - (b * h[0] + a * h[1])
        out.append((b, error))
        ph = [p[0][0] * h[0] + p[0][1] * h[1], p[1][0] * h[0] + p[1][1] * h[1]]
        q = h[0] * ph[0] + h[1] * ph[1] + noise
        gain = [ph[0] / q, ph[1] / q]
        b, a = b + gain[0] * error, a + gain[1] * error
        p = [[p[i][j] - gain[i] * ph[j] for j in (0, 1)] for i in (0, 1)]
    return out


def scores(done: Slow, spreads: list[float], window: int, price: float) -> list[float]:
    """z by the definition. Where a spread is nothing but the rounding of prices, so is its z."""
    out = []
    for t in range(len(spreads)):
        part = spreads[t + 1 - window : t + 1] if t + 1 >= window else []
        if not part or any(math.isnan(v) for v in part) or min(part) == max(part):
            out.append(NAN)
            continue
        mean = math.fsum(part) / window
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in part) / (window - 1))
        if deviation < 1e-11 * price:
            done.margin = 0.0
        out.append((spreads[t] - mean) / deviation)
    return out


def backtest(bars_y: pd.DataFrame, bars_x: pd.DataFrame, rules: Any, costs: Any) -> Slow:
    rows_y = {row.Index: (row.open, row.close) for row in bars_y.itertuples()}
    rows_x = {row.Index: (row.open, row.close) for row in bars_x.itertuples()}
    done = Slow(times=sorted(ts for ts in rows_y if ts in rows_x))
    both = [(*rows_y[ts], *rows_x[ts]) for ts in done.times]
    pairs = hedges([row[1] for row in both], [row[3] for row in both], rules)
    highest = max((max(row) for row in both), default=0.0)
    done.zscores = scores(done, [spread for _, spread in pairs], rules.window, highest)
    trade(done, both, [beta for beta, _ in pairs], rules, costs)
    done.metrics = metrics(done, rules)
    return done


def trade(
    done: Slow, both: list[tuple[float, ...]], betas: list[float], rules: Any, costs: Any
) -> None:
    slip, rate = costs.slippage_bps * 0.0001, costs.fee_bps * 0.0001
    cash = rules.capital
    position: dict[str, Any] | None = None
    order: Any = None  # ("enter", side) or ("leave", reason)
    stopped_side: str | None = None

    def fill(quantity: float, price: float) -> float:
        return price * (1 + slip) if quantity > 0 else price * (1 - slip)

    def fee(quantity: float, price: float) -> float:
        return rate * abs(quantity) * price

    def close_at(price_y: float, price_x: float, when: int, reason: str) -> None:
        nonlocal cash, position
        assert position is not None
        p = position
        exit_y, exit_x = fill(-p["qty_y"], price_y), fill(-p["qty_x"], price_x)
        fees = p["fees"] + fee(p["qty_y"], exit_y) + fee(p["qty_x"], exit_x)
        pnl_y = p["qty_y"] * (exit_y - p["entry_y"])
        pnl_x = p["qty_x"] * (exit_x - p["entry_x"])
        pnl = pnl_y + pnl_x - fees
        cash += pnl
        done.trades.append(
            {
                **p,
                "exit_time": done.times[when],
                "exit_y": exit_y,
                "exit_x": exit_x,
                "pnl_y": pnl_y,
                "pnl_x": pnl_x,
                "fees": fees,
                "pnl": pnl,
                "exit_reason": reason,
            }
        )
        position = None

    for t, (open_y, close_y, open_x, close_x) in enumerate(both):
        if order is not None and order[0] == "enter":
            beta, signal_y, signal_x = betas[t - 1], both[t - 1][1], both[t - 1][3]
            # A ratio of rounding's size, of a flat leg, has no sign that both must see, but it
            # decides the side, and so the price, of a fill of next to nothing.
            done.margin = min(done.margin, abs(beta))
            size = rules.notional / (signal_y + abs(beta) * signal_x)
            qty_y = size if order[1] == "long" else -size
            qty_x = -beta * qty_y
            entry_y, entry_x = fill(qty_y, open_y), fill(qty_x, open_x)
            position = {
                "side": order[1],
                "entry_time": done.times[t],
                "beta": beta,
                "qty_y": qty_y,
                "qty_x": qty_x,
                "entry_y": entry_y,
                "entry_x": entry_x,
                "fees": fee(qty_y, entry_y) + fee(qty_x, entry_x),
                "bars": 0,
            }
        elif order is not None:
            close_at(open_y, open_x, t, order[1])
        order = None

        z, action = done.zscores[t], ""
        if position is not None:
            position["bars"] += 1
            marked = (
                position["qty_y"] * (close_y - position["entry_y"])
                + position["qty_x"] * (close_x - position["entry_x"])
                - position["fees"]
            )
            long = position["side"] == "long"
            if done.above(z if long else -z, -rules.exit_z):
                action = "exit"
            elif rules.stop_z is not None and done.above(-z if long else z, rules.stop_z):
                action = "stop_z"
            elif rules.stop_loss is not None and done.above(
                -marked / rules.notional, rules.stop_loss
            ):
                action = "stop_loss"
            elif rules.max_bars is not None and position["bars"] >= rules.max_bars:
                action = "max_bars"
            if action:
                order = ("leave", action)
                if action != "exit":
                    stopped_side = position["side"]
            if t == len(both) - 1:
                close_at(close_y, close_x, t, "end of data")
                done.equity.append(cash)
            else:
                done.equity.append(cash + marked)
        else:
            done.equity.append(cash)
            back = z if stopped_side == "long" else -z
            if stopped_side is not None and done.above(back, -rules.exit_z):
                stopped_side = None
            if stopped_side is None:
                if done.above(-z, rules.entry_z):
                    action = "long"
                elif done.above(z, rules.entry_z):
                    action = "short"
            if action:
                order = ("enter", action)
        done.actions.append(action)


def metrics(done: Slow, rules: Any) -> dict[str, float]:
    equity, trades = done.equity, done.trades
    returns = [b / a - 1 for a, b in pairwise(equity)]
    sharpe = NAN
    if len(returns) > 1 and any(returns):
        mean = math.fsum(returns) / len(returns)
        variance = math.fsum((r - mean) ** 2 for r in returns) / (len(returns) - 1)
        passed = (done.times[-1] - done.times[0]).total_seconds()
        sharpe = mean / math.sqrt(variance) * math.sqrt(len(returns) * 365 * 24 * 3600 / passed)
    peak, drawdown = rules.capital, 0.0
    for value in equity:
        peak = max(peak, value)
        drawdown = max(drawdown, (peak - value) / peak)
    return {
        "total_pnl": equity[-1] - rules.capital,
        "total_return": equity[-1] / rules.capital - 1,
        "max_drawdown": drawdown,
        "sharpe": sharpe,
        "trades": len(trades),
        "win_rate": sum(t["pnl"] > 0 for t in trades) / len(trades) if trades else NAN,
        "fees": math.fsum(t["fees"] for t in trades),
    }
