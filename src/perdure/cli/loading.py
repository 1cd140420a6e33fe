"""Finding the apps that the user names: `module:attribute`, `file.py:attribute`, or either without the attribute.

Every way in which that can fail has a message of its own; an error in the user's module is shown with the frames
of the user's code only.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

import click

from perdure.model.errors import ConfigError
from perdure.sdk.app import App


class LoadError(click.ClickException):
    """An app cannot be had from what was named."""


def load_apps(targets: tuple[str, ...]) -> list[App]:
    """The apps of all targets; raises `LoadError`."""
    apps: list[App] = []
    for target in targets:
        app = load_app(target)
        if any(other.id == app.id for other in apps):
            raise LoadError(f"{target}: another app with the id {app.id!r} is served already")
        apps.append(app)
    return apps


def load_app(target: str) -> App:
    """The app that a target names; raises `LoadError`."""
    place, attribute = split_target(target)
    if place.endswith(".py"):
        name, folder = _module_of_file(target, Path(place))
    else:
        name, folder = place, Path.cwd()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return _app_of(target, _import(target, name), attribute)


def split_target(target: str) -> tuple[str, str]:
    """Module (or file) and attribute, "" where none is named.

    >>> split_target("shop.app:app"), split_target("shop/app.py:app"), split_target("shop.app")
    (('shop.app', 'app'), ('shop/app.py', 'app'), ('shop.app', ''))
    """
    if target.endswith(".py"):
        return target, ""
    place, colon, attribute = target.rpartition(":")
    return (place, attribute) if colon else (target, "")


def _module_of_file(target: str, path: Path) -> tuple[str, Path]:
    if not path.is_file():
        raise LoadError(f"{target}: there is no file {path}")
    path = path.resolve()
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _import(target: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise LoadError(f"{target}: {name!r} is not the name of a module; write module:app or file.py:app")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise LoadError(
                f"{target}: there is no module {error.name!r} in {Path.cwd()} or on Python's path"
            ) from error
        raise LoadError(f"{target}: the module imports another one that is not there\n{_shortened(error)}") from error
    except ConfigError as error:
        raise LoadError(f"{target}: a function or option is not valid\n{_shortened(error)}") from error
    except (Exception, SystemExit) as error:
        raise LoadError(f"{target}: the module fails when it is imported\n{_shortened(error)}") from error


def _shortened(error: BaseException) -> str:
    """The traceback without the frames of the import system and of perdure."""
    own = str(Path(__file__).parent.parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<frozen")) and "importlib" not in Path(frame.filename).parts
    ]
    last = "".join(traceback.format_exception_only(error)).rstrip()
    return "".join(traceback.format_list(frames)) + last


def _app_of(target: str, module: ModuleType, attribute: str) -> App:
    found = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    if not attribute:
        apps = {id(app): app for app in found.values()}
        if len(apps) == 1:
            return next(iter(apps.values()))
        if not apps:
            raise LoadError(f'{target}: the module has no app; make one with `app = perdure.App("name")`')
        raise LoadError(f"{target}: the module has several apps; name one: {', '.join(sorted(found))}")
    if not hasattr(module, attribute):
        close = get_close_matches(attribute, vars(module), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise LoadError(f"{target}: the module has no {attribute!r}{hint}")
    value = getattr(module, attribute)
    if not isinstance(value, App):
        raise LoadError(f"{target}: {attribute!r} is not a perdure.App but {type(value).__name__}")
    return value
