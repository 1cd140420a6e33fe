"""Credentials for upstreams: basic, bearer, API keys, and the challenge and response of digest (RFC 7616).

Their texts are templates over variables alone: nothing that a caller sends becomes a credential.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from perdure.capability.binding import Variables
from perdure.capability.model import Authentication
from perdure.capability.templates import TemplateError, as_text, render
from perdure.capability.upstream import Request

_CHALLENGE = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"md5": hashlib.md5, "sha-256": hashlib.sha256, "": hashlib.md5}


class CredentialError(ValueError):
    """Credentials that cannot be made; the text says why."""


def secret(authentication: Authentication, field: str, variables: Variables, default: str | None = None) -> str:
    """A field of an authentication with its variables filled in. Raises `CredentialError`."""
    given = authentication.settings.get(field, default)
    if given is None:
        raise CredentialError(f"{authentication.kind} authentication needs {field}")
    text = str(given)
    try:
        if text.startswith("$env."):
            return variables(text)
        return as_text(render(as_text(variables.constant(text)), variables))
    except (TemplateError, KeyError) as error:
        raise CredentialError(f"{field} of {authentication.kind} authentication: {error}") from error


def authorize(request: Request, authentication: Authentication, variables: Variables) -> Request:
    """A request with credentials; that of digest comes after the challenge. Raises `CredentialError`."""
    kind = authentication.kind
    if kind == "bearer":
        return _with_header(request, "authorization", f"Bearer {secret(authentication, 'token', variables)}")
    if kind == "basic":
        pair = f"{secret(authentication, 'username', variables)}:{secret(authentication, 'password', variables, '')}"
        return _with_header(request, "authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    if kind == "apikey":
        key, value = secret(authentication, "key", variables), secret(authentication, "value", variables)
        if authentication.settings.get("placement", "header") == "query":
            return msgspec.structs.replace(request, query=[*request.query, (key, value)])
        return _with_header(request, key.lower(), value)
    if kind == "digest":
        return request
    raise CredentialError(f"{kind} authenticates callers of this capability; to an upstream it says nothing")


def answer_challenge(
    request: Request, challenge: str, authentication: Authentication, variables: Variables, nonce: Callable[[], str]
) -> Request | None:
    """The request again with the response to a digest challenge; None for a challenge of another kind."""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() != "digest":
        return None
    asked = {match[1].lower(): match[2] if match[2] is not None else match[3] for match in _CHALLENGE.finditer(rest)}
    algorithm = asked.get("algorithm", "").lower()
    session = algorithm.endswith("-sess")
    make = _HASHES.get(algorithm.removesuffix("-sess"))
    if make is None:
        return None

    def hashed(*parts: str) -> str:
        return make(":".join(parts).encode()).hexdigest()

    user, password = secret(authentication, "username", variables), secret(authentication, "password", variables, "")
    realm, server, client = asked.get("realm", ""), asked.get("nonce", ""), nonce()
    target = _target(request)
    first = hashed(user, realm, password)
    if session:
        first = hashed(first, server, client)
    second = hashed(request.method, target)
    fields = {"username": user, "realm": realm, "nonce": server, "uri": target}
    if "auth" in [each.strip() for each in asked.get("qop", "").split(",")]:
        fields |= {"response": hashed(first, server, "00000001", client, "auth", second), "cnonce": client}
        plain = {"qop": "auth", "nc": "00000001"}
    else:
        fields["response"] = hashed(first, server, second)
        plain = {}
    if "opaque" in asked:
        fields["opaque"] = asked["opaque"]
    if "algorithm" in asked:
        plain["algorithm"] = asked["algorithm"]
    said = [f'{name}="{value}"' for name, value in fields.items()] + [
        f"{name}={value}" for name, value in plain.items()
    ]
    return _with_header(request, "authorization", f"Digest {', '.join(said)}")


def _target(request: Request) -> str:
    from yarl import URL

    url = URL(request.url, encoded=True)
    parts = urlsplit(str(url.extend_query(request.query) if request.query else url))
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _with_header(request: Request, name: str, value: str) -> Request:
    if not value.isprintable():
        raise CredentialError(f"the value of {name} has characters that no header may have")
    return msgspec.structs.replace(request, headers={**request.headers, name: value})
