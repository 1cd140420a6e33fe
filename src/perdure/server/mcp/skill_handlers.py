"""The skills extension (SEP-2640): skills are listed with the digests of their files, which are read as resources.

A file is `skill://NAME/PATH`. Nothing of a skill but its front matter is told before it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from perdure.model.json import Json
from perdure.server.mcp.offering import Caller, Content, Resource, Skill

EXTENSION = "io.modelcontextprotocol/skills"
_DIRECTORY = "inode/directory"
_MEDIA = {
    ".md": "text/markdown",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".py": "text/x-python",
}
Context: TypeAlias = ServerRequestContext[Json, Json]


class UriParams(types.RequestParams):
    """The parameters of requests about one skill, or one directory."""

    uri: str


def add(server: Server[Json], skills: Sequence[Skill], ttl: int) -> None:
    """Lets a server speak of skills; lists may be kept for `ttl` (ms)."""
    handlers = _Handlers(skills, ttl)
    server.extensions[EXTENSION] = {"directoryRead": True}
    server.add_request_handler("skills/list", types.PaginatedRequestParams, handlers.list)
    server.add_request_handler("skills/get", UriParams, handlers.get)
    server.add_request_handler("resources/directory/read", UriParams, handlers.directory)


def resources(skills: Sequence[Skill]) -> Iterator[Resource]:
    """The files of skills."""
    for skill in skills:
        for path, data in skill.files.items():
            manifest = path == "SKILL.md"
            yield Resource(
                uri=f"skill://{skill.name}/{path}",
                name=skill.name if manifest else f"{skill.name}/{path}",
                description=str(skill.front.get("description", "")) if manifest else "",
                media_type=_media(path),
                read=_reader(path, data),
            )


def _media(path: str) -> str:
    return _MEDIA.get(path[path.rfind(".") :], "text/plain") if "." in path else "text/plain"


def _reader(path: str, data: bytes) -> Json:
    async def read(values: dict[str, str], caller: Caller) -> Content:
        try:
            return Content(_media(path), data.decode())
        except UnicodeDecodeError:
            return Content("application/octet-stream", None, data)

    return read


class _Handlers:
    def __init__(self, skills: Sequence[Skill], ttl: int) -> None:
        self._entries = {f"skill://{each.name}/SKILL.md": _entry(each) for each in skills}
        self._directories = dict(_directories(skills))
        self._kept: dict[str, Json] = {"ttlMs": ttl, "cacheScope": "private"}

    async def list(self, ctx: Context, params: types.PaginatedRequestParams) -> dict[str, Json]:
        return {"skills": [*self._entries.values()], **self._kept}

    async def get(self, ctx: Context, params: UriParams) -> dict[str, Json]:
        entry = self._entries.get(params.uri)
        if entry is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown skill: {params.uri}", {"uri": params.uri})
        return {"skill": entry, **self._kept}

    async def directory(self, ctx: Context, params: UriParams) -> dict[str, Json]:
        children = self._directories.get(params.uri.rstrip("/"))
        if children is None:
            raise MCPError(types.INVALID_PARAMS, f"Not a directory: {params.uri}", {"uri": params.uri})
        return {"resources": children, **self._kept}


def _entry(skill: Skill) -> dict[str, Json]:
    return {
        "uri": f"skill://{skill.name}/SKILL.md",
        "frontmatter": dict(skill.front),
        "resources": [
            {
                "uri": f"skill://{skill.name}/{path}",
                "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "size": len(data),
            }
            for path, data in skill.files.items()
        ],
    }


def _directories(skills: Sequence[Skill]) -> Iterator[tuple[str, list[Json]]]:
    for skill in skills:
        root = f"skill://{skill.name}"
        found: dict[str, dict[str, Json]] = {root: {}}
        for path in skill.files:
            at = root
            *folders, name = path.split("/")
            for folder in folders:
                below = f"{at}/{folder}"
                found[at][folder] = {"uri": below, "name": folder, "mimeType": _DIRECTORY}
                found.setdefault(below, {})
                at = below
            found[at][name] = {"uri": f"{at}/{name}", "name": name, "mimeType": _media(path)}
        for uri, children in found.items():
            yield uri, list(children.values())
