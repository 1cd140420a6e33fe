"""`perdure capability`: run capability documents, check them, and see what they do."""

from __future__ import annotations

from importlib import import_module

import click

_COMMANDS = {
    "run": "Serve what capability files expose.",
    "validate": "Tell everything that is found in capability files.",
    "inspect": "Show routes, tools and upstream calls of capability files.",
    "generate": "Print the capability document of a perdure server.",
    "export-skill": "Write the Agent Skill of a capability file, or of the server.",
    "export-openapi": "Print the REST adapters of a capability file as an OpenAPI document.",
}


class _Lazy(click.Group):
    """Knows its commands by name and line of help; loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"perdure.cli.capability.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group("capability", cls=_Lazy)
def command() -> None:
    """Capabilities: documents that describe an API to agents. See docs/capabilities.md."""
