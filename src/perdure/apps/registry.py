"""The apps on other servers: registered, remembered over restarts, and made callable.

A sync puts an app's functions in force and keeps a row of the app, in one transaction. One that says what the last one
said changes nothing. When the server starts, every stored function of such an app is callable at once: runs go on and
schedules tick whether or not the app registers again.

URLs are kept as the app gave them. A server that turns every loopback address into "localhost" cannot reach an app
that listens on 127.0.0.1 alone where that name leads to ::1 first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from perdure.apps.places import same_place
from perdure.apps.settings import Polling
from perdure.engine import apps, intake, reads
from perdure.engine.catalogue import Catalogue, CompiledFunction, compile_function
from perdure.model.config import FunctionConfig, encode_config
from perdure.model.errors import ConfigError, StoreError
from perdure.model.records import AppMethod, AppRow
from perdure.runner.residence import Code
from perdure.runner.runner import Runner
from perdure.wire.registration import INVALID_FUNCTION, Registration, RegistrationError, spelled

_log = logging.getLogger("perdure.apps")

_DENIED: Final = "sdk_version_denied"
_SHOWN: Final = 2000
"""How much is kept of what is wrong with a registration (characters): an app may be wrong at length."""
_CVE: Final = "CVE-2026-42047"


class Synced(msgspec.Struct, frozen=True):
    """What came of a sync. `modified` is False when the app had registered the same before."""

    app_id: str
    sync_id: str
    modified: bool


class Heard(msgspec.Struct, frozen=True):
    """A registration that came in: from which app, where it is served, and why it was refused, if it was.

    `error` is a machine word, `message` says what to mend.
    """

    app_id: str
    url: str
    sync_id: str
    error: str = ""
    message: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a sync: the app that registered, or `error` (a machine word) and what to do about it."""

    app_id: str = ""
    error: str = ""
    message: str = ""


class Registry:
    """The apps on other servers that a node knows.

    `code_of` makes the functions of such an app callable. `registering` is the node's lock on changes of its
    functions, `is_local` says whether an app is one in this process, `entropy` gives the bytes of ids. Functions that
    are not `is_reachable` now (their worker has yet to be ready) are made callable by whoever finds them so. With
    `deny_vulnerable`, SDKs with a known hole are turned away; otherwise the log warns of them.
    """

    def __init__(
        self,
        runner: Runner,
        code_of: Callable[[FunctionConfig], Code],
        registering: asyncio.Lock,
        is_local: Callable[[str], bool],
        entropy: Callable[[int], bytes],
        is_reachable: Callable[[FunctionConfig], bool] = lambda _: True,
    ) -> None:
        self.deny_vulnerable = False
        self.polling = Polling(interval=0)
        """How apps are kept synced, by whoever does it."""
        self.sync_at: Callable[[str], Awaitable[Outcome]] | None = None
        """Syncs the app at a URL now; None where nobody asks apps. Raises `StoreError`."""
        self.synced_any = False
        """Whether an app has registered since the start."""
        self.changed = asyncio.Event()
        """Set when an app is awaited that was not before. Whoever polls clears it."""
        self._runner = runner
        self._decider = runner.decider
        self._code_of = code_of
        self._registering = registering
        self._is_local = is_local
        self._entropy = entropy
        self._is_reachable = is_reachable
        self._rows: dict[str, AppRow] = {}
        self._awaited: dict[str, AppRow] = {}
        self._listeners: list[list[Heard]] = []
        self._last_refusal = ""

    async def load(self) -> None:
        """Makes callable what is stored. The node calls it when its catalogue is there, before anything runs."""
        self._rows = {row.id: row for row in await self._decider.view(reads.apps)}
        functions = self._decider.catalogue.functions.values()
        self._make_callable(function.config for function in functions if function.config.url is not None)

    # What is known.

    def apps(self) -> list[AppRow]:
        """The apps by their ids, and after them the URLs at which one is awaited (their id is the URL)."""
        awaited = sorted(self._awaited.values(), key=lambda row: row.id)
        return sorted(self._rows.values(), key=lambda row: row.id) + awaited

    def get(self, app_id: str) -> AppRow | None:
        """An app, or an awaited one, by its id."""
        return self._rows.get(app_id) or self._awaited.get(app_id)

    def find(self, name: str) -> AppRow | None:
        """An app, or an awaited one, by its id or its URL."""
        return self.get(name) or next((row for row in self.apps() if same_place(row.url, name)), None)

    # Registering.

    async def sync(self, registration: Registration, *, method: AppMethod = "serve") -> Synced:
        """Puts what an app registers in force. Raises `RegistrationError`, `StoreError`."""
        app_id, sync_id = registration.app_id, str(UUID(bytes=self._entropy(16), version=4))
        synced = Synced(app_id, sync_id, await self._sync(registration, method, sync_id))
        self.synced_any = True
        self._tell(Heard(app_id, registration.url, sync_id))
        return synced

    async def _sync(self, registration: Registration, method: AppMethod, sync_id: str) -> bool:
        async with self._registering:
            app_id, now = registration.app_id, self._decider.clock.now()
            row = self._rows.get(app_id)
            if row is not None and self._is_known(row, registration, method):
                await self.recovered(app_id)
                return False
            self._check(registration)
            row = AppRow(
                app_id,
                method,
                registration.url,
                registration.sdk,
                registration.framework,
                registration.app_version,
                registration.checksum,
                sync_id,
                row.created_at if row else now,
                now,
            )
            configs = list(registration.functions)
            before = self._ids_of(app_id)
            self._put_in_force(await self._decider.decide(apps.sync, row, configs))
            self._rows[app_id] = row
            for other in self._supplanted(row):
                await self._forget(other)
        self._runner.drop(before - {config.id for config in configs})
        self._make_callable(configs)
        # What was blocked under the old limits, or waited for its code, competes under the new ones.
        try:
            await self._decider.decide(intake.unblock, configs)
        except StoreError:
            # The next sync must not pass for known: the runs would wait for ever.
            row.checksum = ""
            raise
        self._report(registration)
        return True

    def _supplanted(self, row: AppRow) -> list[AppRow]:
        """The apps that were served where another one is now: renamed, or stopped. Calls of theirs would reach it."""
        if row.method != "serve":
            return []
        others = [other for other in self._rows.values() if other.id != row.id and other.method == "serve"]
        return [other for other in others if same_place(other.url, row.url)]

    async def _forget(self, row: AppRow) -> None:
        before = self._ids_of(row.id)
        self._put_in_force(await self._decider.decide(apps.remove, row.id))
        del self._rows[row.id]
        self._runner.drop(before)
        _log.info("app %s removed; its functions are archived", row.id)

    def _is_known(self, row: AppRow, registration: Registration, method: AppMethod) -> bool:
        if row.checksum != registration.checksum or row.method != method:
            return False
        # A newer perdure may read the same document otherwise; and what is stored may not be in force.
        functions = self._decider.catalogue.functions.values()
        known = {each.id: encode_config(each.config) for each in functions if each.app_id == row.id}
        return known == {config.id: encode_config(config) for config in registration.functions}

    def _ids_of(self, app_id: str) -> set[str]:
        return {each.id for each in self._decider.catalogue.functions.values() if each.app_id == app_id}

    def _put_in_force(self, functions: Iterable[CompiledFunction]) -> None:
        self._decider.catalogue = Catalogue(functions)

    def _make_callable(self, configs: Iterable[FunctionConfig]) -> None:
        reachable: list[FunctionConfig] = []
        for config in configs:
            if self._is_reachable(config):
                reachable.append(config)
            else:
                self._runner.drop([config.id])
        self._runner.use(self._code_of(config) for config in reachable)

    def _check(self, registration: Registration) -> None:
        """What only the server can know, or needs its expressions and schedules to find out."""
        if self.deny_vulnerable and registration.vulnerable:
            error = f"App sync was blocked because {registration.sdk} has {_CVE}; install inngest 3.54.0 or newer"
            raise RegistrationError(error, code=_DENIED)
        if self._is_local(registration.app_id):
            details = [f"app {registration.app_id}: runs in the server's process; give one of the two another id"]
            raise RegistrationError("App ID is taken", details)
        problems: list[str] = []
        for config in registration.functions:
            problems += [f"function {config.id}: {problem}" for problem in self._problems(config)]
        if problems:
            raise RegistrationError(INVALID_FUNCTION, problems)

    def _problems(self, config: FunctionConfig) -> list[str]:
        other = self._decider.catalogue.get(config.id)
        if other is not None and other.app_id != config.app_id:
            return [f"id: is that of a function of the app {other.app_id}"]
        try:
            compile_function(config)
        except ConfigError as error:
            return [spelled(problem) for problem in error.problems]
        return []

    def _report(self, registration: Registration) -> None:
        count = len(registration.functions)
        where = registration.url or "a worker that connected"
        _log.info("app %s synced, %s function%s at %s", registration.app_id, count, "" if count == 1 else "s", where)
        for warning in registration.warnings:
            _log.warning("app %s: %s", registration.app_id, warning)
        if registration.vulnerable:
            _log.warning(
                "app %s: its SDK %s has %s: install inngest 3.54.0 or newer",
                registration.app_id,
                registration.sdk,
                _CVE,
            )

    async def refused(self, error: RegistrationError) -> None:
        """Notes that a registration was refused, as far as it is known whose it was."""
        app_id, url, code = error.app_id, error.url, error.code or "invalid_function"
        row = self._rows.get(app_id) or self.find(url)
        if row is not None:
            await self.failed(row.id, code, str(error))
        elif str(error) != self._last_refusal:
            # Who polls is refused again and again.
            self._last_refusal = str(error)
            _log.warning("the registration of %s was refused: %s", app_id or url or "an app", str(error)[:_SHOWN])
        self._tell(Heard(app_id, url, "", code, str(error)))

    # Errors of syncs.

    async def failed(self, name: str, code: str, message: str) -> None:
        """Notes why an app, or an awaited one, could not be synced. The log is told when that changes."""
        message = message[:_SHOWN]
        row = self.find(name)
        if row is not None and (row.error, row.message) != (code, message):
            _log.warning("%s", message if row.id == row.url else f"app {row.id}: {message}")
            await self._note(row, code, message)

    async def recovered(self, app_id: str) -> None:
        """Notes that nothing is wrong with an app any more."""
        row = self.find(app_id)
        if row is not None and row.error is not None:
            _log.info("app %s is back, at %s", app_id, row.url)
            await self._note(row, None, None)

    async def _note(self, row: AppRow, code: str | None, message: str | None) -> None:
        row.error, row.message = code, message
        if row.id in self._rows:
            await self._decider.decide(apps.note, row)

    # URLs at which an app is awaited.

    def add(self, url: str) -> AppRow:
        """Awaits an app at a URL: whoever polls syncs it. Nothing is stored until an app answers there."""
        found = self.find(url)
        if found is None:
            now = self._decider.clock.now()
            found = self._awaited[url] = AppRow(url, "serve", url, "", "", "", "", "", now, now)
            self.changed.set()
        return found

    def arrived(self, url: str) -> None:
        """There is an app at a URL: it is awaited no longer."""
        self._awaited.pop(url, None)

    # The end.

    async def remove(self, name: str) -> bool:
        """Forgets an app by its id, or all at a URL, and archives their functions; False when there is no such app.

        An app that is still served registers again with its next sync. Raises `StoreError`.
        """
        async with self._registering:
            rows = [row for row in self.apps() if row.id == name or same_place(row.url, name)]
            for row in rows:
                if self._awaited.pop(row.id, None) is None:
                    await self._forget(row)
            return bool(rows)

    async def hand_over(self, app_id: str) -> None:
        """An app of this process takes over the functions of one on another server, before it registers its own."""
        if self._rows.pop(app_id, None) is not None:
            # Runs of functions that it does not have must not call the other server any more.
            self._runner.drop(self._ids_of(app_id))
            await self._decider.decide(apps.hand_over, app_id)

    # For whoever asks an app to register.

    @contextlib.contextmanager
    def listening(self) -> Generator[Sequence[Heard]]:
        """The registrations that come in while the block runs."""
        heard: list[Heard] = []
        self._listeners.append(heard)
        try:
            yield heard
        finally:
            self._listeners = [other for other in self._listeners if other is not heard]

    def _tell(self, heard: Heard) -> None:
        for listener in self._listeners:
            listener.append(heard)
