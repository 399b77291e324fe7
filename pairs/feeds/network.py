"""How the exchange is reached, one rule for stream and REST: by which proxy, trusting whom.

The libraries read the environment each in its own way, and none reads all of it: a range in
NO_PROXY, an IPv6 address, a SOCKS proxy of one are a traceback of the other.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi

from pairs.feeds.binance.protocol import LOOPBACK
from pairs.messages import HIDDEN, keep_secret

SCHEMES = ("http", "https", "socks5", "socks5h")
HAPPY_S = 0.25  # so long a dead address holds up the next one of the same name (RFC 8305)


class NetworkSettingError(OSError):
    """A proxy or a certificate's file that is named cannot be used; one line, what to do."""


def stream_options(url: str) -> dict[str, Any]:
    """What a WebSocket connection to `url` is opened with."""
    options: dict[str, Any] = {"proxy": proxy_for(url)}
    if options["proxy"] is None:
        options["happy_eyeballs_delay"] = HAPPY_S
    if url.startswith("wss:"):
        options["ssl"] = tls_context()
    if (options["proxy"] or "").startswith("https:"):
        options["proxy_ssl"] = tls_context()
    return options


def rest_options(url: str) -> dict[str, Any]:
    """What a client of the REST interface at `url` is made with."""
    proxy = proxy_for(url)
    secure = any(address.startswith("https:") for address in (url, proxy or ""))
    return {"proxy": proxy, "verify": tls_context() if secure else True, "trust_env": False}


# -- proxies


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for `url`; None where it names none, or where NO_PROXY
    or the loopback says so. A stream (ws, wss) goes by what http and https go by."""
    if any(host in url for host in LOOPBACK):
        return None
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    if _is_direct(parts.hostname or "", parts.port or (443 if secure else 80)):
        return None
    for name in ("HTTPS_PROXY" if secure else "HTTP_PROXY", "ALL_PROXY"):
        value = os.environ.get(name.lower()) or os.environ.get(name)
        if value:
            return _checked(name, value.strip())
    return None


def _checked(name: str, value: str) -> str:
    address = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(address)
        port, scheme = parts.port, parts.scheme.lower()
    except ValueError:
        port, scheme, parts = None, "", urlsplit("")
    keep_secret(parts.password)
    if scheme == "socks":
        scheme = "socks5h"
    if scheme not in SCHEMES or not parts.hostname or port == 0:
        shown = HIDDEN if "@" in value else repr(value)
        allowed = " or ".join(f"{s}://[user:password@]host:port" for s in SCHEMES)
        raise NetworkSettingError(f"{name}={shown} is not usable: allowed is {allowed}")
    if scheme.startswith("socks") and not (find_spec("python_socks") and find_spec("socksio")):
        raise NetworkSettingError(
            f"{name} names a SOCKS proxy: install python-socks[asyncio] and socksio, or name an "
            "HTTP proxy"
        )
    return f"{scheme}://{address.partition('://')[2]}"


def _is_direct(host: str, port: int) -> bool:
    """Whether NO_PROXY holds this host: `*`, names and their sub-domains, addresses, ranges of
    them, each also with a port."""
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(_matches(entry, host, port) for entry in entries.replace(",", " ").split())


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    bare, address = entry.strip("[]"), _address(host)
    if _network(bare) is None and entry.rpartition(":")[2].isdecimal():  # not the end of an IPv6
        bare, _, wanted = entry.rpartition(":")
        if int(wanted) != port:
            return False
        bare = bare.strip("[]")
    network = _network(bare)
    if network is not None or address is not None:
        return network is not None and address is not None and address in network
    name = bare.lower().lstrip("*").strip(".")
    return bool(name) and f".{host.lower().rstrip('.')}".endswith(f".{name}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


# -- whom to trust


def tls_context() -> ssl.SSLContext:
    """The one context of both: the system's store, or what SSL_CERT_FILE and SSL_CERT_DIR name
    instead. Where the system has none, certifi's."""
    return _context(os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""))


@functools.lru_cache(maxsize=4)
def _context(file: str, folder: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if file:
        _load(context, "SSL_CERT_FILE", cafile=file)
    if folder:
        _load(context, "SSL_CERT_DIR", capath=folder)
    system = ssl.get_default_verify_paths()
    if not file and not folder and not system.cafile and not _has_any(system.capath):
        context.load_verify_locations(certifi.where())
    return context


def _has_any(folder: str | None) -> bool:
    return folder is not None and any(Path(folder).iterdir())


def _load(context: ssl.SSLContext, name: str, **where: str) -> None:
    (path,) = where.values()
    present = Path(path).is_file() if "cafile" in where else Path(path).is_dir()
    if not present:
        kind = "file" if "cafile" in where else "folder"
        raise NetworkSettingError(f"{name}={path!r} is no {kind}: correct it, or unset it")
    try:
        context.load_verify_locations(**where)
    except OSError as error:  # ssl.SSLError is one
        raise NetworkSettingError(
            f"{name}={path!r} cannot be read as certificates (PEM): {error}"
        ) from None
