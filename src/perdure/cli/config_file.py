"""`--config FILE`: options of a server in a file, under their names without dashes before them.

JSON or YAML, as other servers of the protocol have it: `{"sdk-url": ["http://localhost:3000/api/inngest"]}`. Without
the option, a `perdure` or `inngest` file (.json, .yaml, .yml) in the current folder is taken. What is given on the
command line or in the environment wins; a name that is no option is an error.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from perdure.cli.credentials import API_KEYS, EVENT_KEY, FALLBACK, SIGNING_KEY, from_environment
from perdure.model.json import InvalidJsonError, Json, decode

_NAMES: Final = tuple(f"{name}.{kind}" for name in ("perdure", "inngest") for kind in ("json", "yaml", "yml"))
_KEYS: Final = {
    "event_keys": EVENT_KEY,
    "signing_key": SIGNING_KEY,
    "signing_key_fallback": FALLBACK,
    "api_keys": API_KEYS,
}
"""The parameters that stand in variables which click does not read."""


def _read(context: click.Context, parameter: click.Parameter, given: Path | None) -> None:
    file = given or next((Path(name) for name in _NAMES if Path(name).is_file()), None)
    if file is not None:
        context.default_map = defaults(context.command, file, keys_of_environment=context.info_name == "start")


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read,
    help="Options in a JSON or YAML file, by their names; perdure.json, inngest.yaml and so on, if one is here.",
)


def defaults(command: click.Command, file: Path, *, keys_of_environment: bool) -> dict[str, Json]:
    """What a file says, by parameter. Raises `UsageError`, in which no value is shown: it may be a key.

    `keys_of_environment`: keys in the environment come before those of the file.
    """
    options = {
        name.lstrip("-"): (parameter, name in parameter.secondary_opts)
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in ("config", "help")
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }
    found: dict[str, Json] = {}
    for name, value in _parsed(file).items():
        if name not in options:
            raise click.UsageError(f"{file}: {name} is no option of perdure {command.name}")
        option, negates = options[name]
        if not _fits(option, value):
            kind = "true or false" if option.is_flag else "a text or a number" + (", or a list" * option.multiple)
            raise click.UsageError(f"{file}: {name}: must be {kind}, got {type(value).__name__}")
        key = option.name or ""
        if keys_of_environment and key in _KEYS and from_environment(_KEYS[key]):
            continue
        found[key] = (not value) if negates else [value] if option.multiple and not isinstance(value, list) else value
    return found


def _fits(option: click.Option, value: Json) -> bool:
    if option.is_flag:
        return isinstance(value, bool)
    values = value if option.multiple and isinstance(value, list) else [value]
    return all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in values)


def _parsed(file: Path) -> dict[str, Json]:
    content = file.read_bytes()
    try:
        if file.suffix == ".json":
            value = decode(content)
        else:
            if find_spec("yaml") is None:
                raise click.UsageError(f"{file}: YAML needs PyYAML (`pip install pyyaml`); JSON needs nothing")
            import yaml

            try:
                value = yaml.safe_load(content)
            except yaml.YAMLError as error:
                mark = getattr(error, "problem_mark", None)
                where = "" if mark is None else f": see line {mark.line + 1}"
                raise click.UsageError(f"{file} is no YAML{where}") from error
    except InvalidJsonError as error:
        raise click.UsageError(f"{file} is no JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise click.UsageError(f'{file}: must be an object of options, such as {{"port": 8300}}')
    return value
