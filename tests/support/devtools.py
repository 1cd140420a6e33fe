"""A page of Chromium, driven over the DevTools protocol: what a test does to it, and what the page did.

One WebSocket carries everything: answers find their call by id, events their page by session. A page notes what a test
must be able to rule out: errors, texts on its console, and every address that it asked.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from perdure.model.json import Json

PATIENCE = 15.0
_KEYS = {
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "Escape": (27, ""),
    " ": (32, " "),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
}


class DevToolsError(Exception):
    """The browser refused a call, or a script in the page threw; the text is what it said."""


class DevTools:
    """The connection to a browser. `listen` runs as long as it is in use."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls: dict[int, asyncio.Future[Json]] = {}
        self._pages: dict[str, Page] = {}
        self._last = 0

    async def call(self, method: str, session: str | None = None, /, **params: Json) -> Json:
        """Calls a method of the protocol. Raises `DevToolsError`."""
        self._last += 1
        answer = self._calls[self._last] = asyncio.get_running_loop().create_future()
        whole = {"id": self._last, "method": method, "params": params}
        await self._socket.send_json(whole if session is None else whole | {"sessionId": session})
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def listen(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            call = self._calls.pop(told.get("id", 0), None)
            if call is None:
                page = self._pages.get(told.get("sessionId", ""))
                if page is not None:
                    page.happened(told["method"], told["params"])
            elif not call.done():
                if "error" in told:
                    call.set_exception(DevToolsError(told["error"]["message"]))
                else:
                    call.set_result(told["result"])
        for call in self._calls.values():
            call.cancel()

    async def open(self) -> Page:
        """An empty page, with storage of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"], context)
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            await page.call(f"{domain}.enable")
        return page

    async def close(self, page: Page) -> None:
        del self._pages[page.session]
        await self.call("Target.disposeBrowserContext", browserContextId=page.context)


class Page:
    """A page. `errors` has uncaught errors and what its console says of errors, `requests` every address it asked."""

    def __init__(self, tools: DevTools, session: str, context: str) -> None:
        self.session, self.context = session, context
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._tools = tools

    async def call(self, method: str, /, **params: Json) -> Json:
        """A method of the protocol, of this page."""
        return await self._tools.call(method, self.session, **params)

    def happened(self, method: str, params: Mapping[str, Json]) -> None:
        match method:
            case "Runtime.exceptionThrown":
                thrown = params["exceptionDetails"]
                self.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case _:
                pass

    async def goto(self, url: str) -> None:
        """Loads a page, and waits until its modules have run."""
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        # The document that was there before is complete, too.
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def run(self, script: str) -> Json:
        """The value of an expression, awaited if it is a promise. Raises `DevToolsError` if it throws."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise DevToolsError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    async def until(self, script: str, seconds: float = PATIENCE) -> Json:
        """The value of an expression, once it is truthy. Raises `AssertionError` with the text of the page."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        # An element has no value of its own, and comes as an empty object: that is one, too.
                        if (found := await self.run(script)) not in (None, False, 0, "", []):
                            return found
                    except DevToolsError as error:
                        # While a page is replaced by another one there is nothing to ask.
                        if "context" not in str(error):
                            raise
                    await asyncio.sleep(0.02)
        except TimeoutError:
            text = await self.run("document.body?.innerText ?? ''")
            raise AssertionError(f"never true: {script}\nerrors: {self.errors}\npage: {text}") from None

    async def text(self, selector: str) -> str:
        """What is shown of the first element that matches."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def click(self, selector: str) -> None:
        """A click of the mouse in the middle of the first element that matches."""
        found = f"document.querySelector({json.dumps(selector)})"
        x, y = await self.until(
            f"(() => {{ const e = {found}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
            " const box = e.getBoundingClientRect();"
            " return box.width ? [box.x + box.width / 2, box.y + box.height / 2] : null })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def write(self, selector: str, text: str) -> None:
        """Replaces what is in a field, as a user does who selects all and writes."""
        await self.run(f"(e => (e.focus(), e.select?.()))(document.querySelector({json.dumps(selector)}))")
        await self.call("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """A key: "Enter", "Tab", "Escape", " ", an arrow, or a character."""
        code, text = _KEYS.get(key, (ord(key[0].upper()), key))
        shared = {"key": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    async def resize(self, width: int, height: int) -> None:
        """The size of the window, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def prefer(self, **features: str) -> None:
        """What the user prefers: `color_scheme="dark"`, `reduced_motion="reduce"`, `contrast="more"`."""
        named = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=named)

    async def roles(self) -> list[tuple[str, str]]:
        """What assistive technology is told: (role, name) of all that is not ignored, in order."""
        nodes = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        shown = [node for node in nodes if not node["ignored"] and "role" in node]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown]

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))
