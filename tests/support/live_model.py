"""What is true of a live market, in plain words: what the exchange has printed, what has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from pairs.market import Trade

S = 1_000_000


@dataclass
class Line:
    """One symbol: everything printed, what is on its way, what was lost on it, what is stored."""

    symbol: str
    printed: list[Trade] = field(default_factory=list)  # by id; received_us is not known yet
    waiting: list[Trade] = field(default_factory=list)
    stored: dict[int, Trade] = field(default_factory=dict)
    received_us: dict[int, int] = field(default_factory=dict)

    def print(self, ts_us: int, price: float) -> None:
        """The exchange prints the next trade."""
        trade = Trade(self.symbol, len(self.printed) + 1, ts_us, price, 0.5, False, 0)
        self.printed.append(trade)
        self.waiting.append(trade)

    def store(self, trades: list[Trade]) -> None:
        """They are written; of one that is stored already nothing changes."""
        for trade in trades:
            if trade.trade_id not in self.stored:
                self.stored[trade.trade_id] = trade
                self.received_us[trade.trade_id] = trade.received_us

    @property
    def high(self) -> int:
        """The highest id stored."""
        return max(self.stored, default=0)

    @property
    def missing(self) -> list[Trade]:
        """Printed before the highest stored one, and not stored: what a repair brings."""
        return [t for t in self.printed if t.trade_id < self.high and t.trade_id not in self.stored]

    @property
    def newest(self) -> Trade:
        """The trade that the age of the data belongs to: the last in time, of several the last id.
        One that came later by its id with an earlier time does not replace it."""
        return max(self.stored.values(), key=lambda t: (t.ts_us, t.trade_id))

    def told_by_rest(self, now_us: int, lag_us: int) -> int:
        """The newest id that REST knows of, which trails what is printed."""
        return max((t.trade_id for t in self.printed if t.ts_us <= now_us - lag_us), default=0)

    def closes(self, bar_us: int, printed: bool = False) -> dict[int, float]:
        """Start of each bar → close, of what is stored; or of all that was printed."""
        seconds: dict[int, float] = {}
        source = self.printed if printed else [self.stored[i] for i in sorted(self.stored)]
        for trade in source:  # of a second the last id, of a longer bar the last second
            seconds[trade.ts_us // S * S] = trade.price
        return {second // bar_us * bar_us: seconds[second] for second in sorted(seconds)}

    def doubtful(self, bar_us: int) -> set[int]:
        """Bars that may change with cause: a trade of theirs is named as missing, or was printed
        after one with a later time and is not here yet."""
        out, latest = set(), 0
        for trade in self.printed:
            behind = trade.ts_us < latest
            latest = max(latest, trade.ts_us)
            if trade.trade_id in self.stored:
                continue
            if trade.trade_id < self.high or behind:
                out.add(trade.ts_us // bar_us * bar_us)
        return out
