"""A provider of models that answers like the real ones, as far as a test can tell; and an echo of any request."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        url = urlsplit(self.path)
        if url.path == "/v1/chat/completions":
            heard = body["messages"][0]["content"]
            said = f"{body['model']} heard {heard} from {self.headers['authorization']}"
            answer: dict[str, object] = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]}
        else:
            answer = {"query": url.query, "asked": self.headers["x-asked"], "body": body}
        content = json.dumps(answer).encode()
        self.send_response(200 if url.path.startswith("/v1/") else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """It is quiet."""


@contextmanager
def provider() -> Generator[str, None, None]:
    """Its address, while it runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
