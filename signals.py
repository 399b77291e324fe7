"""When a pair is entered and left: one state machine for the page, the alerts and the backtest.

`_decide` is that machine: what to do at the close of a bar, from what is known there. Two
kernels step through it: `positions` with nothing but z-scores, `walk` with fills, costs and
the marked equity. They stand in one file because a kernel may only call helpers of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from arguments import Array
from compiled import FLAG, INT, VECTOR, compiled, helper
from trading_rules import Costs, Rules

__all__ = ["ACTIONS", "EXIT_REASONS", "TRADE_COLUMNS", "Prices", "Walk", "positions", "walk"]

Bytes = npt.NDArray[np.int8]

ENTER, EXIT, STOP_Z, STOP_LOSS, MAX_BARS, END = 1, 2, 3, 4, 5, 6
ACTIONS = ("", "long", "exit", "stop_z", "stop_loss", "max_bars", "end of data", "short")
"""By the code in `Walk.action`; -1, an entry of the short side, is the last one."""
EXIT_REASONS = ACTIONS[EXIT : END + 1]
TRADE_COLUMNS = (
    "side", "entry_row", "exit_row", "beta", "qty_y", "qty_x", "entry_y", "entry_x", "exit_y",
    "exit_x", "pnl_y", "pnl_x", "fees", "pnl", "bars", "reason", "slippage", "traded", "funding",
    "rebalances",
)  # fmt: skip
SUMS = (
    "trades", "wins", "gains", "pnl", "fees", "slippage", "traded", "funding", "bars",
    "mean_return", "return_std", "max_drawdown",
)  # fmt: skip
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Prices:
    """What a walk needs of a pair, one entry per aligned bar: prices, the hedge ratio that a
    signal of this bar would trade, its z-score, and the funding due at its open (empty: none)."""

    open_y: Array
    open_x: Array
    close_y: Array
    close_x: Array
    beta: Array
    zscore: Array
    funding_y: Array
    funding_x: Array

    def rows(self, start: int, stop: int) -> Prices:
        """A part of the bars; their z-scores keep the history they were made from."""
        return Prices(*(getattr(self, name)[start:stop] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Walk:
    """What trading did. `sums`: figures of the whole by name of SUMS. The arrays are empty where
    only these were asked for; where they were not, the figures of returns and drawdown are NaN,
    as the equity itself tells them. `equity`, `position` (the side held at the close: 1 long, -1
    short), `action` (decided at the close, see ACTIONS): one entry per bar. `trades`: one row per
    name of TRADE_COLUMNS, one column per trade."""

    sums: dict[str, float]
    equity: Array
    position: Bytes
    action: Bytes
    trades: Array


def positions(zscore: Array, rules: Rules) -> Bytes:
    """The side wanted from the close of each row on: 1 long spread, -1 short spread, 0 flat.

    `zscore`: array of z-scores, NaN where there is none. The same decisions as a backtest with
    these rules: entries, exits, `stop_z`, `max_bars` and the wait after a stop, each filled at the
    next bar's open. Row t uses rows ≤ t. Raises ValueError where the rules hold a `stop_loss`,
    which needs prices: see `simulation.run`.
    """
    if rules.stop_loss is not None:
        raise ValueError(
            f"stop_loss={rules.stop_loss:g} is not usable here: z-scores know no prices, so "
            "None is allowed"
        )
    scores = np.ascontiguousarray(zscore, dtype=np.float64)
    return cast(Bytes, _positions(scores, _limits(rules, Costs()), rules.max_bars or _NEVER))


def walk(prices: Prices, rules: Rules, costs: Costs, *, record: bool = True) -> Walk:
    """Trade every bar by the rules, from flat; `record=False` gives the sums alone."""
    sums, equity, position, action, trades = _walk(
        prices.open_y, prices.open_x, prices.close_y, prices.close_x, prices.beta, prices.zscore,
        prices.funding_y, prices.funding_x, _limits(rules, costs), rules.max_bars or _NEVER, record,
    )  # fmt: skip
    named = dict(zip(SUMS, sums.tolist(), strict=True))
    return Walk(named, equity, position, action, np.ascontiguousarray(trades.T))


def _limits(rules: Rules, costs: Costs) -> Array:
    """The numbers that the kernels take, in their order; infinite where not used."""
    optional = (rules.stop_z, rules.stop_loss, rules.rebalance)
    stop_z, stop_loss, rebalance = (math.inf if v is None else v for v in optional)
    return np.array(
        [rules.entry_z, rules.exit_z, stop_z, stop_loss, rebalance, costs.slippage_bps / 1e4,
         costs.fee_bps / 1e4, rules.notional, rules.capital]
    )  # fmt: skip


@helper
def _decide(z, side, held, profit, barred, entry, exit_, stop_z, stop_loss, notional, max_bars):  # type: ignore[no-untyped-def]
    """What to do at a close: (0 nothing, ±1 enter, or an exit's code), and the side barred.

    `side`, `held`: the side held at this close and for how many closes, this one included;
    `profit`: marked, less what was paid. `barred`: the side of the last position where it was
    stopped and z has not come back to its exit level, else 0. A comparison with a NaN is false:
    without z no entry and no exit by z.
    """
    if side != 0:
        if side * z >= -exit_:
            return EXIT, 0
        if side * z <= -stop_z:
            return STOP_Z, side
        if stop_loss < math.inf and -profit / notional >= stop_loss:
            return STOP_LOSS, side
        if held >= max_bars:
            return MAX_BARS, side
        return 0, 0
    if barred != 0 and barred * z >= -exit_:
        barred = 0
    if barred == 0:
        if z < -entry:
            return 1, 0
        if z > entry:
            return -1, 0
    return 0, barred


@compiled(VECTOR, VECTOR, INT)
def _positions(zscore, limits, max_bars):  # type: ignore[no-untyped-def]
    entry, exit_, stop_z = limits[0], limits[1], limits[2]
    wanted = np.zeros(len(zscore), dtype=np.int8)
    side = held = barred = 0
    for t in range(len(zscore)):
        if side != 0:
            held += 1
        action, barred = _decide(
            zscore[t], side, held, 0.0, barred, entry, exit_, stop_z, np.inf, 1.0, max_bars
        )
        if side == 0:
            side, held = action, 0
        elif action != 0:
            side = 0
        wanted[t] = side
    return wanted


@helper
def _fill(quantity, price, slippage, fee):  # type: ignore[no-untyped-def]
    """The price of a fill, slippage against it; its fee, slippage and value in quote currency."""
    filled = price * (1.0 + slippage) if quantity > 0.0 else price * (1.0 - slippage)
    value = abs(quantity) * price
    return filled, fee * (abs(quantity) * filled), slippage * value, value


@helper
def _set_leg(quantity, average, wanted, price):  # type: ignore[no-untyped-def]
    """A leg brought from `quantity` to `wanted` at `price`: its new average price, and profit."""
    if quantity * (wanted - quantity) >= 0.0:  # more of the same side
        return (average * quantity + price * (wanted - quantity)) / wanted, 0.0
    if quantity * wanted > 0.0:  # less of it
        return average, (quantity - wanted) * (price - average)
    return price, quantity * (price - average)


@helper
def _mark(now, last, peak, drawdown, total, squares):  # type: ignore[no-untyped-def]
    """The equity at the next close: highest so far, largest drawdown, Σ and Σ² of returns."""
    change = (now - last) / last
    if now > peak:
        peak = now
    elif peak - now > drawdown * peak:
        drawdown = (peak - now) / peak
    return peak, drawdown, total + change, squares + change * change


@compiled(VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, INT, FLAG)
def _walk(  # type: ignore[no-untyped-def]
    open_y, open_x, close_y, close_x, beta, zscore, funding_y, funding_x, limits, max_bars, record
):
    entry, exit_, stop_z, stop_loss = limits[0], limits[1], limits[2], limits[3]
    rebalance, slippage, fee = limits[4], limits[5], limits[6]
    notional, capital = limits[7], limits[8]
    rows, funded = len(zscore), len(funding_y) > 0
    equity = np.empty(rows if record else 0)
    position = np.zeros(rows if record else 0, dtype=np.int8)
    action = np.zeros(rows if record else 0, dtype=np.int8)
    trades = np.empty((rows // 2 + 1 if record else 0, 20))  # a trade takes two bars at least
    sums = np.zeros(12)
    count = barred = t = 0
    level = last = peak = capital
    total = squares = drawdown = 0.0
    while t < rows:
        # Flat at the close of bar t.
        first, side = t, 0
        while t < rows and side == 0:
            side, barred = _decide(
                zscore[t], 0, 0, 0.0, barred, entry, exit_, stop_z, stop_loss, notional, max_bars
            )
            t += 1
        if record:
            equity[first:t] = level
            action[t - 1] = side
        if t == rows:
            break
        # Filled at the open of bar t.
        entered, first_beta = t, beta[t - 1]
        qy = side * (notional / (close_y[t - 1] + abs(first_beta) * close_x[t - 1]))
        first_qx = -first_beta * qy
        ey, fee_y, slip_y, value_y = _fill(qy, open_y[t], slippage, fee)
        first_ex, fee_x, slip_x, value_x = _fill(first_qx, open_x[t], slippage, fee)
        fees, slip, value = fee_y + fee_x, slip_y + slip_x, value_y + value_x
        qx, ex, hedged = first_qx, first_ex, first_beta
        realised_x = funding = 0.0
        held = pending = rehedged = 0
        while True:
            # Held at the close of bar t.
            held += 1
            profit = qy * (close_y[t] - ey) + (realised_x + qx * (close_x[t] - ex))
            profit -= fees + funding
            pending, barred = _decide(
                zscore[t], side, held, profit, barred, entry, exit_, stop_z, stop_loss, notional,
                max_bars,
            )  # fmt: skip
            if record:
                position[t], action[t] = side, pending
            if t == rows - 1:
                pending = END
                price_y, price_x = close_y[t], close_x[t]
                break
            now = level + profit
            if record:
                equity[t] = now
            else:
                peak, drawdown, total, squares = _mark(now, last, peak, drawdown, total, squares)
                last = now
            t += 1
            # Read at every bar: a price that is in the cache by the time it is needed.
            price_y, price_x = open_y[t], open_x[t]
            if funded:
                funding += qy * price_y * funding_y[t] + qx * price_x * funding_x[t]
            if pending != 0:
                break
            if beta[t - 1] != hedged and abs(beta[t - 1] - hedged) >= rebalance * abs(hedged):
                hedged = beta[t - 1]
                wanted = -hedged * qy
                price, fee_x, slip_x, value_x = _fill(wanted - qx, price_x, slippage, fee)
                ex, gained = _set_leg(qx, ex, wanted, price)
                qx = wanted
                realised_x += gained
                fees, slip, value = fees + fee_x, slip + slip_x, value + value_x
                rehedged += 1
        xy, fee_y, slip_y, value_y = _fill(-qy, price_y, slippage, fee)
        xx, fee_x, slip_x, value_x = _fill(-qx, price_x, slippage, fee)
        fees, slip, value = fees + fee_y + fee_x, slip + slip_y + slip_x, value + value_y + value_x
        pnl_y, pnl_x = qy * (xy - ey), realised_x + qx * (xx - ex)
        pnl = pnl_y + pnl_x - fees - funding
        if record:
            k = count
            trades[k, 0], trades[k, 1], trades[k, 2], trades[k, 3] = side, entered, t, first_beta
            trades[k, 4], trades[k, 5], trades[k, 6], trades[k, 7] = qy, first_qx, ey, first_ex
            trades[k, 8], trades[k, 9], trades[k, 10], trades[k, 11] = xy, xx, pnl_y, pnl_x
            trades[k, 12], trades[k, 13], trades[k, 14], trades[k, 15] = fees, pnl, held, pending
            trades[k, 16], trades[k, 17], trades[k, 18] = slip, value, funding
            trades[k, 19] = rehedged
        count += 1
        sums[0] += 1.0
        sums[1] += 1.0 if pnl > 0.0 else 0.0
        sums[2] += max(pnl, 0.0)
        sums[3] += pnl
        sums[4] += fees
        sums[5] += slip
        sums[6] += value
        sums[7] += funding
        sums[8] += held
        level += pnl
        if not record:
            peak, drawdown, total, squares = _mark(level, last, peak, drawdown, total, squares)
            last = level
        if pending == END:
            if record:
                equity[t] = level
            break
    steps = 0 if record else rows - 1
    sums[9] = total / steps if steps > 0 else np.nan
    spread = squares - total * sums[9]
    sums[10] = math.sqrt(max(spread, 0.0) / (steps - 1)) if steps > 1 else np.nan
    sums[11] = np.nan if record else drawdown
    return sums, equity, position, action, trades[:count]
