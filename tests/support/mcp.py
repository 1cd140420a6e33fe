"""A plain client of MCP over HTTP: one request, one answer, of the stateless revision or of an older one."""

from __future__ import annotations

import json

import httpx2

from perdure.model.json import Json

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")


class Rpc:
    """Asks one endpoint; `revision` is that of all requests."""

    def __init__(self, http: httpx2.AsyncClient, path: str = "/mcp", revision: str = MODERN, **headers: str) -> None:
        self.http = http
        self.path = path
        self.revision = revision
        self.headers = headers

    async def ask(self, method: str, **params: Json) -> httpx2.Response:
        """The answer to a request as it came."""
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": self.revision}
        if self.revision == MODERN:
            headers["mcp-method"] = method
            name = params.get("name") or params.get("uri")
            if name:
                headers["mcp-name"] = name
            meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                **params.pop("meta", {}),
            }
            params["_meta"] = meta
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.http.post(self.path, json=body, headers={**headers, **self.headers})

    async def result(self, method: str, **params: Json) -> Json:
        """The result of a request; fails for an error."""
        answer = _body(await self.ask(method, **params))
        assert "result" in answer, answer
        return answer["result"]

    async def error(self, method: str, **params: Json) -> Json:
        """The error of a request; fails for a result."""
        answer = _body(await self.ask(method, **params))
        assert "error" in answer, answer
        return answer["error"]

    async def call(self, tool: str, **given: Json) -> Json:
        """The result of a tool."""
        return await self.result("tools/call", name=tool, arguments=given)


def _body(response: httpx2.Response) -> Json:
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        return json.loads(lines[-1])
    return response.json()
