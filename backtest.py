"""Backtest a pair: `run(...)` for programs, the same on the command line.

python backtest.py --y-csv Y.csv --x-csv X.csv --hedge rolling --window 60 --json
python backtest.py --venue binance --y ETHUSDT --x BTCUSDT --bar 1min --preset binance-spot-taker
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import pandas as pd
import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from arguments import check_choice
from bars_csv import read_bars_csv
from database_utils import StoreError, one_line, open_database, open_store
from live import base_bar_s, is_closed
from market import VENUES, bar_seconds, check_symbol
from report import metrics_text, result_json
from resampling import resample_bars
from settings import load_settings
from signals import positions
from simulation import Result, run
from storage.queries import read_bar_sizes, read_bars, read_feeds, read_symbols
from trading_rules import PRESETS, PRESETS_TAKEN, Costs, Preset, Rules

__all__ = ["PRESETS", "PRESETS_TAKEN", "Costs", "Preset", "Result", "Rules", "positions", "run"]

_RULES = {
    "beta": (float, "B", "the hedge ratio of --hedge fixed"),
    "hedge_window": (int, "N", "bars of the rolling fit (default: --window)"),
    "window": (int, "N", "bars of the z-score"),
    "entry_z": (float, "Z", "enter where |z| exceeds this"),
    "exit_z": (float, "Z", "leave where |z| is back at this"),
    "stop_z": (float, "Z", "stop where |z| reaches this"),
    "stop_loss": (float, "F", "stop at a loss of this fraction of the notional"),
    "max_bars": (int, "N", "leave after so many bars"),
    "notional": (float, "Q", "gross value of a trade, quote currency"),
    "capital": (float, "Q", "what the account begins with, quote currency"),
    "delta": (float, "D", "drift of the Kalman filter, in (0, 1)"),
    "observation_variance": (float, "V", "noise of the Kalman filter"),
    "rebalance": (float, "F", "hedge anew where beta has moved by this fraction"),
}


class _Parser(argparse.ArgumentParser):
    """Its refusals are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="backtest", description="Backtest a pair from files or from the database.",
        allow_abbrev=False,
    )  # fmt: skip
    source = parser.add_argument_group("bars", "two CSV files, or two symbols of the database")
    source.add_argument("--y-csv", type=Path, metavar="FILE", help="bars of y, the leg explained")
    source.add_argument("--x-csv", type=Path, metavar="FILE", help="bars of x, which explains")
    source.add_argument("--venue", help="binance, binance-usdm, local or upload")
    source.add_argument("--y", metavar="SYMBOL")
    source.add_argument("--x", metavar="SYMBOL")
    source.add_argument("--bar", default="1min", help="length of the bars (default 1min)")
    source.add_argument("--from", dest="start", metavar="TIME", help="from this UTC time on")
    source.add_argument("--to", dest="end", metavar="TIME", help="before this UTC time")
    rules = parser.add_argument_group("rules")
    default = Rules()
    rules.add_argument("--hedge", default=default.hedge, choices=["fixed", "rolling", "kalman"],
                       help=f"hedge ratio (default {default.hedge})")  # fmt: skip
    for name, (kind, metavar, text) in _RULES.items():
        usual = getattr(default, name)
        rules.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, default=usual,
            help=text + ("" if usual is None else f" (default {usual:g})"),
        )  # fmt: skip
    costs = parser.add_argument_group("costs", "in basis points, per leg and fill")
    costs.add_argument("--fee-bps", type=float, metavar="BPS", help="(default 0)")
    costs.add_argument("--slippage-bps", type=float, default=0.0, metavar="BPS", help="(default 0)")
    costs.add_argument("--preset", choices=list(PRESETS),
                       help=f"the fee of Binance's base tier, as of {PRESETS_TAKEN}")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code. Failures are one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        rules = Rules(hedge=options.hedge, **{name: getattr(options, name) for name in _RULES})
        costs = _costs(options)
        bars_y, bars_x = _bars(options)
        result = run(bars_y, bars_x, rules, costs)
    except (ValueError, StoreError, OSError, psycopg2.Error, SQLAlchemyError) as error:
        print(f"backtest: {one_line(error)}", file=sys.stderr)
        return 2
    print(result_json(result) if options.json else _text(result))
    return 0


def _costs(options: argparse.Namespace) -> Costs:
    fee = options.fee_bps
    if options.preset is not None:
        if fee is not None:
            raise ValueError("--fee-bps and --preset both name the fee: one of them is allowed")
        fee = PRESETS[options.preset].fee_bps
    return Costs(fee_bps=fee or 0.0, slippage_bps=options.slippage_bps)


def _bars(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    files = (options.y_csv, options.x_csv)
    stored = (options.venue, options.y, options.x)
    start, end = _time("from", options.start), _time("to", options.end)
    if all(files) and not any(stored):
        y, x = (_between(_from_file(path), start, end) for path in files)
        return y, x
    if all(stored) and not any(files):
        return _from_database(options, start, end)
    raise ValueError("two legs are needed: --y-csv and --x-csv, or --venue, --y and --x")


def _time(option: str, text: str | None) -> pd.Timestamp | None:
    """A time in UTC, taken as UTC where it names no zone."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--{option} {text!r} is no time such as 2026-01-31 or 2026-01-31T12:00"
        ) from None
    time = pd.Timestamp(time)
    return time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")


def _from_file(path: Path) -> pd.DataFrame:
    try:
        return read_bars_csv(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _between(
    bars: pd.DataFrame, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> pd.DataFrame:
    if start is not None:
        bars = bars[bars.index >= start]
    return bars if end is None else bars[bars.index < end]


def _from_database(
    options: argparse.Namespace, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    venue = check_choice("venue", options.venue, VENUES)
    database = open_database(load_settings())
    try:
        store = open_store(database)
        try:
            y, x = (
                _stored(store.engine, venue, check_symbol(symbol), options.bar, start, end)
                for symbol in (options.y, options.x)
            )
        finally:
            store.close()
    finally:
        database.leave_as_found()
    return y, x


def _stored(
    engine: Engine, venue: str, symbol: str, bar: str,
    start: pd.Timestamp | None, end: pd.Timestamp | None,
) -> pd.DataFrame:  # fmt: skip
    """The closed bars of a symbol with start ≤ ts < end, whole ones only."""
    length = bar_seconds(bar)
    sizes = read_bar_sizes(engine, venue, symbol) if venue == "upload" else [1, 60]
    base = base_bar_s(bar, sizes)
    first, last = (time and time.floor(f"{length}s") for time in (start, end))
    bars = read_bars(engine, venue, symbol, base, first, last)
    if bars.empty:
        held = ", ".join(read_symbols(engine).get(venue, [])) or "none"
        raise ValueError(f"no bars of {bar} for {symbol} then: symbols stored of {venue}: {held}")
    if base != length:
        bars = resample_bars(bars, bar)
    feed = next((f for f in read_feeds(engine, venue) if f.symbol == symbol), None)
    return bars if is_closed(bars.index[-1], length, feed) else bars.iloc[:-1]


def _text(result: Result) -> str:
    return metrics_text(result.metrics)


if __name__ == "__main__":
    sys.exit(main())
