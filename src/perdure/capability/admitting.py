"""Who may call what a capability exposes.

An adapter with `authentication` asks for it. One without, on this machine's loopback, answers only under local names
and to no page of another host: it holds credentials for its upstreams, and a browser must not be led to them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs

from perdure.capability.authorizing import CredentialError, secret
from perdure.capability.binding import Variables
from perdure.capability.findings import Findings
from perdure.capability.model import Exposure
from perdure.capability.requests import CallError
from perdure.model.hosts import is_local_host

_OFFERED = ("bearer", "basic", "apikey")


class Admission:
    """What an adapter asks of its callers."""

    def __init__(self, exposure: Exposure, variables: Variables, *, local_only: bool) -> None:
        self._authentication = exposure.authentication
        self._variables = variables
        self._local_only = local_only and exposure.authentication is None

    def check(self, headers: Mapping[str, str], query: str) -> None:
        """Raises `CallError` for a request that may not come in; names of headers are in lower case."""
        if self._authentication is not None:
            if not self._is_known(headers, query):
                raise CallError(401, "unauthorized", f"this adapter asks for {self._authentication.kind} credentials")
        elif self._local_only:
            host, origin = headers.get("host", ""), headers.get("origin", "")
            if host and not is_local_host(host):
                raise CallError(403, "foreign_host", "this adapter answers only as localhost; give it authentication")
            page = origin.partition("://")[2]
            if origin and not (page and (page == host or is_local_host(page))):
                raise CallError(403, "foreign_page", "pages of other hosts may not call an adapter without credentials")

    def _is_known(self, headers: Mapping[str, str], query: str) -> bool:
        given, wanted = self._pair(headers, query)
        return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())

    def _pair(self, headers: Mapping[str, str], query: str) -> tuple[str, str]:
        """What a request shows, and what it should."""
        asked = self._authentication
        if asked is None:
            return "", ""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if asked.kind == "bearer":
            return rest.strip() if scheme.lower() == "bearer" else "", secret(asked, "token", self._variables)
        if asked.kind == "basic":
            wanted = f"{secret(asked, 'username', self._variables)}:{secret(asked, 'password', self._variables, '')}"
            try:
                return base64.b64decode(rest).decode() if scheme.lower() == "basic" else "", wanted
            except (binascii.Error, UnicodeDecodeError):
                return "", wanted
        key, value = secret(asked, "key", self._variables), secret(asked, "value", self._variables)
        if asked.settings.get("placement", "header") == "query":
            return (parse_qs(query).get(key) or [""])[0], value
        return headers.get(key.lower(), ""), value

    @property
    def challenge(self) -> str:
        """The header `WWW-Authenticate` of a refusal."""
        kind = self._authentication.kind if self._authentication else ""
        return {"bearer": "Bearer", "basic": 'Basic realm="capability"'}.get(kind, "")


def check_admission(exposure: Exposure, variables: Variables, findings: Findings) -> None:
    """Finds credentials that cannot be asked for."""
    asked = exposure.authentication
    if asked is None:
        return
    if asked.kind not in _OFFERED:
        told = f"perdure's adapters ask for {', '.join(_OFFERED)}, not for {asked.kind}"
        findings.error(asked.at, "not-offered", told)
        return
    try:
        for field in {"bearer": ["token"], "basic": ["username"], "apikey": ["key", "value"]}[asked.kind]:
            secret(asked, field, variables)
    except CredentialError as error:
        findings.error(asked.at, "missing-bind", str(error))
