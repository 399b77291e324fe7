"""What an alert says. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from pairs.alerts.rules import AlertEvent, AlertRule

QUOTES = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH", "BNB")
_SIGNS = {"up": "▲", "down": "▼"}
_SHORT = {
    "zscore": "z",
    "abs_zscore": "|z|",
    "spread": "spread",
    "correlation": "ρ",
    "beta": "β",
    "price_y": "",
    "price_x": "",
    "staleness": "silent",
}


def message(rule: AlertRule, event: AlertEvent, now: datetime) -> tuple[str, str]:
    """Title and text of a delivery: which rule, what happened, where, when, with which figures.

    The rule's name comes first, and before it that data are simulated. Times are UTC; `now` tells
    how late an alert is that was caught up after a stop.
    """
    unit = " s" if rule.quantity == "staleness" else ""
    mark = "[SIMULATED] " if "local" in (rule.y.venue, rule.x.venue) else ""
    title = f"{mark}{rule.full_text()}: {event.value:.8g}{unit}"
    where = f"{rule.y} / {rule.x}"
    if rule.quantity == "staleness":
        lines = [rule.name, f"{where}, {_utc(event.ts)}"]
    else:
        lines = [
            rule.name,
            f"{where}, {rule.bar} bar of {_utc(event.ts)}, closed {_utc(event.known_at)}",
        ]
    lines += [
        f"{name} {value:.8g}" for name, value in event.figures.items() if not math.isnan(value)
    ]
    late_s = (now - event.known_at).total_seconds()
    if late_s > 60:
        lines.append(f"told {timedelta(seconds=round(late_s))} after it was known")
    return title, "\n".join(lines)


def _utc(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_text(rule: AlertRule, edge: str, value: float) -> str:
    """What has fired in the few signs that the title of a tab shows: `▲ z 2.31 ETH/BTC`."""
    legs = {"price_y": base_of(rule.y.symbol), "price_x": base_of(rule.x.symbol)}
    pair = f"{base_of(rule.y.symbol)}/{base_of(rule.x.symbol)}"
    number = f"{value:.6g}" if rule.quantity.startswith("price") else f"{value:.2f}"
    number = number.replace("-", "−")
    parts = [_SIGNS[edge], _SHORT[rule.quantity], number, legs.get(rule.quantity, pair)]
    return " ".join(part for part in parts if part)


def base_of(symbol: str) -> str:
    """The base of a symbol, ETH of ETHUSDT; the symbol where no known quote ends it."""
    quote = next((q for q in QUOTES if symbol.endswith(q) and symbol != q), "")
    return symbol.removesuffix(quote)
