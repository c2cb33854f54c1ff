"""One local server: pages and JSON on 127.0.0.1 behind a token in the address.

Nothing of it can be reached from another machine; another user of this machine, or a page in the browser that
guesses the port, does not know the token and is turned away.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alharness.errors import UserError

#: What a path answers with: a page (text) or values for JSON.
Answer = Callable[[], str | Mapping[str, Any]]


class LocalServer:
    """Answers ``http://127.0.0.1:PORT/TOKEN/PATH``.

    Args:
        answers: path -> what it gives; ``""`` is the page itself.
        port: 0 takes a free one.
        token: of the address; random by default.

    Raises:
        UserError: the port is taken.
    """

    def __init__(
        self, answers: Mapping[str, Answer], *, port: int = 0, token: str | None = None
    ) -> None:
        self.token = token or secrets.token_urlsafe(12)
        try:
            self._server = ThreadingHTTPServer(
                ("127.0.0.1", port), _handler(dict(answers), self.token)
            )
        except OSError as error:
            raise UserError(
                f"Port {port} of this machine cannot be used ({error.strerror}). Try another --port."
            ) from error
        self._server.daemon_threads = True

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


def _handler(answers: dict[str, Answer], token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "alharness"
        sys_version = ""

        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            # A page elsewhere whose name was pointed at 127.0.0.1 has another Host.
            hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
            _, _, rest = self.path.partition("/")
            given, _, path = rest.partition("?")[0].partition("/")
            known = secrets.compare_digest(given.encode(), token.encode())
            if not known or self.headers.get("Host") not in hosts or path not in answers:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            answer = answers[path]()
            kind = "text/html" if isinstance(answer, str) else "application/json"
            text = answer if isinstance(answer, str) else json.dumps(answer, allow_nan=False)
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: a request a few seconds is no news."""

    return Handler
