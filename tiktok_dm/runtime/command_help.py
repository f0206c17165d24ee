"""What a command's help says beside each verb's own words: headings, and an example for every verb."""

from __future__ import annotations

from collections.abc import Mapping

import typer


def describe_commands(app: typer.Typer, table: Mapping[str, tuple[str, str]]) -> None:
    """Give each verb the heading that it stands under in `--help`, and an example under its own help.

    Args:
        app: a command with all its verbs.
        table: heading and example by verb; a group of verbs has `` for an example, and each of its verbs one of its own
            (`submit new`).
    """

    def name(command: typer.models.CommandInfo) -> str:
        return command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")

    for command in app.registered_commands:
        if not command.hidden:
            command.rich_help_panel, example = table[name(command)]
            command.epilog = f"Example: {example}"
    for group in app.registered_groups:
        group.rich_help_panel = table[str(group.name)][0]
        for command in group.typer_instance.registered_commands if group.typer_instance else []:
            command.epilog = f"Example: {table[f'{group.name} {name(command)}'][1]}"
