"""Hot reload: when a Python file changes, the user's modules are imported anew and the node gets their functions.

Runs in flight go on with the new code, step by step id. Code that cannot be imported changes nothing: the old
functions stay in force, and the error is shown.
"""

from __future__ import annotations

import importlib
import logging
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from perdure.cli.loading import LoadError, load_apps
from perdure.model.errors import PerdureError

if TYPE_CHECKING:
    from perdure.node import Node

_OWN = Path(__file__).resolve().parent.parent
_INSTALLED = tuple(Path(path).resolve() for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()


_log = logging.getLogger("perdure.reload")


class Reloader:
    """Watches the folders of the user's code on behalf of a node."""

    def __init__(self, node: Node, targets: tuple[str, ...]) -> None:
        self._node = node
        self._targets = targets
        self._roots = _roots(targets)

    async def watch(self) -> None:
        """Reloads on each change, until cancelled."""
        from watchfiles import PythonFilter, awatch

        ignored = [str(path) for path in (*_INSTALLED, _OWN)]
        only_code = PythonFilter(ignore_paths=ignored)
        try:
            async for changes in awatch(*self._roots, watch_filter=only_code, debounce=200, step=50):
                names = sorted({Path(path).name for _, path in changes})
                click.echo(f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} changed")
                await self._try_reload()
        except (OSError, RuntimeError) as error:
            # Too many folders for the system's watches, say. Serving goes on.
            click.secho(f"hot reload is off, the folder cannot be watched: {error}", fg="yellow", err=True)

    async def _try_reload(self) -> None:
        try:
            await self.reload()
        except Exception:
            _log.exception("reloading failed; the next change tries again")

    async def reload(self) -> bool:
        """Imports the apps anew and puts them in force; False when their code has an error."""
        old = purge(self._roots)
        try:
            apps = load_apps(self._targets)
            for app in apps:
                await self._node.register(app)
            gone = {each.id for each in self._node.apps} - {app.id for app in apps}
            for app_id in gone:
                await self._node.register_configs(app_id, [])
        except (LoadError, PerdureError) as error:
            purge(self._roots)
            sys.modules.update(old)
            message = error.message if isinstance(error, LoadError) else str(error)
            click.secho(f"{message}\nthe code from before stays in force", fg="red", err=True)
            return False
        count = sum(len(app.functions) for app in apps)
        click.echo(f"reloaded: {count} function{'' if count == 1 else 's'}; open runs go on with the new code")
        return True


def purge(roots: list[Path]) -> dict[str, ModuleType]:
    """Forgets the modules whose files are below the roots; returns them."""
    importlib.invalidate_caches()
    found = {name: module for name, module in sys.modules.items() if _is_users(module, roots)}
    for name in found:
        del sys.modules[name]
    return found


def _is_users(module: ModuleType, roots: list[Path]) -> bool:
    file = getattr(module, "__file__", None)
    if not file or getattr(module, "__name__", "__main__") == "__main__":
        return False
    path = Path(file).resolve()
    if any(path.is_relative_to(other) for other in (_OWN, _STDLIB, *_INSTALLED)) or "site-packages" in path.parts:
        return False
    return any(path.is_relative_to(root) for root in roots)


def _roots(targets: tuple[str, ...]) -> list[Path]:
    roots = {Path.cwd().resolve()}
    for target in targets:
        place = target if target.endswith(".py") else target.rpartition(":")[0]
        if place.endswith(".py"):
            roots.add(Path(place).resolve().parent)
    return sorted(root for root in roots if not any(other in root.parents for other in roots))
