"""Follows the agent's stream over HTTP as a browser would: event by event, and on from the last one it has heard."""

from __future__ import annotations

import contextlib
import json

import aiohttp
import click

from perdure.cli.demo.show import Show
from perdure.client.sse import SseParser
from perdure.model.json import Json


class Observer:
    """What was heard. `kept` are the chunks that stand, by their places; `suspended` is the last open question.

    What is heard is shown, if there is a `show`.
    """

    def __init__(self, url: str, show: Show | None) -> None:
        self.url = url
        self.last_id = ""
        self.heard: list[int] = []
        self.kept: dict[int, dict[str, Json]] = {}
        self.taken_back: list[str] = []
        self.suspended: dict[str, Json] | None = None
        self.over = False
        self._show = show
        self._saying = ""

    @property
    def text(self) -> str:
        """The texts that stand."""
        return "".join(_text(said) for said in self.kept.values())

    @property
    def saying(self) -> str:
        """What the model is about to say."""
        return self._saying

    async def follow(self, http: aiohttp.ClientSession) -> None:
        """Hears what there is until the stream ends, or breaks off."""
        self.suspended = None
        parser = SseParser()
        headers = {"last-event-id": self.last_id} if self.last_id else {}
        # A server that dies says nothing; whoever plays the part knows.
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(self.url, headers=headers) as response:
                response.raise_for_status()
                async for piece in response.content.iter_any():
                    for event in parser.feed(piece):
                        self._hear(event.id, json.loads(event.data))

    def _hear(self, id: str | None, said: dict[str, Json]) -> None:
        payload = said.get("payload") or {}
        if id is not None:
            self.last_id = id
            self.heard.append(int(id))
            self.kept[int(id)] = said
        match said["type"]:
            case "text-delta":
                self._saying += payload["text"]
            case "step-rollback":
                first = payload["fromIndex"]
                gone = "".join(_text(each) for place, each in self.kept.items() if place >= first)
                self.kept = {place: each for place, each in self.kept.items() if place < first}
                self.taken_back.append(gone)
                self._say(click.style(f"“{gone}”", strikethrough=True, dim=True) + "  taken back")
                self._saying = ""
            case "tool-call" | "step-finish" if self._saying:
                self._say(f"“{self._saying}”")
                self._saying = ""
            case "tool-result":
                self._say(f"{payload['toolName']}({json.dumps(payload['args'])}) = {json.dumps(payload['result'])}")
            case "suspended":
                self.suspended = payload
            case "finish":
                self.over = True
            case _:
                pass

    def _say(self, line: str) -> None:
        if self._show is not None:
            self._show.say(line)


def _text(said: dict[str, Json]) -> str:
    text: str = said["payload"]["text"] if said["type"] == "text-delta" else ""
    return text
