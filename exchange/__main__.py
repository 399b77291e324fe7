"""`python -m exchange`: the local exchange alone."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from exchange.faults import Faults
from exchange.limits import Limits
from exchange.protocol import SPOT, USDM
from exchange.replay import ReplaySource
from exchange.server import Exchange
from exchange.source import Source
from exchange.synthetic import SyntheticSource
from exchange.world import World, default_world, load_world

AHEAD_S = 3650 * 86_400.0  # the synthetic market is a function of time: ten years either way


class Parser(argparse.ArgumentParser):
    """A command line whose refusals are one plain line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {plain(message)}; see --help\n")


def plain(text: object) -> str:
    """A text as one line of what can be printed."""
    shown = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def a_number(low: float, high: float, kind: Callable[[str], float] = float) -> Callable[[str], Any]:
    """What `type=` of an option takes: a number from low to high."""

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            what = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not usable: allowed is {what} from {low:g} to {high:g}"
            )
        return number

    return read


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = Parser(
        prog="python -m exchange",
        description="A local exchange that speaks Binance's spot and USD-M protocols (WebSocket "
        "and REST on one port), from a synthetic market or from recordings.",
    )
    out.add_argument("--host", default="127.0.0.1", help="address to listen on")
    out.add_argument(
        "--port",
        type=a_number(0, 65_535, int),
        default=0,
        help="port to listen on; 0 takes a free one",
    )
    out.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="end when standard input ends or the parent process dies",
    )
    out.add_argument(
        "--tls",
        nargs=2,
        metavar=("CERTIFICATE", "KEY"),
        help="speak TLS (https, wss) with this certificate chain and key, PEM files",
    )
    out.add_argument("--control", action="store_true", help="answer GET /control…")
    out.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="[usdm:]NAME=VALUE",
        help="start with a fault of spot, such as drop=0.01, or of usdm; may be repeated",
    )
    out.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="[usdm:]NAME=VALUE",
        help="change a limit, of usdm only or of both: "
        + ", ".join(f"{f.name}={f.default:g}" for f in fields(Limits)),
    )
    _synthetic_options(out)
    _replay_options(out)
    return out


def _synthetic_options(out: argparse.ArgumentParser) -> None:
    synthetic = out.add_argument_group("synthetic market (the default)")
    synthetic.add_argument("--seed", type=int, default=1, help="which market; same seed, same tape")
    synthetic.add_argument("--symbols", help="only these, such as BTCUSDT,L0*")
    synthetic.add_argument("--rate", type=float, default=1.0, help="multiply the activity")
    synthetic.add_argument(
        "--flat", action="store_true", help="a constant mean rate: no hours of the day, no bursts"
    )
    synthetic.add_argument(
        "--tps",
        type=a_number(1e-3, 1e7),
        metavar="N",
        help="N trades/s over all listed symbols in each market, flat; instead of --rate",
    )
    synthetic.add_argument(
        "--generated",
        metavar="COUNT[:RATE]",
        help="add COUNT generated symbols L000USDT … at RATE trades/s each (default 10)",
    )
    synthetic.add_argument("--at", metavar="ISO", help="start the exchange's clock at this moment")
    synthetic.add_argument(
        "--ahead",
        type=a_number(-AHEAD_S, AHEAD_S),
        metavar="SECONDS",
        help="run the exchange's clock that much ahead of the machine's, after a restart too",
    )
    synthetic.add_argument(
        "--history-days",
        type=a_number(0, 3650),
        default=7.0,
        help="how far back klines go",
    )
    synthetic.add_argument(
        "--describe", action="store_true", help="print the true parameters as JSON and exit"
    )


def _replay_options(out: argparse.ArgumentParser) -> None:
    replay = out.add_argument_group("replay")
    replay.add_argument("--replay", nargs="+", metavar="FILE", help="recordings, plain or gzip")
    replay.add_argument("--speed", default="1", help="times real time, or max")
    replay.add_argument(
        "--shift-to-now", action="store_true", help="move T and E so that the first frame is now"
    )
    replay.add_argument(
        "--start-on-subscribe", action="store_true", help="begin when the first subscriber arrives"
    )


def chosen_world(options: argparse.Namespace) -> World:
    """The synthetic market that the options describe."""
    world = default_world()
    if options.generated:
        count, _, rate = options.generated.partition(":")
        try:
            more = load_world(int(count), float(rate or 10))
        except ValueError as error:
            raise ValueError(f"--generated {options.generated!r} is not usable: {error}") from None
        world = replace(world, groups=(*world.groups, *more.groups))
    if options.symbols:
        world = world.only([name.strip().upper() for name in options.symbols.split(",") if name])
    if options.tps is not None:
        return world.steady(options.tps)
    return replace(world.faster(options.rate), flat=options.flat)


def _clock(moment: str | None, ahead_s: float | None) -> Callable[[], int] | None:
    if moment is None and ahead_s is None:
        return None
    ahead = int((ahead_s or 0) * 1e6)
    if moment is not None:
        try:
            start = datetime.fromisoformat(moment)
        except ValueError:
            raise ValueError(f"--at {moment!r} is no moment such as 2026-01-31T12:00") from None
        start = start if start.tzinfo else start.replace(tzinfo=UTC)
        ahead += int(start.timestamp() * 1e6) - time.time_ns() // 1000
        if abs(ahead) > AHEAD_S * 1e6:
            raise ValueError(f"--at {moment!r} is not usable: allowed is ten years from now")
    return lambda: time.time_ns() // 1000 + ahead


def chosen_source(options: argparse.Namespace) -> Source:
    """The source that the options describe."""
    if options.replay:
        try:
            speed = None if options.speed == "max" else float(options.speed)
        except ValueError:
            raise ValueError(
                f"--speed {options.speed!r} is not usable: allowed is a number or max"
            ) from None
        return ReplaySource(
            options.replay,
            speed=speed,
            shift_to_now=options.shift_to_now,
            wait=options.start_on_subscribe,
        )
    return SyntheticSource(
        chosen_world(options),
        seed=options.seed,
        clock=_clock(options.at, options.ahead),
        history_days=options.history_days,
    )


def _settings(texts: list[str]) -> Iterator[tuple[str, str, str]]:
    """(market or nothing, name, value) of each `[market:]name=value`."""
    for text in texts:
        name, _, value = text.partition("=")
        market, _, name = name.rpartition(":")
        if market not in ("", SPOT, USDM):
            raise ValueError(f"unknown market {market!r}: allowed are {SPOT}, {USDM}")
        yield market, name, value


def chosen_faults(options: argparse.Namespace, market: str = SPOT) -> Faults:
    """The faults of a market to start with."""
    faults = Faults()
    for asked, name, value in _settings(options.fault):
        if (asked or SPOT) == market:
            faults.set(name, value)
    return faults


def chosen_limits(options: argparse.Namespace, market: str = SPOT) -> Limits:
    """The limits of a market to keep."""
    known: dict[str, type[Any]] = {f.name: type(f.default) for f in fields(Limits)}
    changed: dict[str, Any] = {}
    for asked, name, value in _settings(options.limit):
        if name not in known:
            raise ValueError(f"unknown limit {name!r}: allowed are {', '.join(known)}")
        if asked in ("", market):
            try:
                changed[name] = known[name](value)
            except ValueError:
                raise ValueError(f"--limit {name}={value!r} is not usable: a number is") from None
    base = Limits() if market == SPOT else Limits().for_usdm()
    return replace(base, **changed)


def chosen_tls(files: list[str] | None) -> ssl.SSLContext | None:
    """The context of `--tls`, None for plain connections."""
    if not files:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*files)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"--tls {' '.join(files)}: cannot be used: {error}") from None
    return context


def _end_with_parent(loop: asyncio.AbstractEventLoop, stop_event: asyncio.Event) -> None:
    """Watch standard input and the parent from threads, which must not hold up the exit."""
    parent = os.getppid()

    def stop() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop_event.set)

    def watch_input() -> None:
        with suppress(OSError):  # closed from the beginning
            while os.read(0, 4096):
                continue
        stop()

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        stop()

    for watch in (watch_input, watch_parent):
        threading.Thread(target=watch, daemon=True).start()


async def serve(options: argparse.Namespace) -> None:
    """Run until a signal, the end of the parent or a failure."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exchange = Exchange(
        chosen_source(options),
        faults=chosen_faults(options),
        usdm_faults=chosen_faults(options, USDM),
        host=options.host,
        port=options.port,
        limits=chosen_limits(options),
        usdm_limits=chosen_limits(options, USDM),
        control=options.control,
        tls=chosen_tls(options.tls),
    )
    async with exchange:
        if options.exit_with_parent:
            _end_with_parent(loop, stop)
        print(f"exchange ready {exchange.ws_url} {exchange.rest_url}", flush=True)
        waits = [asyncio.ensure_future(e.wait()) for e in (stop, exchange.failed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    if exchange.failure is not None:
        raise exchange.failure


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a clean end, 1 where it could not start or go on."""
    options = parser().parse_args(arguments)
    try:
        if options.describe:
            print(json.dumps(chosen_world(options).describe(), indent=2), flush=True)
            return 0
        asyncio.run(serve(options))
    except (OSError, ValueError) as error:
        where = f"--host {options.host}: " if isinstance(error, socket.gaierror) else ""
        print(f"exchange: {plain(where + str(error))}", file=sys.stderr)
        _give_up_output()
        return 1
    except KeyboardInterrupt:  # before the loop has taken signals over
        return 130
    return 0


def _give_up_output() -> None:
    """Where stdout takes nothing, what waits for it is not tried again at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
