"""The WebSocket protocol apart from sockets: paths, control requests, errors. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

SPOT, USDM = "spot", "usdm"
ROUTES = ("market", "public", "private")  # of USD-M
PUBLIC_KINDS = ("bookTicker", "depth")  # what USD-M serves on /public, and only there
BOTH_KINDS = ("trade",)  # undocumented; clients ask for it on /public, older ones on /market

INVALID_TYPE, INVALID_REQUEST, INVALID_JSON, TOO_MANY = 1, 2, 3, 4


class ControlError(Exception):
    """A request that is answered with an error; `code` as in the exchange's documentation."""

    def __init__(self, code: int, message: str, request_id: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id

    def reply(self, wrapped: bool) -> bytes:
        """The error as JSON, flat (as documented) or wrapped (as also seen)."""
        error: dict[str, Any] = {"code": self.code, "msg": self.message}
        if wrapped:
            return msgspec.json.encode({"error": error, "id": self.request_id})
        return msgspec.json.encode({**error, "id": self.request_id})


@dataclass
class Session:
    """What one connection has asked for; `route` is one of ROUTES, or empty for spot."""

    market: str = SPOT
    route: str = ""
    combined: bool = False
    micro: bool = False
    streams: dict[str, None] = field(default_factory=dict)

    @property
    def form(self) -> int:
        """The key of `Message.wire`."""
        return self.combined + 2 * self.micro

    def hears(self, stream: str) -> bool:
        """Whether a subscribed stream is told here; where not, it stays silent."""
        if not self.route:
            return True
        name, _, kind = stream.partition("@")
        kind = name.removeprefix("!") if name.startswith("!") else kind
        if kind in BOTH_KINDS:
            return self.route != "private"
        return self.route == ("public" if kind.startswith(PUBLIC_KINDS) else "market")


def open_session(target: str) -> Session | None:
    """The session a request target asks for; None where it is no stream address.

    `/ws`, `/ws/<a>/<b>`, `/stream`, `/stream?streams=<a>/<b>`, percent-encoded or not; the same
    behind `/market`, `/public` or `/private` for USD-M, which knows milliseconds only. Nobody has
    an account here: `/private` is silent.
    """
    parts = urlsplit(target)
    query = parse_qs(parts.query)
    session, path = Session(), parts.path
    for route in ROUTES:
        if path.startswith(f"/{route}/"):
            session = Session(market=USDM, route=route)
            path = path[len(route) + 1 :]
    asked_micro = query.get("timeUnit", [""])[-1].upper() == "MICROSECOND"
    session.micro = asked_micro and session.market == SPOT
    if path == "/stream":
        names = "/".join(query.get("streams", []))
        session.combined = True
    elif path == "/ws" or path.startswith("/ws/"):
        names = unquote(path[len("/ws") :])
    else:
        return None
    session.streams = dict.fromkeys(name for name in names.split("/") if name)
    return session


def control(session: Session, text: str | bytes, max_streams: int) -> bytes:
    """Carry out one control request on the session and give the reply.

    Unknown stream names are acknowledged, as the exchange does: an ack proves nothing.
    """
    try:
        request = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ControlError(
            INVALID_JSON, "Invalid JSON: expected value at line 1 column 1"
        ) from None
    if not isinstance(request, dict):
        raise ControlError(INVALID_REQUEST, "Invalid request: request must be an object")
    request_id = _request_id(request)
    method = request.get("method")
    if method is None:
        raise ControlError(INVALID_REQUEST, "Invalid request: missing field `method`", request_id)
    if method not in METHODS:
        allowed = ", ".join(f"`{name}`" for name in METHODS)
        message = f"Invalid request: unknown variant `{method}`, expected one of {allowed}"
        raise ControlError(INVALID_REQUEST, message, request_id)
    result = _perform(session, method, request.get("params"), request_id, max_streams)
    return msgspec.json.encode({"result": result, "id": request_id})


def _request_id(request: dict[str, Any]) -> object:
    given = request.get("id")
    whole = isinstance(given, int) and not isinstance(given, bool) and given >= 0
    if given is None or whole or (isinstance(given, str) and len(given) <= 36):
        return given
    raise ControlError(INVALID_REQUEST, "Invalid request: request ID must be an unsigned integer")


def _perform(
    session: Session, method: str, params: object, request_id: object, max_streams: int
) -> object:
    if method == "LIST_SUBSCRIPTIONS":
        return list(session.streams)
    if not isinstance(params, list):
        message = "Invalid request: missing field `params`"
        raise ControlError(INVALID_REQUEST, message, request_id)
    if method in ("SET_PROPERTY", "GET_PROPERTY"):
        return _property(session, method, params, request_id)
    if not all(isinstance(name, str) for name in params):
        message = "Invalid request: stream name must be a string"
        raise ControlError(INVALID_REQUEST, message, request_id)
    if method == "UNSUBSCRIBE":
        for name in params:
            session.streams.pop(name, None)
        return None
    if len(session.streams | dict.fromkeys(params)) > max_streams:
        raise ControlError(TOO_MANY, "Too many subscriptions", request_id)
    session.streams.update(dict.fromkeys(params))
    return None


def _property(session: Session, method: str, params: list[Any], request_id: object) -> object:
    name = params[0] if params else None
    if not isinstance(name, str):
        message = "Invalid request: property name must be a string"
        raise ControlError(INVALID_REQUEST, message, request_id)
    if name != "combined":
        raise ControlError(0, "Unknown property", request_id)
    if method == "GET_PROPERTY":
        return session.combined
    if len(params) != 2 or not isinstance(params[1], bool):
        message = "Invalid value type: expected Boolean"
        raise ControlError(INVALID_TYPE, message, request_id)
    session.combined = params[1]
    return None


def shutdown_event(now_us: int, combined: bool, micro: bool) -> bytes:
    """The notice that the server will soon close the connection."""
    raw = b'{"e":"serverShutdown","E":%d}' % (now_us if micro else now_us // 1000)
    return b'{"stream":"!serverShutdown","data":%s}' % raw if combined else raw
