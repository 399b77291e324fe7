"""What the synthetic market is made of: groups of legs tied to a factor, stated as numbers.

In each group `x` is a factor that wanders freely, and every member follows it in raw prices:
`y = α + β·x + s`, s a mean-reverting (Ornstein–Uhlenbeck) spread of known half-life and
deviation. The numbers are printed by `python -m exchange --describe`, so that any estimate
made from the prices can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from exchange.tape import Symbol


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol, its usual price (quote units), its activity and its usual size.

    `trades_per_s` is exact over each UTC day; `median_lots` is the median size in lots.
    """

    symbol: Symbol
    level: float
    trades_per_s: float
    median_lots: float


@dataclass(frozen=True, slots=True)
class Member:
    """A leg y = alpha + beta·x + s; β per unit of x, `spread_std` in quote units."""

    listing: Listing
    beta: float
    alpha: float
    half_life_s: float
    spread_std: float


@dataclass(frozen=True, slots=True)
class Group:
    """A factor leg with its deviation of daily log returns, and the legs that follow it."""

    name: str
    x: Listing
    daily_vol: float
    members: tuple[Member, ...]

    @property
    def listings(self) -> tuple[Listing, ...]:
        """Every leg, the factor first."""
        return (self.x, *(member.listing for member in self.members))


@dataclass(frozen=True, slots=True)
class World:
    """All groups; symbols are unique over them.

    `flat`: trades come at a constant mean rate, without the hours of the day and without bursts.
    """

    groups: tuple[Group, ...]
    flat: bool = False

    def __post_init__(self) -> None:
        names = [listing.symbol.name for g in self.groups for listing in g.listings]
        if len(set(names)) != len(names):
            raise ValueError(f"groups list a symbol twice: {sorted(names)}")

    @property
    def listings(self) -> dict[str, Listing]:
        """Every leg by symbol, in order of listing."""
        return {leg.symbol.name: leg for group in self.groups for leg in group.listings}

    def faster(self, rate: float) -> World:
        """The same world with `rate` times as many trades."""
        if not rate > 0:
            raise ValueError(f"rate {rate!r} is not usable: a number above 0 is allowed")
        return replace(self, groups=tuple(_faster(group, rate) for group in self.groups))

    def steady(self, trades_per_s: float) -> World:
        """The same world, flat, with that many trades a second over all its symbols."""
        return replace(self.faster(trades_per_s / self.trades_per_s), flat=True)

    @property
    def trades_per_s(self) -> float:
        """Mean trades a second over all symbols."""
        return sum(listing.trades_per_s for listing in self.listings.values())

    def only(self, symbols: list[str]) -> World:
        """The groups cut down to `symbols`; a factor stays where one of its legs is kept.

        A name with `*` stands for all that match it.
        """
        unknown = [name for name in symbols if not filter_names(self.listings, name)]
        if unknown:
            known = ", ".join(self.listings)
            raise ValueError(f"unknown symbols {', '.join(unknown)}: allowed are {known}")
        symbols = [name for pattern in symbols for name in filter_names(self.listings, pattern)]
        kept = []
        for group in self.groups:
            members = tuple(m for m in group.members if m.listing.symbol.name in symbols)
            if members or group.x.symbol.name in symbols:
                kept.append(replace(group, members=members))
        return replace(self, groups=tuple(kept))

    def describe(self) -> dict[str, Any]:
        """The truth as plain data, for JSON."""
        groups = [_describe(g) for g in self.groups]
        return {"model": "y = alpha + beta * x + s", "flat": self.flat, "groups": groups}


def filter_names(names: Iterable[str], pattern: str) -> list[str]:
    """The names that match a pattern with `*`."""
    return [name for name in names if fnmatchcase(name, pattern)]


def _faster(group: Group, rate: float) -> Group:
    def quick(leg: Listing) -> Listing:
        return replace(leg, trades_per_s=leg.trades_per_s * rate)

    members = tuple(replace(m, listing=quick(m.listing)) for m in group.members)
    return replace(group, x=quick(group.x), members=members)


def _leg(listing: Listing) -> dict[str, Any]:
    return {
        "symbol": listing.symbol.name,
        "level": listing.level,
        "tick": listing.symbol.tick,
        "lot": listing.symbol.lot,
        "trades_per_s": listing.trades_per_s,
    }


def _describe(group: Group) -> dict[str, Any]:
    legs = []
    for member in group.members:
        numbers = {k: v for k, v in asdict(member).items() if k != "listing"}
        bps = 1e4 * member.spread_std / member.listing.level
        legs.append({**_leg(member.listing), **numbers, "spread_std_bps": round(bps, 2)})
    return {
        "group": group.name,
        "x": {**_leg(group.x), "daily_vol": group.daily_vol},
        "members": legs,
    }


def _listing(
    base: str, level: float, rate: float, price_decimals: int, lot_decimals: int, lots: float
) -> Listing:
    symbol = Symbol(f"{base}USDT", base, "USDT", price_decimals, lot_decimals)
    return Listing(symbol, level, rate, lots)


def default_world() -> World:
    """Two groups of three; ticks, lots and levels as on the real market."""
    btc = _listing("BTC", 84_000.0, 30.0, 2, 5, 120.0)
    eth = _listing("ETH", 2_700.0, 22.0, 2, 4, 300.0)
    sol = _listing("SOL", 125.0, 10.0, 2, 3, 900.0)
    bnb = _listing("BNB", 850.0, 5.0, 2, 3, 120.0)
    xrp = _listing("XRP", 2.1, 8.0, 4, 1, 800.0)
    ltc = _listing("LTC", 85.0, 2.0, 2, 3, 900.0)
    majors = Group(
        "majors",
        btc,
        0.028,
        (
            Member(eth, beta=0.03, alpha=180.0, half_life_s=75.0, spread_std=2.7),
            Member(sol, beta=0.0014, alpha=7.4, half_life_s=600.0, spread_std=0.25),
        ),
    )
    alts = Group(
        "alts",
        bnb,
        0.03,
        (
            Member(ltc, beta=0.09, alpha=8.5, half_life_s=300.0, spread_std=0.17),
            Member(xrp, beta=0.0022, alpha=0.23, half_life_s=3600.0, spread_std=0.0063),
        ),
    )
    return World((majors, alts))


def load_world(count: int, trades_per_s: float) -> World:
    """`count` generated symbols L000USDT … in groups of five, each at `trades_per_s`."""
    if not 1 <= count <= 1000:
        raise ValueError(f"{count} generated symbols are not usable: 1 to 1000 are allowed")
    rng = np.random.Generator(np.random.Philox(count))
    levels = np.round(np.exp(rng.uniform(np.log(5.0), np.log(500.0), count)), 2)
    legs = [
        _listing(f"L{i:03d}", float(level), trades_per_s, 4, 2, 1000.0)
        for i, level in enumerate(levels)
    ]
    groups = []
    for first in range(0, count, 5):
        x, rest = legs[first], legs[first + 1 : first + 5]
        members = tuple(_generated_member(x, leg, 60.0 * 3**n) for n, leg in enumerate(rest))
        groups.append(Group(f"load{first // 5:03d}", x, 0.03, members))
    return World(tuple(groups))


def _generated_member(x: Listing, leg: Listing, half_life_s: float) -> Member:
    beta = round(0.9 * leg.level / x.level, 6)
    return Member(leg, beta, leg.level - beta * x.level, half_life_s, 0.0015 * leg.level)
