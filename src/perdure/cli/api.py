"""`perdure api OPERATION`: every operation of the v2 API as a command, made from the operation catalogue."""

from __future__ import annotations

from collections.abc import Callable

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json
from perdure.cli.payload import json_argument
from perdure.model.json import Json
from perdure.server.catalogue import V2, Argument, Operation, arguments, request_for

_LONG = 600.0
"""Some operations are one request for many runs (seconds)."""
_BY_COMMAND = {operation.command: operation for operation in V2 if operation.status < 300}


class _Operations(click.Group):
    """Knows the operations; makes a command of one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_BY_COMMAND)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        operation = _BY_COMMAND.get(cmd_name)
        return None if operation is None else _command(operation)


@click.group("api", cls=_Operations)
def command() -> None:
    """Call OPERATION of the server's API, and print the JSON that it answers.

    \b
    perdure api list-runs --status FAILED --limit 5
    perdure api rerun --run-id 01M81ZZ0Q1W2E3R4T5Y6A7S8D9 --from-step '{"stepId": "charge"}'
    """


def _command(operation: Operation) -> click.Command:
    taken = [argument for argument in arguments(operation) if argument.place != "header"]

    def call(url: str, **given: Json) -> None:
        named = {argument.name: _value(argument, given[_parameter(argument)]) for argument in taken}
        request = request_for(operation, {name: value for name, value in named.items() if value is not None})
        print_json(
            ask(
                url,
                lambda client: client.call(request.method, request.path, query=request.query, body=request.body),
                timeout=_LONG,
            )
        )

    decorated = url_option(call)
    for argument in reversed(taken):
        decorated = _option(argument)(decorated)
    about = f"{operation.about}\n\n{operation.method} /v2{operation.path}"
    return click.command(operation.command, short_help=operation.summary, help=about)(decorated)


def _option(argument: Argument) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag, name, settings = f"--{_kebab(argument.name)}", _parameter(argument), _settings(argument)
    if argument.schema.get("type") == "boolean":
        flag = f"{flag}/--no-{_kebab(argument.name)}"
    return click.option(flag, name, help=argument.about, required=argument.required, **settings)


def _settings(argument: Argument) -> dict[str, Json]:
    """How the command line reads an argument: a list of words as an option that may be repeated, objects as JSON."""
    schema = argument.schema
    if schema.get("type") == "boolean":
        return {"default": None}
    if _has_words(schema):
        return {"multiple": True, "type": _word(schema["items"])}
    if _is_json(schema):
        return {"metavar": "JSON"}
    return {"type": click.INT if schema.get("type") == "integer" else _word(schema)}


def _word(schema: Json) -> click.ParamType[Json]:
    return click.Choice(schema["enum"], case_sensitive=False) if "enum" in schema else click.STRING


def _has_words(schema: Json) -> bool:
    return bool(schema.get("type") == "array" and schema.get("items", {}).get("type") == "string")


def _is_json(schema: Json) -> bool:
    kinds = schema.get("type")
    return not {"object", "array"}.isdisjoint([kinds] if isinstance(kinds, str) else kinds or ())


def _value(argument: Argument, given: Json) -> Json:
    """What was given, as the request has it; None where nothing was."""
    if _has_words(argument.schema):
        return list(given) or None
    if given is not None and _is_json(argument.schema):
        return json_argument(given)
    return given


def _parameter(argument: Argument) -> str:
    # "from" is a word of Python's own.
    return f"given_{argument.name}"


def _kebab(name: str) -> str:
    return "".join(f"-{char.lower()}" if char.isupper() else char for char in name)
