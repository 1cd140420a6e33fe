"""What the server answered: its JSON, in a shape that is known, or the error that says why there is none."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from perdure.client.errors import ApiError
from perdure.client.frames import refused
from perdure.model.json import InvalidJsonError, Json, decode

T = TypeVar("T")


def answer_of(path: str, status: int, content: bytes) -> Json:
    """The JSON of an answer, None where it is empty. Raises `ApiError` for a refusal, and for what is no JSON."""
    # What is below /api may ask for tokens of an app's users, and says so itself.
    if status == 401 and not path.startswith("/api/"):
        which = "event" if path.startswith("/e/") else "signing"
        raise ApiError(status, f"the server does not know the {which} key that was sent, or none was sent")
    if not content and status < 300:
        return None
    try:
        body = decode(content)
    except InvalidJsonError as error:
        raise ApiError(status, "the answer is not JSON; is this a perdure server?") from error
    if status < 300:
        return body
    raise refused(status, content)


def shaped(data: Json, kind: type[T]) -> T:
    """What was answered, as what it should be. Raises `ApiError` where it is something else."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ApiError(200, f"the answer has an unknown shape ({error}); is this a perdure server?") from error
