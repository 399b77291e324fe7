"""Backtest a pair: `run(...)` for programs, the same on the command line.

python backtest.py --y-csv Y.csv --x-csv X.csv --hedge rolling --window 60 --json
python backtest.py --venue binance --y ETHUSDT --x BTCUSDT --bar 1min --preset binance-spot-taker
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C while the modules load: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from pairs.backtest.engine import positions
from pairs.backtest.grid import (
    FIGURES,
    LEAST_IS_BEST,
    combinations,
    cost_sensitivity,
    grid,
    heat_map,
)
from pairs.backtest.luck import Counted, Where, judge, luck_words, trials_words
from pairs.backtest.metrics import returns_per_year
from pairs.backtest.overfitting import returns_of, sharpe_interval
from pairs.backtest.report import (
    filter_text,
    is_ruined,
    metrics_text,
    records,
    result_dict,
    strict,
)
from pairs.backtest.rules import PRESETS, PRESETS_TAKEN, Costs, Preset, Rules
from pairs.backtest.simulation import Result, run
from pairs.backtest.walk_forward import WalkForward, walk_forward
from pairs.bars.files import read_bars_csv, read_rates_csv
from pairs.bars.resampling import resample_bars
from pairs.checks import check_choice
from pairs.live.bars import bars_between, base_bar_s
from pairs.market import VENUES, Instrument, bar_seconds, check_symbol
from pairs.messages import CANNOT, INTERRUPTED, failed, start_logging, watch_uncaught
from pairs.settings import Parser, load_settings
from pairs.storage.database import StoreError, open_database, open_store
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore
from pairs.storage.reader import Reader

__all__ = ["PRESETS", "PRESETS_TAKEN", "Costs", "Preset", "Result", "Rules", "positions", "run"]

T = TypeVar("T")
_RULES = {
    "beta": (float, "B", "the hedge ratio of --hedge fixed"),
    "hedge_window": (int, "N", "bars of the fit, or of the filter's memory (default: --window)"),
    "window": (int, "N", "bars of the z-score"),
    "entry_z": (float, "Z", "enter where |z| exceeds this"),
    "exit_z": (float, "Z", "leave where |z| is back at this"),
    "stop_z": (float, "Z", "stop where |z| reaches this"),
    "stop_loss": (float, "F", "stop at a loss of this fraction of the notional"),
    "max_bars": (int, "N", "leave after so many bars"),
    "notional": (float, "Q", "gross value of a trade, quote currency"),
    "capital": (float, "Q", "what the account begins with, quote currency"),
    "delta": (float, "D", "drift of the Kalman filter, in (0, 1); default: unit-free"),
    "observation_variance": (
        float,
        "V",
        "noise of the Kalman filter beside --delta, y's unit squared",
    ),
    "rebalance": (float, "F", "hedge anew where beta has moved by this fraction"),
}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="backtest",
        description="Backtest a pair from files or from the database.",
        allow_abbrev=False,
    )
    source = parser.add_argument_group("bars", "two CSV files, or two symbols of the database")
    source.add_argument("--y-csv", type=Path, metavar="FILE", help="bars of y, the leg explained")
    source.add_argument("--x-csv", type=Path, metavar="FILE", help="bars of x, which explains")
    source.add_argument("--venue", help="binance, binance-usdm, local or upload")
    source.add_argument("--y", metavar="SYMBOL")
    source.add_argument("--x", metavar="SYMBOL")
    source.add_argument(
        "--bar",
        metavar="LENGTH",
        help="length of the bars, such as 1min or 1h, made from shorter ones "
        "(default: files as they are, the database 1min)",
    )
    source.add_argument("--from", dest="start", metavar="TIME", help="from this UTC time on")
    source.add_argument("--to", dest="end", metavar="TIME", help="before this UTC time")
    rules = parser.add_argument_group("rules")
    default = Rules()
    rules.add_argument(
        "--hedge",
        default=default.hedge,
        choices=["fixed", "rolling", "kalman"],
        help=f"hedge ratio (default {default.hedge})",
    )
    for name, (kind, metavar, text) in _RULES.items():
        usual = getattr(default, name)
        rules.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar=metavar,
            default=usual,
            help=text + ("" if usual is None else f" (default {usual:g})"),
        )
    costs = parser.add_argument_group("costs", "in basis points, per leg and fill")
    costs.add_argument("--fee-bps", type=float, metavar="BPS", help="(default 0)")
    costs.add_argument("--slippage-bps", type=float, default=0.0, metavar="BPS", help="(default 0)")
    costs.add_argument(
        "--preset",
        choices=list(PRESETS),
        help=f"the fee of Binance's base tier, as of {PRESETS_TAKEN}",
    )
    costs.add_argument(
        "--funding-y-csv",
        type=Path,
        metavar="FILE",
        help="funding rates of a perpetual: timestamp,rate",
    )
    costs.add_argument("--funding-x-csv", type=Path, metavar="FILE", help="those of x")
    search = parser.add_argument_group("search")
    search.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="RULE=A,B,…",
        help="values to try, such as entry_z=1.5,2; may be repeated",
    )
    search.add_argument(
        "--walk-forward",
        metavar="TRAIN,TEST",
        help="choose of the grid on TRAIN bars, trade the next TEST",
    )
    search.add_argument(
        "--objective",
        default="sharpe",
        choices=FIGURES,
        help="what the best has most of (default sharpe)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page of HTML, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code. Failures are one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        print(_answer(options), flush=True)
    except (ValueError, StoreError, MemoryError, *DATABASE_ERRORS) as error:
        failed("backtest", error)
        return CANNOT
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _answer(options: argparse.Namespace) -> str:
    rules = Rules(hedge=options.hedge, **{name: getattr(options, name) for name in _RULES})
    costs = _costs(options)
    candidates = combinations(rules, **_grid(options.grid))
    lengths = _lengths(options.walk_forward)
    bars = _bars(options)
    found = _Found(run(*bars, rules, costs))
    tried = {rules: found.result.metrics["sharpe"]}
    if options.grid:
        found.table = grid(*bars, candidates, costs, progress=_Progress())
        tried |= dict(zip(candidates, found.table["sharpe"].tolist(), strict=True))
    if lengths is not None:
        found.walk = walk_forward(
            *bars,
            candidates,
            costs,
            train=lengths[0],
            test=lengths[1],
            objective=options.objective,
            progress=_Progress(),
        )
        tried |= dict(zip(candidates, found.walk.candidates["sharpe"].tolist(), strict=True))
    _judge(found, tried, costs, options)
    if options.report is not None:
        options.report.write_text(_html(bars, found, options), encoding="utf-8")
    return _json(found) if options.json else _text(found, options)


@dataclass(slots=True)
class _Found:
    result: Result
    table: pd.DataFrame | None = None
    walk: WalkForward | None = None
    counted: Counted | None = None
    walked: Counted | None = None


def _judge(
    found: _Found, tried: dict[Rules, float], costs: Costs, options: argparse.Namespace
) -> None:
    """Hold the results against luck, every set of this run counted, and those of the store."""
    equity = found.result.equity
    if len(equity) < 3:
        return
    sets = list(tried.items())

    def judged(where: Where | None) -> None:
        found.counted = judge(equity, sets, costs, where)
        if found.walk is not None:
            per_year = returns_per_year(pd.DatetimeIndex(equity.index))
            found.walked = judge(found.walk.equity, sets, costs, where, per_year)

    if options.y_csv is not None:
        judged(None)
        return
    bar_s = bar_seconds(options.bar or "1min")
    y, x = (Instrument(options.venue, check_symbol(name)) for name in (options.y, options.x))
    with _opened() as store:
        judged(Where(store, y, x, bar_s))


class _Progress:
    """A line on stderr once a second, from the second second on."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            print(f"backtest: {done:,} of {total:,} done", file=sys.stderr, flush=True)
            self._next = time.monotonic() + 1.0


def _grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Values by rule; each rule once."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, values = _grid_values(text)
        if name in found:
            raise ValueError(f"--grid names {name} twice: {name}=A,B,… with all values is allowed")
        found[name] = values
    return found


def _grid_values(text: str) -> tuple[str, list[Any]]:
    """`entry_z=1.5,2` as name and values."""
    name, _, values = text.partition("=")
    name = name.strip().replace("-", "_")
    kind = str if name == "hedge" else _RULES[name][0] if name in _RULES else None
    if kind is None:
        allowed = ", ".join(("hedge", *_RULES))
        raise ValueError(f"--grid {text!r} names no rule: {allowed} are allowed")
    try:
        found = [None if v.strip() == "none" else kind(v.strip()) for v in values.split(",")]
    except ValueError:
        raise ValueError(f"--grid {text!r} is not usable: {name}=A,B,… is allowed") from None
    return name, found


def _lengths(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        train, test = map(int, text.split(","))
    except ValueError:
        raise ValueError(
            f"--walk-forward {text!r} is not usable: two counts of bars, TRAIN,TEST, are allowed"
        ) from None
    return train, test


def _costs(options: argparse.Namespace) -> Costs:
    fee = options.fee_bps
    if options.preset is not None:
        if fee is not None:
            raise ValueError("--fee-bps and --preset both name the fee: one of them is allowed")
        fee = PRESETS[options.preset].fee_bps
    return Costs(
        fee_bps=fee or 0.0,
        slippage_bps=options.slippage_bps,
        funding_y=_rates(options.funding_y_csv),
        funding_x=_rates(options.funding_x_csv),
    )


def _rates(path: Path | None) -> pd.Series[float] | None:
    """Funding rates of a file with the columns timestamp and rate."""
    return None if path is None else _read_file(path, read_rates_csv)


def _read_file(path: Path, read: Callable[[bytes], T]) -> T:
    """What `read` makes of a file; its refusals name the file."""
    try:
        return read(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _bars(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    files = (options.y_csv, options.x_csv)
    stored = (options.venue, options.y, options.x)
    start, end = _time("from", options.start), _time("to", options.end)
    if all(files) and not any(stored):
        y, x = (_from_file(path, options.bar, start, end) for path in files)
        return y, x
    if all(stored) and not any(files):
        return _from_database(options, start, end)
    raise ValueError("two legs are needed: --y-csv and --x-csv, or --venue, --y and --x")


def _time(option: str, text: str | None) -> pd.Timestamp | None:
    """A time in UTC, taken as UTC where it names no zone."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--{option} {text!r} is no time such as 2026-01-31 or 2026-01-31T12:00"
        ) from None
    stamp = pd.Timestamp(when)
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def _from_file(
    path: Path, bar: str | None, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> pd.DataFrame:
    """The bars of a file with start ≤ ts < end; where `bar` is given, whole ones of that length."""
    if bar is not None:
        start, end = _floored(bar, start, end)

    def read(content: bytes) -> pd.DataFrame:
        bars = read_bars_csv(content)
        if start is not None:
            bars = bars[bars.index >= start]
        bars = bars if end is None else bars[bars.index < end]
        return bars if bar is None else resample_bars(bars, bar)

    return _read_file(path, read)


def _floored(bar: str, *times: pd.Timestamp | None) -> list[pd.Timestamp | None]:
    length = f"{bar_seconds(bar)}s"
    return [at and at.floor(length) for at in times]


def _from_database(
    options: argparse.Namespace, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    venue = check_choice("venue", options.venue, VENUES)
    bar = options.bar or "1min"
    with _opened() as store:
        y, x = (
            _stored(store.reads, venue, check_symbol(symbol), bar, start, end)
            for symbol in (options.y, options.x)
        )
    return y, x


@contextmanager
def _opened() -> Iterator[PostgresStore]:
    database = open_database(load_settings())
    try:
        store = open_store(database)
        try:
            yield store
        finally:
            store.close()
    finally:
        database.leave_as_found()


def _stored(
    reads: Reader,
    venue: str,
    symbol: str,
    bar: str,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
) -> pd.DataFrame:
    """The closed bars of a symbol with start ≤ ts < end, whole ones only."""
    sizes = reads.bar_sizes(venue, symbol) if venue == "upload" else [1, 60]
    base = base_bar_s(bar, sizes)
    bars = bars_between(reads, Instrument(venue, symbol), bar, base, *_floored(bar, start, end))
    if bars.empty:
        held = ", ".join(reads.symbols().get(venue, [])) or "none"
        raise ValueError(f"no bars of {bar} for {symbol} then: symbols stored of {venue}: {held}")
    return bars


def _json(found: _Found) -> str:
    whole = result_dict(found.result)
    if found.counted is not None and (found.table is not None or found.walk is not None):
        whole["deflated_sharpe"] = _luck(found.counted)
    if found.table is not None:
        whole["grid"] = records(found.table)
    if (walk := found.walk) is not None:
        whole["walk_forward"] = {
            "objective": walk.objective,
            "heading": walk.heading,
            "given": list(walk.given),
            "deflated_sharpe": _luck(found.walked or Counted(walk.deflated, "run")),
            "metrics": {k: strict(v) for k, v in walk.metrics.items()},
            "folds": records(walk.folds),
        }
    return json.dumps(whole, allow_nan=False)


def _luck_words(found: Counted | None) -> str:
    return "" if found is None else f"{luck_words(found)}; {trials_words(found)}".capitalize()


def _luck(found: Counted) -> dict[str, Any]:
    figures = {name: strict(value) for name, value in asdict(found.deflated).items()}
    return {**figures, "counted": found.scope, "verdict": luck_words(found)}


def _text(found: _Found, options: argparse.Namespace) -> str:
    parts = ["In-sample, with the parameters given", metrics_text(found.result.metrics)]
    parts += filter_text(found.result)
    if found.counted is not None and not is_ruined(found.result.metrics):
        parts.append(_luck_words(found.counted))
    if (table := found.table) is not None:
        best = table.sort_values(
            options.objective, ascending=options.objective in LEAST_IS_BEST
        ).head(10)
        shown = [n for n in table.columns if n in FIGURES or table[n].nunique(dropna=False) > 1]
        parts += [f"\nBest of {len(table):,} tried, in-sample", best[shown].to_string(index=False)]
    if (walk := found.walk) is not None:
        counted = found.walked or Counted(walk.deflated, "run")
        luck = counted.deflated
        parts += [
            f"\nWalk-forward, {walk.heading}, {len(walk.folds):,} pieces",
            metrics_text(walk.metrics),
        ]
    if walk is not None and not is_ruined(walk.metrics):
        parts += [
            f"Best Sharpe ratio by luck alone of {luck.trials:,} trials: {luck.benchmark:.4g}",
            f"Probability of a true Sharpe ratio above 0: {luck.against_zero:.1%}",
            _luck_words(counted),
        ]
    return "\n".join(parts)


def _html(
    bars: tuple[pd.DataFrame, pd.DataFrame], found: _Found, options: argparse.Namespace
) -> str:
    from pairs.figures.report import html_report  # Plotly takes half a second, and few runs need it

    result, heat = found.result, None
    names = list(_grid(options.grid))
    if found.table is not None and len(names) > 1:
        heat = (heat_map(found.table, names[0], names[1], options.objective), options.objective)
    legs = [path.stem for path in (options.y_csv, options.x_csv) if path] or [options.y, options.x]
    equity = result.equity
    return html_report(
        result,
        title=f"Backtest of {legs[0]} and {legs[1]}",
        heat=heat,
        walk=found.walk,
        luck=_luck_words(found.counted),
        cost=cost_sensitivity(*bars, result.rules, result.costs),
        interval=sharpe_interval(
            returns_of(equity), returns_per_year(pd.DatetimeIndex(equity.index))
        ),
    )


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start_logging("WARNING")
    watch_uncaught()
    sys.exit(main())
