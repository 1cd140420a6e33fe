"""The command line: one file a command, each imported only when it is called.

Exit codes: 0 done, 1 failed, 2 used wrongly.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import click

_COMMANDS = {
    "dev": "Serve apps on this machine, with hot reload.",
    "start": "Serve apps in production, with keys.",
    "keys": "Make keys for a server.",
    "demo": "Show the main job end to end, with a crash in the middle.",
    "send": "Send an event.",
    "signal": "Send a signal to the run that waits for it.",
    "invoke": "Start one function directly.",
    "events": "List received events.",
    "runs": "List runs.",
    "run": "Show one run as a timeline.",
    "cancel": "Cancel runs.",
    "rerun": "Start a run once more, from its beginning or from a step.",
    "replay": "Start the ended runs of a function once more.",
    "functions": "List functions.",
    "pause": "Let a function rest.",
    "resume": "End the pause of a function.",
    "env": "Make, list and archive branch environments.",
    "api": "Call any operation of the server's API.",
    "mcp": "Let agents operate a server by the Model Context Protocol.",
    "capability": "Run and check documents that describe an API to agents.",
    "doctor": "Look for what is wrong with a server or a database file.",
    "db": "Move a database between a file and PostgreSQL, or back up a file.",
    "gc": "Remove what is past its retention from a database file.",
}


class LazyGroup(click.Group):
    """Knows its commands by name and line of help; loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"perdure.cli.{cmd_name}")
        command: click.Command = module.demo if cmd_name == "demo" else module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("perdure"), prog_name="perdure")
def main() -> None:
    """Durable functions: run them, send them events, see what they do."""
