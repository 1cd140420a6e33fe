"""One sync: an app is asked at its URL to register, and what comes of that is told.

Out of band first, as SDKs do it by themselves: the app is asked, and sends its registration to the server that it is
set up for. If that is not this one, or it cannot reach this one, it is asked for its registration in the answer
(in band), which is enough to call it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

from perdure.apps.asking import Answer, Asker, said
from perdure.apps.places import same_place
from perdure.apps.registry import Heard, Outcome, Registry
from perdure.model.environments import is_main
from perdure.model.json import InvalidJsonError, decode
from perdure.wire import headers
from perdure.wire.registration import RegistrationError, is_url, parse_registration

_log = logging.getLogger("perdure.apps")

_TIMEOUT: Final = 10.0


class Syncer:
    """Syncs apps at their URLs."""

    def __init__(self, registry: Registry, asker: Asker) -> None:
        self._registry = registry
        self._asker = asker

    async def sync(self, url: str, others: Collection[str] = ()) -> Outcome:
        """Asks the app at a URL to register. Raises `StoreError` alone: what else goes wrong is an outcome.

        `others` are the URLs of apps that may register meanwhile on their own account.
        """
        if not is_url(url):
            return Outcome(
                error="unsupported_protocol", message=f"{url} is no http or https URL: an app is served at one"
            )
        try:
            with self._registry.listening() as heard:
                answer = await self._asker.put(url, in_band=False, timeout=_TIMEOUT)
                found = _of_url(url, answer, heard, others)
            if found is not None:
                return Outcome(found.app_id, found.error, found.message)
            if elsewhere := self._elsewhere(url, answer):
                return elsewhere
            in_band = await self._asker.put(url, in_band=True, timeout=_TIMEOUT) if _may_answer(answer) else answer
        except OSError as error:
            return _unreachable(url, error)
        if in_band.headers.get(headers.SYNC_KIND) == "in_band" and in_band.status == 200:
            return await self._take(url, in_band)
        if in_band.status == 401:
            return self._unauthorized(url)
        return self._fault(url, answer)

    async def _take(self, url: str, answer: Answer) -> Outcome:
        """A registration that came as the answer."""
        try:
            registration = parse_registration(answer.body)
            registration.url = registration.url or url
            synced = await self._registry.sync(registration)
            if synced.modified:
                _log.warning(
                    "app %s did not register here by itself: set INNGEST_DEV (or INNGEST_BASE_URL) of the app to the "
                    "URL of this server, or the events that it sends will not come here",
                    synced.app_id,
                )
        except RegistrationError as error:
            return Outcome(error=error.code or "invalid_function", message=str(error))
        return Outcome(synced.app_id)

    def _elsewhere(self, url: str, answer: Answer) -> Outcome | None:
        """What to say of an app that belongs to another environment, as SDKs tell with every answer."""
        named, ours = answer.headers.get(headers.ENV, ""), self._asker.environment
        if named == ours or (is_main(named) and is_main(ours)):
            return None
        where = "the main environment" if is_main(named) else f"the environment {named}"
        text = f"the app at {url} belongs to {where} and registers there; INNGEST_ENV of the app says which it is"
        return Outcome(error="other_environment", message=text)

    def _fault(self, url: str, answer: Answer) -> Outcome:
        reason = said(answer.body, decode)
        shown = f" ({reason})" if reason else ""
        if answer.status == 401:
            return self._unauthorized(url)
        if answer.status == 403:
            return Outcome(
                error="forbidden", message=f"{url} answered 403: something before the SDK refuses requests{shown}"
            )
        if answer.status == 404:
            text = f"{url} answered 404: is that the path at which the app serves the SDK, such as /api/inngest?"
            return Outcome(error="url_not_found", message=text)
        if answer.status >= 500:
            same_key = " with the same signing key" if self._asker.keys is not None else ""
            text = f"{url} answered {answer.status}{shown}: see the app's log; does it reach this server{same_key}?"
            return Outcome(error="internal_server_error", message=text)
        if not answer.of_sdk:
            text = f"{url} answered {answer.status}, but no SDK did: is that the URL at which the app serves it?"
            return Outcome(error="not_sdk", message=text)
        if answer.status >= 400:
            return Outcome(error="registration_failed", message=f"{url} answered {answer.status}{shown}")
        text = (
            f"the app at {url} registered with another server: set INNGEST_DEV (or INNGEST_BASE_URL) of the app to the "
            "URL of this one"
        )
        return Outcome(error="registered_elsewhere", message=text)

    def _unauthorized(self, url: str) -> Outcome:
        if self._asker.keys is None:
            text = f"the app at {url} asks for a signing key: start it with INNGEST_DEV=1, or this server with its keys"
            return Outcome(error="missing_signing_key", message=text)
        text = f"the app at {url} does not take this server's signing key: give both the same one"
        return Outcome(error="invalid_signing_key", message=text)


def _may_answer(answer: Answer) -> bool:
    """Whether asking in band may help: an SDK is there, and it did not turn the request away."""
    return answer.of_sdk and answer.status not in (401, 403, 404)


def _of_url(url: str, answer: Answer, heard: Sequence[Heard], others: Collection[str]) -> Heard | None:
    """The registration that followed from asking at a URL, among those that came in meanwhile."""
    try:
        value = decode(answer.body)
    except InvalidJsonError:
        value = None
    sync_id = value.get("sync_id") if isinstance(value, dict) else None
    for each in heard:
        if same_place(each.url, url) or (sync_id and each.sync_id == sync_id):
            return each
    # Served under another URL than the one asked at, behind a proxy say. Where several came in, who can tell?
    left = [each for each in heard if not any(same_place(each.url, other) for other in others)]
    return left[0] if len(left) == 1 and answer.of_sdk else None


def _unreachable(url: str, error: OSError) -> Outcome:
    text = (
        f"{url} cannot be reached: {error}. Is the app running, and can this machine reach it there? (In a container, "
        "localhost is the container itself.)"
    )
    return Outcome(error="unreachable", message=text)
