"""Environment and `.env` → one frozen `Settings`. The environment wins.

An unknown or malformed value is refused with the key, the value and what is allowed.
"""

from __future__ import annotations

import argparse
import codecs
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Literal, NoReturn, cast, get_args
from urllib.parse import urlsplit

import psycopg2
from dotenv import dotenv_values
from psycopg2.extensions import parse_dsn

from pairs import __version__
from pairs.market import Venue, check_symbol
from pairs.messages import CANNOT, HIDDEN, keep_secret, one_line

ROOT = Path(__file__).resolve().parents[1]


def build(root: Path = ROOT) -> str:
    """The version, and the commit where the folder is a clone: 0.2.0 (1a2b3c4d5e)."""
    try:
        git = root / ".git"
        if git.is_file():  # a further work tree of a clone
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        common = git / "commondir"
        home = git / common.read_text().strip() if common.exists() else git
        name = head.removeprefix("ref:").strip()
        if head.startswith("ref:"):
            loose = home / name
            packed = home / "packed-refs"
            head = (
                loose.read_text().strip()
                if loose.exists()
                else next(
                    row.split()[0]
                    for row in packed.read_text().splitlines()
                    if row.endswith(f" {name}")
                )
            )
    except (OSError, StopIteration, UnicodeDecodeError):
        return __version__  # installed as a package
    return f"{__version__} ({head[:10]})"


Market = Literal["spot", "usdm"]
Feed = Literal["auto", "binance", "local"]

DEFAULT_SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT,XRPUSDT,LTCUSDT"
WS_URLS: dict[str, str] = {
    "spot": "wss://stream.binance.com:9443",
    "usdm": "wss://fstream.binance.com",
}
REST_URLS: dict[str, str] = {
    "spot": "https://api.binance.com",
    "usdm": "https://fapi.binance.com",
}


class Parser(argparse.ArgumentParser):
    """A command line whose refusals are one plain line."""

    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT, f"{self.prog}: {one_line(message)}; see --help\n")


class SettingsError(ValueError):
    """A setting that cannot be used: the message names key, value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, parsed. Field names are the keys in lower case."""

    database_url: str | None
    data_dir: Path
    streamlit_refresh_ms: int
    symbols: tuple[str, ...]
    market: Market
    feed: Feed
    binance_ws_url: str
    binance_rest_url: str
    flush_ms: int
    tick_retention_days: float | None
    history_hours: float
    repair_hours: float
    metrics_port: int | None
    log_level: str
    alert_urls: tuple[str, ...] = field(repr=False)  # they hold secrets
    alert_retention_days: float

    @property
    def exchange_venue(self) -> Venue:
        """The venue that real trades of this market are stored under."""
        return "binance" if self.market == "spot" else "binance-usdm"

    @property
    def repaired_hours(self) -> float:
        """How far back trades are repaired by id: REPAIR_HOURS, and never further than trades are
        kept."""
        days = self.tick_retention_days
        return self.repair_hours if days is None else min(self.repair_hours, 24 * days)

    @property
    def own_addresses(self) -> bool:
        """Whether the exchange's addresses were set rather than left at Binance's."""
        return (
            self.binance_ws_url != WS_URLS[self.market]
            and self.binance_rest_url != REST_URLS[self.market]
        )


def _refuse(key: str, value: str, allowed: str) -> SettingsError:
    return SettingsError(f"{key}={value!r} is not usable: allowed is {allowed}")


def _choice(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value.lower() not in allowed:
        raise _refuse(key, value, " or ".join(allowed))
    return value.lower()


def _number(
    key: str, value: str, low: float, high: float, kind: Callable[[str], float] = int
) -> float:
    try:
        number = kind(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        what = "an integer" if kind is int else "a number"
        raise _refuse(key, value, f"{what} from {low:g} to {high:g}")
    return number


_APPENDED = dict.fromkeys(("ws", "wss"), "/ws, /stream and /market/…") | dict.fromkeys(
    ("http", "https"), "/api/v3/… and /fapi/v1/…"
)


def _url(key: str, value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        shown = value if "@" not in value else HIDDEN  # what stands before it may be a password
        raise _refuse(key, shown, " or ".join(f"{s}://host[:port]" for s in schemes))
    keep_secret(parts.password)
    if parts.path.strip("/") or "?" in value or "#" in value:
        host = parts.netloc.rpartition("@")[2]
        shown = HIDDEN if any(mark in value for mark in "@?#") else value
        write = f"{parts.scheme}://{host} alone: {_APPENDED[parts.scheme]} are appended"
        raise _refuse(key, shown, write)
    return value.rstrip("/")


DATABASE_FORM = (
    "postgresql://host:port/database with user:password@ before the host, where @ / % of a name or "
    "password are written %40 %2F %25, or host=… port=… dbname=… user=… password=… as libpq takes "
    "it, a value with spaces between single quotes"
)
_WHERE = ("host", "hostaddr", "dbname", "service")  # one of them says which database is meant
_WHERE_BY_ENVIRONMENT = ("PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE")
_SECRETS = ("password", "sslpassword")


def _database_url(value: str) -> str:
    """A connection string as libpq reads it. It holds a password: a refusal names the part that
    is wrong and never the value, nor what libpq says of it."""
    try:
        parts = parse_dsn(value)
        wrong = _wrong_in(value, parts)
    except psycopg2.Error:
        parts, wrong = {}, _unreadable_in(value)
    if wrong:
        raise SettingsError(f"DATABASE_URL is not usable: {wrong}; allowed is {DATABASE_FORM}")
    keep_secret(value)
    for secret in (*(parts.get(name) for name in _SECRETS), os.environ.get("PGPASSWORD")):
        keep_secret(secret)
    return value


def _is_uri(value: str) -> bool:
    return value.startswith(("postgresql://", "postgres://"))


def _unreadable_in(value: str) -> str:
    """Why libpq cannot read it."""
    if not _is_uri(value):
        pairs = re.match(r"\w+\s*=", value)
        return (
            "it is no list of key=value that libpq can read, or names an unknown key"
            if pairs
            else "it does not begin with postgresql://"
        )
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        return "it holds a % that begins no escape"
    return "it is no connection URI, or names an unknown parameter"


def _wrong_in(value: str, parts: Mapping[str, str]) -> str:
    """What libpq reads without complaint and can only be meant otherwise: a raw @ or / within the
    password makes a part of it the host or the port, which libpq then tells everybody."""
    ports = parts.get("port", "").split(",")
    rest = value.partition("://")[2]
    beyond = rest.partition("@")[2] if "@" in rest.partition("/")[0] else rest
    misread = any("@" in host[1:] for host in parts.get("host", "").split(","))
    if misread or (_is_uri(value) and "@" in beyond.partition("?")[0]):
        return "it holds an @ or / inside the name or password"
    if any(port and not (port.isdecimal() and 1 <= int(port) <= 65_535) for port in ports):
        return "its port is no number from 1 to 65535"
    hosts = (parts.get("hostaddr") or parts.get("host", "")).split(",")
    if len(ports) > 1 and len(ports) != len(hosts):
        return "it names several ports, but not one for each host"
    if not set(parts) & set(_WHERE) and not set(os.environ) & set(_WHERE_BY_ENVIRONMENT):
        return "it names neither host nor database"
    return ""


def _symbols(value: str) -> tuple[str, ...]:
    names = [part for part in value.replace(" ", ",").split(",") if part]
    try:
        symbols = tuple(dict.fromkeys(check_symbol(name) for name in names))
    except ValueError as error:
        raise _refuse("SYMBOLS", value, f"a comma-separated list ({error})") from None
    if not 1 <= len(symbols) <= 1024:
        raise _refuse("SYMBOLS", value, "1 to 1024 symbols, such as BTCUSDT,ETHUSDT")
    return symbols


def _addresses(key: str, value: str) -> tuple[str, ...]:
    """Addresses of channels. They hold secrets: a refusal tells place and scheme, never more."""
    found = re.split(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", value.strip(", ")) if value else []
    for number, address in enumerate(found, 1):
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", address):
            scheme = address.partition("://")[0] if "://" in address else ""
            shown = f"{scheme}://***" if re.fullmatch(r"[A-Za-z0-9+.-]+", scheme) else "***"
            allowed = "scheme://… without spaces, several separated by commas or spaces"
            raise _refuse(f"{key}[{number}]", shown, allowed)
        keep_secret(address.partition("://")[2])
    return tuple(dict.fromkeys(found))


DEFAULTS: dict[str, str] = {
    "DATABASE_URL": "",
    "DATA_DIR": "data",
    "STREAMLIT_REFRESH_MS": "1000",
    "SYMBOLS": DEFAULT_SYMBOLS,
    "MARKET": "spot",
    "FEED": "auto",
    "BINANCE_WS_URL": "",
    "BINANCE_REST_URL": "",
    "FLUSH_MS": "100",
    "TICK_RETENTION_DAYS": "",
    "HISTORY_HOURS": "24",
    "REPAIR_HOURS": "48",
    "METRICS_PORT": "",
    "LOG_LEVEL": "INFO",
    "ALERT_URLS": "",
    "ALERT_RETENTION_DAYS": "365",
}


def _text_of(file: Path) -> str:
    """The text of `.env`; empty where there is none. SettingsError names what it is instead."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {one_line(error)}") from None
    except UnicodeDecodeError as error:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        place = error.start + 1
        known = "it is UTF-16" if wide else f"byte {place} belongs to another encoding"
        said = f"{file} cannot be read as UTF-8 text: {known}; save it as UTF-8"
        raise SettingsError(said) from None
    if "\0" in text:
        raise SettingsError(
            f"{file} cannot be read as UTF-8 text: it holds zero bytes, as UTF-16 does; save it "
            "as UTF-8"
        )
    return text


def read_environment(env_file: Path | None = None) -> dict[str, str]:
    """The values in force: `.env` under the process environment, before any check."""
    text = _text_of(ROOT / ".env" if env_file is None else env_file)
    stored = {key: value or "" for key, value in dotenv_values(stream=StringIO(text)).items()}
    return {**stored, **{key: os.environ[key] for key in DEFAULTS if key in os.environ}}


def load_settings(values: Mapping[str, str] | None = None) -> Settings:
    """Check `values` (default: environment over `.env`) and return them as `Settings`.

    Raises SettingsError for the first value that cannot be used.
    """
    given = read_environment() if values is None else dict(values)
    text = {key: (given.get(key) or "").strip() or default for key, default in DEFAULTS.items()}
    market = _choice("MARKET", text["MARKET"], get_args(Market))
    database_url = text["DATABASE_URL"]
    if database_url:
        database_url = _database_url(database_url)
    retention = text["TICK_RETENTION_DAYS"]
    metrics = text["METRICS_PORT"]
    return Settings(
        database_url=database_url or None,
        data_dir=(ROOT / Path(text["DATA_DIR"]).expanduser()).resolve(),
        streamlit_refresh_ms=int(
            _number("STREAMLIT_REFRESH_MS", text["STREAMLIT_REFRESH_MS"], 250, 60_000)
        ),
        symbols=_symbols(text["SYMBOLS"]),
        market=cast(Market, market),
        feed=cast(Feed, _choice("FEED", text["FEED"], get_args(Feed))),
        binance_ws_url=_url(
            "BINANCE_WS_URL", text["BINANCE_WS_URL"] or WS_URLS[market], ("ws", "wss")
        ),
        binance_rest_url=_url(
            "BINANCE_REST_URL", text["BINANCE_REST_URL"] or REST_URLS[market], ("http", "https")
        ),
        flush_ms=int(_number("FLUSH_MS", text["FLUSH_MS"], 10, 10_000)),
        tick_retention_days=(
            _number("TICK_RETENTION_DAYS", retention, 0.01, 36_500, float) if retention else None
        ),
        history_hours=_number("HISTORY_HOURS", text["HISTORY_HOURS"], 0, 24 * 365, float),
        repair_hours=_number("REPAIR_HOURS", text["REPAIR_HOURS"], 0.01, 24 * 365, float),
        metrics_port=int(_number("METRICS_PORT", metrics, 1, 65_535)) if metrics else None,
        log_level=_choice(
            "LOG_LEVEL", text["LOG_LEVEL"], ("debug", "info", "warning", "error")
        ).upper(),
        alert_urls=_addresses("ALERT_URLS", text["ALERT_URLS"]),
        alert_retention_days=_number(
            "ALERT_RETENTION_DAYS", text["ALERT_RETENTION_DAYS"], 1, 36_500, float
        ),
    )
