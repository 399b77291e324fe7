"""The head of the page: which pair, is it real, is it alive, how old; and the deciding numbers.

`header_html` and `cards_html` are pure; every text from outside is escaped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import pandas as pd
import streamlit as st

from pairs.analytics.cointegration import engle_granger_both
from pairs.analytics.pair import PairView
from pairs.analytics.small_sample import unit_root_p
from pairs.analytics.unitroot import adf_test
from pairs.dashboard import watch
from pairs.dashboard.context import Page, shared
from pairs.dashboard.views.alerts import notices
from pairs.figures.hints import hint_html
from pairs.figures.layout import Floats
from pairs.figures.pair import sides
from pairs.figures.statistics import VERDICT_BARS
from pairs.figures.theme import (
    NONE,
    clock,
    decimals_of,
    duration,
    number,
    percent,
    significant,
    stretch,
    tint,
)
from pairs.live.bars import Leg, Snapshot

STALE_S = 10.0
BADGES = {
    "local": ("SIMULATED · local exchange", "warn"),
    "binance": ("BINANCE · spot", "real"),
    "binance-usdm": ("BINANCE · USD-M futures", "real"),
    "upload": ("UPLOADED FILE", "info"),
}


def draw(page: Page) -> None:
    """The strip of numbers, at every refresh."""
    snapshot, view = page.now()
    adf_p, adf_bars = shared(lambda: adf_of(view), ("adf", *page.key(snapshot), page.choice.spec))
    choice = page.choice
    levels = (choice.entry_z, choice.exit_z, choice.stop_z)
    side = shared(
        lambda: sides(view, *levels)[-1:], ("side", *page.key(snapshot), choice.spec, levels)
    )
    alerts = notices(page)
    unseen = alerts.pulse.unacknowledged if alerts.pulse else 0
    unwatched = alerts.unwatched
    st.html(
        header_html(
            snapshot,
            pd.Timestamp.now("UTC"),
            unseen,
            unwatched=unwatched,
            paused=choice.refresh_s is None,
        )
        + cards_html(
            snapshot,
            view,
            side=side,
            adf_p=adf_p,
            adf_bars=adf_bars,
        )
    )
    if choice.refresh_s is not None and choice.refresh_s <= watch.BEAT_S:
        watch.beat(choice.refresh_s)


def adf_of(view: PairView) -> tuple[float, int]:
    """p-value of the last VERDICT_BARS bars, lags by the AIC as in every other view, and their
    number: of the spread's ADF where β is given; else of Engle–Granger either way, doubled, since
    an estimated β has already made its spread look stationary."""
    frame = view.frame[["close_y", "close_x", "spread"]].dropna().tail(VERDICT_BARS)
    if len(frame) < 30 or any(frame[name].min() == frame[name].max() for name in frame):
        return float("nan"), 0
    try:
        if view.spec.hedge == "fixed":
            found = adf_test(frame["spread"])
            return unit_root_p(found.statistic, "c", 1, len(frame)), len(frame)
        both = engle_granger_both(frame["close_y"], frame["close_x"])
    except ValueError:  # legs that are a function of each other: there is nothing to test
        return float("nan"), 0
    least = min(both.y_on_x.statistic, both.x_on_y.statistic)
    return min(1.0, 2.0 * unit_root_p(least, "c", 2, len(frame))), len(frame)


@dataclass(frozen=True, slots=True)
class Health:
    """The feed of a pair in one word, with the reason; `level` picks the colour."""

    word: str
    level: str
    detail: str


def judge(snapshot: Snapshot, age_s: float | None) -> Health:
    """How alive the shown data are, worst leg first. `age_s`: seconds since the newest receipt."""
    if snapshot.error is not None:
        return Health(
            "database unreachable", "bad", f"since {duration(snapshot.age_s)}: trying again"
        )
    feeds = [leg.feed for leg in (snapshot.y, snapshot.x)]
    if not snapshot.live:
        return Health("history", "info", "a file, not a live market")
    known = [feed for feed in feeds if feed is not None]
    if len(known) < 2 or all(feed.last_received is None for feed in known):
        return Health("waiting for the first trade", "quiet", "")
    for state, level, word in (
        ("stopped", "bad", "daemon stopped"),
        ("halted", "bad", "halted"),
        ("disconnected", "bad", "disconnected"),
        ("stale", "warn", "stale"),
    ):
        for feed in known:
            if feed.state == state:
                since = f"last data {clock(feed.last_received)} UTC" if feed.last_received else ""
                return Health(word, level, " · ".join(filter(None, (since, feed.detail))))
    if any(feed.state == "quiet" for feed in known):
        return Health("live, quiet market", "real", "")
    if age_s is not None and age_s > STALE_S:
        return Health("stale", "warn", f"nothing received for {duration(age_s)}")
    return Health("live", "real", "")


def data_age_s(snapshot: Snapshot) -> float | None:
    """Seconds since the older leg's newest trade was received; None for files."""
    if not snapshot.live:
        return None
    ages = [leg.feed.received_age_s for leg in (snapshot.y, snapshot.x) if leg.feed is not None]
    known = [age for age in ages if age is not None]
    return max(known) + snapshot.age_s if known else None


def dead_since(snapshot: Snapshot, now: pd.Timestamp) -> str:
    """Since when there are no data to be believed, in words; empty where all is well."""
    if judge(snapshot, data_age_s(snapshot)).level not in ("warn", "bad"):
        return ""
    if snapshot.error is not None:
        return f"no data since {now - pd.Timedelta(seconds=snapshot.age_s):%H:%M:%S} UTC"
    received = [leg.feed.last_received for leg in snapshot.legs if leg.feed is not None]
    known = [when for when in received if when is not None]
    return f"no data since {clock(min(known))} UTC" if known else "no data"


def header_html(
    snapshot: Snapshot,
    now: pd.Timestamp,
    alerts: int = 0,
    *,
    unwatched: bool = False,
    paused: bool = False,
) -> str:
    """Title, venue badge, feed state, data age, gaps, the clock; `alerts` not acknowledged,
    `unwatched`: there are rules that nobody evaluates. `paused`: nothing is refreshed, so this is
    as of `now`. Ages and the clock go on in the browser."""
    age = data_age_s(snapshot)
    health = judge(snapshot, age)
    if paused and health.level in ("real", "quiet", "info"):
        health = Health(f"paused since {now:%H:%M:%S}", "still", "")
    sign = {"real": "●", "warn": "▲", "bad": "✕", "info": "■", "quiet": "○", "still": "❚❚"}
    dead = dead_since(snapshot, now)
    feeds = [leg.feed for leg in snapshot.legs if leg.feed is not None and snapshot.live]
    facts = [_fact(health.detail)] if health.detail else []
    if feeds:
        gaps, missing = sum(f.open_gaps for f in feeds), sum(f.missing for f in feeds)
        facts += [
            _fact(f"data {duration(age)} old", "" if age is None else f'data-age="{age:.1f}"'),
            _fact(f"{gaps} open gaps" + (f", {missing:,} trades missing" if missing else "")),
            _fact(f"{sum(f.stored for f in feeds):,} trades stored"),
        ]
    facts.append(_fact(f"{now:%H:%M:%S} UTC", f'data-clock="{now.value // 10**6}"'))
    title = f"{escape(snapshot.y.symbol)} / {escape(snapshot.x.symbol)}"
    badges = "".join(
        f'<span class="pw-chip pw-{level}" data-testid="venue">{escape(badge)}</span>'
        for badge, level in (BADGES[venue] for venue in snapshot.venues)
    )
    bell = (
        f'<span class="pw-chip pw-warn" data-testid="alerts">▲ {alerts} '
        f"alert{'s' if alerts > 1 else ''}</span>"
        if alerts
        else ""
    )
    if unwatched:
        bell += '<span class="pw-chip pw-bad" data-testid="unwatched">✕ alerts not watched</span>'
    said = f"{snapshot.y.symbol} / {snapshot.x.symbol}: {health.word}"
    said += ", alerts not watched" if unwatched else ""
    told = f' data-dead="{escape(dead)}"' if dead else ""
    return (
        f'<div class="pw pw-head"><h1>{title}</h1>'
        f"{badges}"
        f'<span class="pw-chip pw-{health.level}" data-testid="feed"{told}>'
        f"{sign[health.level]} {escape(health.word)}</span>"
        f"{bell}"
        f'<span class="pw-facts" data-testid="facts" data-said="{escape(said)}">{"".join(facts)}'
        "</span></div>"
    )


def _fact(text: str, more: str = "") -> str:
    return f"<span {more}>{escape(text)}</span>"


def cards_html(
    snapshot: Snapshot,
    view: PairView,
    *,
    side: Floats,
    adf_p: float,
    adf_bars: int,
) -> str:
    """The eight numbers. Prices include the forming bar, everything else closed bars only.
    `side`: what the rules want now, as an array of one, or of none without bars."""
    point = view.latest()
    nan = math.nan
    beta, spread, z, corr, error = (
        (point.beta, point.spread, point.zscore, point.correlation, point.beta_std)
        if point
        else (nan, nan, nan, nan, nan)
    )
    have, need = view.warmup
    warming = f"{have:,} of {need:,} bars" if have < need else ""
    word, tone = signal(z, side)
    sample = "IN-SAMPLE" if view.in_sample else ""
    cards = [
        _price_card(snapshot.y, "y"),
        _price_card(snapshot.x, "x"),
        _card(
            "Hedge ratio β",
            significant(beta),
            sample
            or warming
            or (f"± {significant(error, 2)} s.e." if math.isfinite(error) else view.spec.hedge),
        ),
        _card("Spread", significant(spread, 4), warming or "quote currency"),
        _card("z-score", number(z, 2), warming or word, tone, "z"),
        _card("Correlation", number(corr, 3), warming or f"{view.spec.window} returns"),
        _card(
            "ADF p" if view.spec.hedge == "fixed" else "E–G p",
            "< 0.001" if adf_p < 0.001 else number(adf_p, 3),
            f"{adf_bars:,} bars, AIC" if adf_bars else "warming up",
        ),
        _card(
            "Last closed bar",
            clock(point.ts) if point else NONE,
            f"{have:,} bars of {snapshot.bar}",
        ),
    ]
    return f'<div class="pw pw-cards">{"".join(cards)}</div>'


def signal(z: float, side: Floats) -> tuple[str, str]:
    """What the rules want at this z-score, and its tone."""
    if not math.isfinite(z):
        return "no value", ""
    wanted = float(side[-1]) if len(side) else 0.0
    if wanted > 0:
        return "▲ long spread", "good"
    return ("▼ short spread", "bad") if wanted < 0 else ("flat", "")


def _price_card(leg: Leg, side: str) -> str:
    prices = leg.closed["close"].to_numpy()
    before = float(prices[0]) if len(prices) else math.nan
    change = leg.last_price / before - 1
    over = (
        stretch((leg.closed.index[-1] - leg.closed.index[0]).total_seconds()) if len(prices) else ""
    )
    text = f"{percent(change)} in {over}" if math.isfinite(change) else "no data yet"
    return _card(
        leg.symbol,
        number(leg.last_price, decimals_of(prices)),
        text,
        tint(change, 4),
        side,
        testid=f"price-{side}",
    )


def _card(
    label: str, value: str, note: str, tone: str = "", edge: str = "", testid: str = ""
) -> str:
    name = testid or label.lower().replace(" ", "-")
    return (
        f'<div class="pw-card{f" pw-{edge}" if edge else ""}" data-testid="{name}">'
        f'<div class="k">{escape(label)}{hint_html(label)}</div>'
        f'<div class="v">{escape(value)}</div>'
        f'<div class="s {tone}">{escape(note)}</div></div>'
    )
