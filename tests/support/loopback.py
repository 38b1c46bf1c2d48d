"""The loopback interface: a JSON server, for programs that talk to somebody's API, and whether a server is up."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = Any | Callable[..., Any]
"""A value that becomes JSON, or a function of the query's parameters that gives one."""


class JsonServer:
    """What `serve` gives.

    Attributes:
        url: Where it listens, without a slash at the end.
        requests: How often each path was asked for.
        failures: How often each path still has to answer with status 503.
    """

    def __init__(self, url: str, answers: Mapping[str, Answer]) -> None:
        self.url = url
        self.answers = dict(answers)
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, target: str) -> tuple[int, Any]:
        """The status and the value for a request."""
        parts = urlsplit(target)
        with self._lock:
            self.requests[parts.path] += 1
            if self.failures[parts.path] > 0:
                self.failures[parts.path] -= 1
                return 503, {"error": "try again"}
        if parts.path not in self.answers:
            return 404, {"error": f"no {parts.path}"}
        answer = self.answers[parts.path]
        return 200, answer(**dict(parse_qsl(parts.query))) if callable(answer) else answer


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether anybody does, there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serve(answers: Mapping[str, Answer]) -> Iterator[JsonServer]:
    """Serve JSON by path, on a port of the system's choice."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, value = known.answer(self.path)
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known = JsonServer(f"http://127.0.0.1:{server.server_port}", answers)
        thread = threading.Thread(target=server.serve_forever, name="loopback-server")
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
