"""The skill adapters of capabilities: a catalogue of skills that can be read and downloaded over HTTP.

It executes nothing: a tool of a skill says which adapter of the same document carries it out, and how it is reached.
Files of a skill's folder are read from where the document says, and from nowhere else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.capability.locations import file_of
from perdure.capability.model import Skill
from perdure.capability.requests import CallError
from perdure.capability.rest import Face
from perdure.capability.skills import front_matter
from perdure.model.json import Json, encode

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the same skill gives the same bytes."""


class CatalogDoor:
    """Serves the skill adapters of one port."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self._faces = list(faces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = self._answer(scope)
        except CallError as error:
            body = {"error": str(error), "code": error.code, "status": error.status}
            response = Response(encode(body), error.status, media_type="application/json")
        await response(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        for face in self._faces:
            face.admission.check(headers, scope["query_string"].decode("latin-1"))
        if scope["method"] not in ("GET", "HEAD"):
            raise CallError(405, "method_not_allowed", "skills can be read alone")
        parts = [unquote(each) for each in scope["path"].strip("/").split("/")]
        if parts == ["skills"]:
            skills = [self._shown(face, each) for face in self._faces for each in face.exposure.skills]
            return _json({"count": len(skills), "skills": skills})
        if parts[0] != "skills":
            raise CallError(404, "not_found", "skills are at /skills")
        face, skill = self._find(parts[1])
        rest = parts[2:]
        if not rest:
            return _json(self._shown(face, skill))
        content = contents(face, skill)
        if rest == ["download"]:
            disposition = {"content-disposition": f'attachment; filename="{skill.name}.zip"'}
            return Response(archive(skill.name, content), 200, disposition, "application/zip")
        if rest == ["contents"]:
            return _json(
                {"name": skill.name, "files": [{"path": path, "size": len(content[path])} for path in content]}
            )
        path = "/".join(rest[1:])
        if rest[0] != "contents" or path not in content:
            raise CallError(404, "not_found", f"the skill {skill.name} has no {path or rest[0]}")
        return Response(content[path], media_type="text/plain; charset=utf-8")

    def _find(self, name: str) -> tuple[Face, Skill]:
        for face in self._faces:
            for skill in face.exposure.skills:
                if skill.name == name:
                    return face, skill
        raise CallError(404, "not_found", f"there is no skill {name}")

    def _shown(self, face: Face, skill: Skill) -> dict[str, Json]:
        kinds = {each.namespace: each.kind for each in face.performer.capability.exposures}
        tools: list[Json] = []
        for tool in skill.tools:
            shown: dict[str, Json] = {"name": tool.name, "description": tool.description}
            if tool.source:
                mode = kinds.get(tool.source, "mcp")
                shown["type"] = "derived"
                shown["invocationRef"] = {"targetNamespace": tool.source, "action": tool.action, "mode": mode}
            else:
                shown |= {"type": "instruction", "instruction": tool.instruction}
            tools.append(shown)
        return {"name": skill.name, "description": skill.description, **skill.front, "tools": tools}


def contents(face: Face, skill: Skill) -> dict[str, bytes]:
    """The files of a skill: those of its folder, or a SKILL.md made from the document."""
    found: dict[str, bytes] = {}
    if skill.location:
        root = Path(face.performer.capability.folder, file_of(skill.location)).resolve()
        for file in sorted(root.rglob("*")) if root.is_dir() else ():
            # A link may lead out of the folder.
            if file.is_file() and file.resolve().is_relative_to(root):
                found[file.relative_to(root).as_posix()] = file.read_bytes()
    found.setdefault("SKILL.md", _made(skill).encode())
    return dict(sorted(found.items()))


def _made(skill: Skill) -> str:
    lines = [f"# {skill.name}\n", f"{skill.description}\n"]
    for tool in skill.tools:
        where = f"the tool `{tool.action}` of `{tool.source}`" if tool.source else f"see `{tool.instruction}`"
        lines.append(f"- **{tool.name}**: {tool.description} ({where})")
    return front_matter({"name": skill.name, "description": skill.description, **skill.front}) + "\n".join(lines) + "\n"


def archive(name: str, content: dict[str, bytes]) -> bytes:
    """The folder of a skill as a zip file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, data in content.items():
            packed.writestr(zipfile.ZipInfo(f"{name}/{path}", _EPOCH), data)
    return made.getvalue()


def _json(value: Json) -> Response:
    return Response(encode(value), media_type="application/json")
