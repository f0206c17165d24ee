"""Every verb's help has a heading in its command's help and an example that its own parser takes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from d2m_model.cli import main as d2m
from tiktok_dm.cli import main as tiktok_dm

COMMANDS = {"tiktok-dm": tiktok_dm, "d2m": d2m}
VERBS = [
    (command, verb, example)
    for command, module in COMMANDS.items()
    for verb, (_, example) in module.EXAMPLES.items()
    if example
]


@pytest.mark.parametrize(("command", "verb", "example"), VERBS, ids=lambda value: str(value).split(" --")[0])
def test_an_example_parses(command: str, verb: str, example: str) -> None:
    words = shlex.split(example)
    assert words[: 1 + len(verb.split())] == [command, *verb.split()]
    click: Any = typer.main.get_command(COMMANDS[command].app)
    context = None
    for name in verb.split():
        context = click.make_context(name, [], parent=context, resilient_parsing=True)
        click = click.get_command(context, name)
    # Files need not be there: what is parsed is names of options, and that every needed word is given.
    parser = click.make_parser(click.make_context(verb, [], parent=context, resilient_parsing=True))
    _, rest, order = parser.parse_args(words[1 + len(verb.split()) :])
    assert not rest
    given = {parameter.name for parameter in order}
    missing = [p.name for p in click.params if p.required and p.name not in given]
    assert missing == []
    shown = CliRunner().invoke(COMMANDS[command].app, [*verb.split(), "--help"], env={"COLUMNS": "200"})
    assert example in " ".join(shown.output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_verbs_stand_under_headings(command: str) -> None:
    module = COMMANDS[command]
    shown = CliRunner().invoke(module.app, ["--help"], env={"COLUMNS": "200"}).output
    for group in {group for group, _ in module.EXAMPLES.values()}:
        assert f" {group} " in shown
    assert "Commands" not in shown
    assert "--install-completion" in shown


def test_both_commands_say_their_version() -> None:
    from tiktok_dm import __version__

    for module in COMMANDS.values():
        assert CliRunner().invoke(module.app, ["--version"]).output.strip() == __version__
