"""A judge on loopback with an OpenAI-compatible API, for tests: it counts, refuses and dies as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Verdict = Callable[[dict[str, Any]], "str | tuple[int, str]"]
FIRST = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
SECOND = "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"


def shown_answers(body: dict[str, Any]) -> tuple[str, str]:
    """Returns the two answers in the order in which the judge sees them (prompt of alpaca_eval_gpt4)."""
    text = body["messages"][-1]["content"]
    first, second = (part.split('"""\n    }', 1)[0] for part in text.split('"answer": """')[1:])
    return first, second


def prefers(better: Callable[[str], Any]) -> Verdict:
    """Returns a judge that ranks first the answer of which `better` is larger."""

    def verdict(body: dict[str, Any]) -> str:
        first, second = shown_answers(body)
        return FIRST if better(first) > better(second) else SECOND

    return verdict


class JudgeServer:
    """The server.

    Args:
        verdict: from a request's body, the answer's text, or a status and a message.
        key: which it asks for; None takes everybody.
    """

    def __init__(self, verdict: Verdict, key: str | None = None):
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self._verdict, self._key = verdict, key
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(200, {"object": "list", "data": []}) if self._admitted() else None

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self._admitted():
                    return
                outer.bodies.append(body)
                outer.keys.append(self.headers.get("Authorization"))
                said = outer._verdict(body)
                if isinstance(said, tuple):
                    self._reply(said[0], {"error": {"message": said[1]}})
                    return
                message = {"role": "assistant", "content": said}
                choice = {"index": 0, "finish_reason": "stop", "message": message, "text": said}
                self._reply(
                    200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                )

            def _admitted(self) -> bool:
                if outer._key is None or self.headers.get("Authorization") == f"Bearer {outer._key}":
                    return True
                self._reply(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
                return False

            def _reply(self, status: int, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> JudgeServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
