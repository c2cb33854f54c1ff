"""One local server: pages, JSON and pictures on 127.0.0.1 behind a token in the address.

Nothing of it can be reached from another machine; another user of this machine, or a page in the browser that
guesses the port, does not know the token and is turned away. What a path answers is looked up in a table:
no path is ever a file's.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import SimpleQueue
from typing import Any

from alharness.errors import UserError
from alharness.files import parse_json

LOG = logging.getLogger("alharness")

#: What a path answers with: a page (text) or values for JSON.
Answer = Callable[[], str | Mapping[str, Any]]
#: What is made of values that a page sends, as values for JSON.
Deed = Callable[[Any], Mapping[str, Any]]
#: A picture by what follows in the path: its type and bytes; None where there is none.
Gallery = Callable[[str], tuple[str, bytes] | None]

#: Threads that answer, all begun with the server: one that begins while foreign code is watched
#: (``border/threads.py``) would be taken for its own.
N_THREADS = 8
#: Seconds that a connection may say nothing: browsers open some in advance, and each would hold a thread.
PATIENCE_S = 5.0
#: Bytes that a page may send at once.
LONGEST = 1 << 20

#: The pages need nothing from anywhere else, and nothing else may stand in them.
_POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Server(HTTPServer):
    """Hands each connection to one of a fixed number of threads."""

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._waiting: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        super().__init__(("127.0.0.1", port), handler)
        for n in range(N_THREADS):
            threading.Thread(target=self._work, name=f"page {n}", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._waiting.put((request, client_address))

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            request, client_address = waiting
            try:
                self.finish_request(request, client_address)
            except OSError:  # the browser went away
                pass
            except Exception:
                # A fault of ours: told where it can be seen, and the thread answers on.
                LOG.exception("A request to the local page could not be answered")
            finally:
                self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that goes away is no news."""

    def server_close(self) -> None:
        super().server_close()
        for _ in range(N_THREADS):
            self._waiting.put(None)


class LocalServer:
    """Answers ``http://127.0.0.1:PORT/TOKEN/PATH``.

    Args:
        answers: path -> what it gives; ``""`` is the page itself.
        deeds: path -> what is done with values that are sent there.
        gallery: answers paths below ``picture/``.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer],
        *,
        deeds: Mapping[str, Deed] | None = None,
        gallery: Gallery = lambda name: None,
        port: int = 0,
    ) -> None:
        self.token = secrets.token_urlsafe(12)
        handler = _handler(dict(answers), dict(deeds or {}), gallery, self.token)
        try:
            self._server = _Server(port, handler)
        except OSError as error:
            raise UserError(
                f"Port {port} of this machine cannot be used ({error.strerror}). Try another --port."
            ) from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.token}/"

    def serve(self) -> None:
        """Answer until ``close``, or an interrupt."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering; from another thread than the one that serves."""
        self._server.shutdown()
        self._server.server_close()


def _handler(
    answers: dict[str, Answer], deeds: dict[str, Deed], gallery: Gallery, token: str
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "alharness"
        sys_version = ""
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            path = self._path()
            if path is not None and path.startswith("picture/"):
                found = gallery(path.removeprefix("picture/"))
                if found is not None:
                    self._send(HTTPStatus.OK, *found)
                    return
            elif path in answers:
                answer = answers[path]()
                if isinstance(answer, str):
                    self._send(HTTPStatus.OK, "text/html; charset=utf-8", answer.encode())
                else:
                    self._json(HTTPStatus.OK, answer)
                return
            self.send_error(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            path = self._path()
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LONGEST:
                self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "Too long."})
                return
            # Read in any case: a connection that is closed over what was sent may lose the answer.
            body = self.rfile.read(int(length))
            if path not in deeds:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            # A form of another page can send neither this type nor with it, unless the server allows it.
            if self.headers.get_content_type() != "application/json":
                self._json(HTTPStatus.BAD_REQUEST, {"error": "Expected JSON."})
                return
            try:
                done = deeds[path](parse_json(body))
            except (UserError, ValueError) as error:
                self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            else:
                self._json(HTTPStatus.OK, done)

        def _path(self) -> str | None:
            """What follows the token; None for whoever does not know it."""
            port = self.connection.getsockname()[1]
            # A page elsewhere whose name was pointed at 127.0.0.1 has another Host, and says its Origin.
            hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
            origin = self.headers.get("Origin")
            _, _, rest = self.path.partition("/")
            given, _, path = rest.partition("?")[0].partition("/")
            known = secrets.compare_digest(given.encode(), token.encode())
            at_home = self.headers.get("Host") in hosts
            own = origin is None or origin.removeprefix("http://") in hosts
            return path if known and at_home and own else None

        def _json(self, status: HTTPStatus, values: Mapping[str, Any]) -> None:
            body = json.dumps(values, allow_nan=False).encode()
            self._send(status, "application/json; charset=utf-8", body)

        def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", _POLICY)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: a request a few seconds is no news."""

    return Handler
