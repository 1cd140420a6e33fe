"""Where the other files of a document are: at a path, or at a `file:///` URI, of which `/./` begins one beside it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit


def file_of(location: str) -> str:
    """The path that a location means. Raises `ValueError` for a URI that leads to no file of this machine.

    >>> file_of("file:///./a%20b.yaml"), file_of("file:///etc/a.yaml"), file_of("a.yaml")
    ('./a b.yaml', '/etc/a.yaml', 'a.yaml')
    """
    if ":" not in location:
        return location
    try:
        parts = urlsplit(location)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "file" or parts.netloc:
        raise ValueError(f"{location} is no file:/// URI")
    path = unquote(parts.path)
    return path[1:] if path.startswith("/./") else path
