"""The reference of commands and settings, made from the program itself: ``reference.py [--check]``.

Writes docs/commands.md (what ``--help`` says) and docs/settings.md (every setting of a run with its default
and what it is for). A test holds the pages against the program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from alharness.cli import cli
from alharness.spec import SECTIONS, RunSpec

DOCS = Path(__file__).parents[1] / "docs"

COMMANDS = """# Commands

What `--help` says of every command. Made by `python tools/reference.py`; a test holds this page
against the program.
"""

SETTINGS = """# Settings

Every setting of a run, for `--set SECTION.NAME=VALUE`, a TOML file given to `--config`, or keyword
arguments of `alharness.run`. Strategies and data sets have settings of their own: `alharness show NAME`
lists them, and a data set's own defaults (budget, sizes, classifier) stand there, too. Why a default is
what it is: [decisions](decisions.md). Made by `python tools/reference.py`; a test holds this page against
the program.
"""


def commands() -> str:
    """The page of commands."""
    parts = [COMMANDS]
    for name, command in _found(cli, ()):
        parts.append(f"## alharness {' '.join(name)}\n\n```text\n{_help(name, command)}\n```\n")
    return "\n".join(parts)


def _found(
    group: click.Group, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, in its order."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _found(command, (*path, name))


def _help(name: tuple[str, ...], command: click.Command) -> str:
    # click keeps the help option of whoever asked first, by the names that it had there.
    command._help_option = None
    context = click.Context(
        command,
        info_name=f"alharness {' '.join(name)}",
        max_content_width=92,
        terminal_width=92,
        help_option_names=["-h", "--help"],
    )
    return command.get_help(context).rstrip()


def settings() -> str:
    """The page of settings."""
    parts = [SETTINGS, "## Of the run\n", _table(RunSpec, _top())]
    for section in SECTIONS[2:]:
        model: Any = RunSpec.model_fields[section].annotation
        parts.append(f"\n## {section}\n")
        parts.append(_table(model, list(model.model_fields), prefix=f"{section}."))
    return "\n".join(parts) + "\n"


def _top() -> list[str]:
    """Names that stand at the top of a spec and that a user sets."""
    return [
        name
        for name, field in RunSpec.model_fields.items()
        if name not in SECTIONS and name != "plugins" and field.description
    ]


#: What stands for a setting of the run that nobody gave.
RESOLVED = {
    "profile": "`quick`",
    "seed": "`0`",
    "data_seed": "the seed",
    "device": "`auto`",
    "stop": "none",
}


def _table(model: Any, names: list[str], prefix: str = "") -> str:
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        default = RESOLVED.get(name) if field.is_required() else _value(field.default)
        default = default or "of the data set"
        text = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {default} | {text} |")
    return "\n".join(rows)


def _value(default: Any) -> str:
    if default is None:
        return "none: what fits"
    return "empty" if default == "" else f"`{default}`"


PAGES = {"commands.md": commands, "settings.md": settings}

if __name__ == "__main__":
    for page, make in PAGES.items():
        if "--check" in sys.argv:
            assert (DOCS / page).read_text(encoding="utf-8") == make(), f"{page} is old"
        else:
            (DOCS / page).write_text(make(), encoding="utf-8")
