"""HTTP responses: plain, refusing, and spoilt ones."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Response

LOCATION = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you "
    "received this message in error."
)
TOO_MUCH = (
    "Too much request weight used; current limit is {} request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API."
)


def http_response(
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    kind: str = "application/json;charset=UTF-8",
) -> Response:
    """An HTTP response that ends its connection."""
    known = {s.value: s.phrase for s in HTTPStatus}
    fields = Headers()
    fields["Content-Type"] = kind
    fields["Content-Length"] = str(len(body))
    fields["Connection"] = "close"
    for name, value in (headers or {}).items():
        fields[name] = value
    return Response(status, known.get(status, "Unknown"), fields, body)


def html_page(status: int) -> Response:
    """A refusal by something in front of the exchange."""
    page = f"<html><head><title>{status}</title></head><body>{status}</body></html>"
    return http_response(status, page.encode(), kind="text/html")


def spoilt(how: str, status: int, body: bytes) -> Response:
    """An answer with another body: html, truncated or empty."""
    spoil: dict[str, Callable[[], bytes]] = {
        "html": lambda: b"<html><body>Bad gateway</body></html>",
        "truncated": lambda: body[: len(body) // 2],
    }
    return http_response(status, spoil.get(how, lambda: b"")())
