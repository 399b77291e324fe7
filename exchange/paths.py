"""Day paths of the synthetic market: every value is a function of (seed, symbol, time).

Nothing is carried from one call to the next. Randomness comes from a counter-based generator
keyed by what it is for; processes with memory are started far enough back that the start is
forgotten, so that the end of one day is the beginning of the next.
"""

from __future__ import annotations

import zlib
from math import ceil

import numpy as np

from exchange.tape import Floats, Ints
from exchange.world import Group, Listing, Member

DAY_S = 86_400
_ANCHOR_MEMORY = 0.9  # of the daily log level: it wanders by some 6 % around its usual value
_ANCHOR_DAYS = 128


def generator(seed: int, name: str, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator for one purpose; equal arguments give equal numbers."""
    words = [seed, zlib.crc32(name.encode()), zlib.crc32(purpose.encode()), *numbers]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def decay_sum(values: Floats, rho: float) -> Floats:
    """y_t = values_t + rho·y_{t−1}, by doubling: log₂(n) vector steps and no loop over rows."""
    out = values.copy()
    step = 1
    while step < len(out) and rho**step > 1e-18:
        out[step:] = out[step:] + rho**step * out[:-step]
        step *= 2
    return out


def ornstein_uhlenbeck(seed: int, name: str, purpose: str, day: int, half_life_s: float) -> Floats:
    """A unit-variance AR(1) path at the 86,401 second marks of a day.

    The previous day's innovations lead in (60 half-lives, at most the whole day): what is left
    of the unknown start is below 1e-7 deviations.
    """
    rho = 0.5 ** (1.0 / half_life_s)
    lead = min(DAY_S, ceil(60 * half_life_s))
    before = generator(seed, name, purpose, day - 1).standard_normal(DAY_S)[-lead:]
    during = generator(seed, name, purpose, day).standard_normal(DAY_S)
    scaled = np.concatenate((before, during)) * np.sqrt(1.0 - rho * rho)
    return decay_sum(scaled, rho)[lead - 1 :]


def _anchor(seed: int, group: Group, day: int) -> float:
    """Log price of the factor at a midnight: a slowly mean-reverting walk of daily shocks."""
    size = 64
    days = np.arange(day - _ANCHOR_DAYS + 1, day + 1)
    chunks = range(int(days[0]) // size, day // size + 1)
    name = group.x.symbol.name
    shocks = np.concatenate(
        [generator(seed, name, "anchor", chunk).standard_normal(size) for chunk in chunks]
    )
    own = shocks[days - chunks[0] * size]
    weights = _ANCHOR_MEMORY ** (day - days)
    return float(np.log(group.x.level) + group.daily_vol * np.sum(own * weights))


def day_profile() -> Floats:
    """How busy each second of a UTC day is, mean 1: quiet at 04:00, busiest at 15:00."""
    hour = np.arange(DAY_S) / 3600.0
    shape = 1.0 + 0.35 * np.cos((hour - 15.0) * np.pi / 12.0)
    shape += 0.4 * np.exp(-(((hour - 14.5) / 1.2) ** 2))
    return np.asarray(shape / shape.mean())


def factor_path(seed: int, group: Group, day: int) -> Floats:
    """Price of the factor at the second marks 0 … 86,400 of a day.

    A bridge between two midnights whose volatility wanders by quarter-hours and by hours.
    """
    name = group.x.symbol.name
    wander = 0.30 * ornstein_uhlenbeck(seed, name, "vol-fast", day, 900.0)
    wander += 0.35 * ornstein_uhlenbeck(seed, name, "vol-slow", day, 3600.0)
    vol = np.exp(wander[:-1]) * np.sqrt(day_profile())
    vol *= group.daily_vol / np.sqrt(np.sum(vol * vol))
    shocks = generator(seed, name, "factor", day).standard_normal(DAY_S) * vol
    walk = np.concatenate(([0.0], np.cumsum(shocks)))
    clock = np.concatenate(([0.0], np.cumsum(vol * vol))) / group.daily_vol**2
    start, end = _anchor(seed, group, day), _anchor(seed, group, day + 1)
    clock[-1] = 1.0
    path: Floats = np.exp(start + walk - clock * (walk[-1] - (end - start)))
    return path


def member_path(seed: int, member: Member, x: Floats, day: int) -> Floats:
    """Price of a member at the second marks of a day: α + β·x + s, kept above 5 % of usual."""
    name = member.listing.symbol.name
    spread = ornstein_uhlenbeck(seed, name, "spread", day, member.half_life_s)
    y = member.alpha + member.beta * x + member.spread_std * spread
    return np.maximum(y, 0.05 * member.listing.level)


def trade_counts(seed: int, listing: Listing, mid: Floats, day: int, *, flat: bool = False) -> Ints:
    """Trades printed before each second mark of a day: 86,401 values from 0 to exactly N.

    N is `trades_per_day`. The intensity follows the hour, wanders, reacts to price moves and
    jumps in bursts that die away within seconds; where `flat` it is constant.
    """
    rng = generator(seed, listing.symbol.name, "counts", day)
    busy = np.ones(DAY_S) if flat else _intensity(seed, listing, mid, day, rng)
    busy *= listing.trades_per_s / busy.mean()
    drawn = np.cumsum(rng.poisson(busy) + 1e-9)
    total = trades_per_day(listing)
    counts = np.concatenate(([0], np.floor(drawn * (total / drawn[-1])).astype(np.int64)))
    counts[-1] = total
    return counts


def _intensity(
    seed: int, listing: Listing, mid: Floats, day: int, rng: np.random.Generator
) -> Floats:
    """How busy each second is, on any scale."""
    name = listing.symbol.name
    wander = 0.45 * ornstein_uhlenbeck(seed, name, "busy-fast", day, 15.0)
    wander += 0.35 * ornstein_uhlenbeck(seed, name, "busy-slow", day, 600.0)
    jumps = np.where(rng.random(DAY_S) < 1 / 90, np.minimum(rng.pareto(1.6, DAY_S), 15.0), 0.0)
    moves = np.abs(np.diff(mid))
    busy = day_profile() * np.exp(wander[1:]) * (0.6 + 0.4 * moves / max(moves.mean(), 1e-300))
    return np.asarray(busy * (1.0 + decay_sum(jumps, 0.5)))


def trades_per_day(listing: Listing) -> int:
    """The exact number of trades of a UTC day."""
    return max(1, round(listing.trades_per_s * DAY_S))
