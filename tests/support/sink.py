"""A webhook that keeps what it is sent."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "hush-7f3a9c"


class Sink:
    """A webhook on loopback: keeps what it was sent, answers as told."""

    def __init__(self) -> None:
        sink = self
        self.received: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.answer: Callable[[int], int] = lambda _: 200
        self.tried = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.tried += 1
                status = sink.answer(sink.tried)
                if status == 200:
                    sink.times.append(time.time())
                    sink.received.append(json.loads(body))
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, query: str = "") -> str:
        port = self._server.server_address[1]
        return f"json://desk:{SECRET}@127.0.0.1:{port}/{SECRET}{query}"

    @property
    def alerts(self) -> list[int]:
        """The numbers of the alerts received, in their order."""
        return [int(str(body["message"]).rsplit("alert ", 1)[1]) for body in self.received]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
