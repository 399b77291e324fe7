"""What to do at the close of a bar: the one state machine of entries and exits, compiled.

`engine` is its door.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pairs.jit import INT, VECTOR, compiled, helper

__all__ = ["END", "EXIT", "Limits", "decide", "limits_of", "positions"]

EXIT, STOP_Z, STOP_LOSS, MAX_BARS, END = range(2, 7)  # 0: nothing, 1 and -1: an entry


class Limits(NamedTuple):
    """Levels and costs as the kernels know them, infinite where not used; rates as fractions."""

    entry: float
    exit: float
    stop_z: float
    stop_loss: float
    rebalance: float
    slippage: float
    fee: float
    notional: float
    capital: float


@helper
def limits_of(numbers):  # type: ignore[no-untyped-def]
    """The names of an array of `Limits`: a kernel is handed arrays."""
    entry, exit_, stop_z, stop_loss = numbers[0], numbers[1], numbers[2], numbers[3]
    rebalance, slippage, fee = numbers[4], numbers[5], numbers[6]
    notional, capital = numbers[7], numbers[8]
    return Limits(entry, exit_, stop_z, stop_loss, rebalance, slippage, fee, notional, capital)


@helper
def decide(z, side, held, profit, barred, limits, max_bars):  # type: ignore[no-untyped-def]
    """What to do at a close: (0 nothing, ±1 enter, or an exit's code), and the side barred.

    `side`, `held`: the side held at this close and for how many closes, this one included;
    `profit`: marked, less what was paid. `barred`: the side of the last position where it was
    stopped and z has not come back to its exit level, else 0. A comparison with a NaN is false:
    without z no entry and no exit by z.
    """
    if side != 0:
        if side * z >= -limits.exit:
            return EXIT, 0
        if side * z <= -limits.stop_z:
            return STOP_Z, side
        if limits.stop_loss < math.inf and -profit / limits.notional >= limits.stop_loss:
            return STOP_LOSS, side
        if held >= max_bars:
            return MAX_BARS, side
        return 0, 0
    if barred != 0 and barred * z >= -limits.exit:
        barred = 0
    if barred == 0:
        if z < -limits.entry:
            return 1, 0
        if z > limits.entry:
            return -1, 0
    return 0, barred


@compiled(VECTOR, VECTOR, INT)
def positions(zscore, numbers, max_bars):  # type: ignore[no-untyped-def]
    """See `engine.positions`; `numbers`: those of `Limits`, without a stop by loss."""
    limits = limits_of(numbers)
    wanted = np.zeros(len(zscore), dtype=np.int8)
    side = held = barred = 0
    for t in range(len(zscore)):
        if side != 0:
            held += 1
        action, barred = decide(zscore[t], side, held, 0.0, barred, limits, max_bars)
        if side == 0:
            side, held = action, 0
        elif action != 0:
            side = 0
        wanted[t] = side
    return wanted
