"""A Django site of a test. Its settings are the process's, so all tests that host one share them."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Final

from perdure.model.json import Json

_URLS: Final = "urls_of_a_test"


def django_site(*patterns: tuple[str, Json]) -> Json:
    """The WSGI application of a site with these views by their routes, instead of those of the test before."""
    # Django has no types: what is imported by name is anything.
    settings = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="test", ROOT_URLCONF=_URLS, USE_TZ=True)
        import_module("django").setup(set_prefix=False)
    routing = import_module("django.urls")
    urls = ModuleType(_URLS)
    vars(urls)["urlpatterns"] = [routing.path(route, view) for route, view in patterns]
    sys.modules[_URLS] = urls
    # It remembers the routes of the module that was there by that name.
    routing.clear_url_caches()
    return import_module("django.core.wsgi").get_wsgi_application()
