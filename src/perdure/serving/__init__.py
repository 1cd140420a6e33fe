"""A perdure app as an app that a server of the protocol calls: introspection, sync, and calls.

`serve` gives an ASGI application, `wsgi` one for WSGI, and `django_view` a view of Django.
"""

from __future__ import annotations

from perdure.serving.asgi import ServedApp, serve
from perdure.serving.blocking import django_view, wsgi
from perdure.serving.endpoints import use_server
from perdure.serving.settings import ServeOptions

__all__ = ["ServeOptions", "ServedApp", "django_view", "serve", "use_server", "wsgi"]
