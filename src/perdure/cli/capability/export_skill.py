"""`perdure capability export-skill FILE DIR`: an Agent Skill of a capability, or of the server itself."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need


@click.command("export-skill")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", default=".", type=click.Path(file_okay=False, path_type=Path), help="Where to put it.")
@click.option("--name", default="", help="Its name; that of the capability if left out.")
@click.option("--url", default="http://127.0.0.1:8288", show_default=True, envvar="PERDURE_URL", help="The server.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def command(file: Path | None, output: Path, name: str, url: str, force: bool) -> None:
    """Write the Agent Skill of FILE, a folder with SKILL.md, or without FILE that of the perdure server at --url.

    \b
    perdure capability export-skill shop.yaml -o ~/.claude/skills
    """
    need("yaml")
    from perdure.capability.findings import CapabilityError
    from perdure.capability.generating import generate
    from perdure.capability.loading import open_file, open_text
    from perdure.capability.skills import skill, slug
    from perdure.capability.source import DocumentError

    try:
        if file is None:
            text = generate(url)
            opened = open_text(text, "perdure", lambda location: "")
        else:
            opened = open_file(file)
            text = file.read_text(encoding="utf-8-sig")
        opened.findings.raise_errors()
    except (DocumentError, CapabilityError) as error:
        raise click.ClickException(str(error)) from error
    folder = output / slug(name or opened.capability.title or "capability")
    made = skill(opened.capability, text, name)
    there = [path for path in made if (folder / path).exists()]
    if there and not force:
        raise click.ClickException(f"{folder / there[0]} is there already; --force writes over it")
    for path, content in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if any(each.code == "literal-secret" for each in opened.findings.all):
        click.echo("the document has credentials in it, and so has the skill: bind them to variables", err=True)
    click.echo(f"{folder}: {len(made)} files")
