"""The command line: the only place that prints.

``alharness --help`` and ``alharness list`` import neither torch nor mlflow nor any plug-in: each
command lives in a module of its own that is imported when the command is called.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from alharness import __version__
from alharness.border.limits import own_process
from alharness.cli.output import lost, open_descriptors
from alharness.errors import TRACEBACK, UserError, end_on_sigterm, unknown_name
from alharness.files import refusal

#: command -> (module:function, line shown by --help)
COMMANDS = {
    "run": (
        "alharness.cli.run:run",
        "Run one strategy on one data set, or continue where it stopped.",
    ),
    "label": (
        "alharness.cli.label:label",
        "Label data of your own, in the order that a strategy chooses.",
    ),
    "labels": ("alharness.cli.label:labels", "Take labels out of a run, and answers in."),
    "list": ("alharness.cli.names:list_names", "List strategies, data sets or classifiers."),
    "show": (
        "alharness.cli.names:show",
        "Show the parameters, defaults and source of one of them.",
    ),
    "check": ("alharness.cli.check:check", "Prove that a strategy keeps the plug-in contract."),
    "tune": (
        "alharness.cli.tune:tune",
        "Choose a classifier's settings on the starting labels.",
    ),
    "sweep": ("alharness.cli.sweep:sweep", "Run many: strategies x data sets x seeds."),
    "compare": ("alharness.cli.compare:compare", "Compare finished runs in a table."),
    "report": ("alharness.cli.report:report", "Write figures, statistics and one HTML report."),
    "figure": ("alharness.cli.figure:figure", "Draw a figure for a paper from finished runs."),
    "runs": ("alharness.cli.runs:runs", "List, remove and publish runs."),
    "timing": ("alharness.cli.timing:timing", "Measure selection time and work against pool size."),
    "claims": ("alharness.cli.claims:claims", "Check the paper's timing claims, with evidence."),
    "data": ("alharness.cli.data:data", "Prepare, verify, import and list data sets."),
    "generator": (
        "alharness.cli.generator:generator",
        "Train, inspect and compare image generators.",
    ),
    "artefacts": (
        "alharness.cli.artefacts:artefacts",
        "List, show and remove artefacts.",
    ),
    "ui": ("alharness.cli.tracking:ui", "Watch the runs in a browser (or in MLflow)."),
    "sync": ("alharness.cli.tracking:sync", "Rebuild the MLflow view from the records."),
}

#: Title in ``--help`` -> its commands, in the order in which somebody meets them.
GROUPS = {
    "Run": ("run", "tune", "sweep"),
    "Label": ("label", "labels"),
    "See what came out": ("compare", "figure", "report", "runs", "ui", "sync"),
    "What there is": ("list", "show", "check"),
    "Data and what is made from them": ("data", "generator", "artefacts"),
    "Time": ("timing", "claims"),
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        module, function = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        _expand_home(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped = {name for names in GROUPS.values() for name in names}
        for title, names in {**GROUPS, "More": tuple(COMMANDS.keys() - grouped)}.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


def _expand_home(command: click.Command) -> None:
    """``--runs-dir=~/x`` and ``ALHARNESS_RUNS=~/x``: there no shell expands the home, so we do."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _expand_home(inner)
    for parameter in command.params:
        if type(parameter.type) is click.Path:
            parameter.type = _HomePath(parameter.type)


class _HomePath(click.Path):
    """A path in which a leading ``~`` is the home."""

    def __init__(self, path: click.Path) -> None:
        self.__dict__.update(path.__dict__)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)  # noqa: PTH111 - keeps what is no home as it is
        return super().convert(value, param, ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alharness")
def cli() -> None:
    """A benchmark harness for pool-based deep active learning.

    Start with:  alharness run asal-auto digits-ten
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a ``UserError`` is one line and exit code 2; anything else keeps its traceback."""
    open_descriptors()
    end_on_sigterm()
    own_process()
    wait_without_spinning()
    # At its end Python looks through all objects for circles: after torch or MLflow .7 s that free nothing.
    atexit.register(gc.freeze)
    code = call(arguments)
    if why := lost():
        click.echo(
            f"alharness: standard output was lost: {why}. Runs are whole all the same.", err=True
        )
        code = code or 1
    sys.exit(code)


def wait_without_spinning() -> None:
    """Threads that wait for each other sleep, unless the user's own OpenMP settings say otherwise.

    By default they spin, which takes the processor from whoever is computing: with two threads on two busy
    cores a small training took five to eight times the CPU time. The same arithmetic, to the bit. OpenMP
    reads this once, when torch is imported; workers and child processes inherit it.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _as_setting(error: click.NoSuchOption) -> str:
    """How an option that is none is given where it is a setting: ``--min-steps 20``; else empty."""
    options = error.ctx.command.params if error.ctx is not None else []
    if not any("--set" in option.opts for option in options):
        return ""
    from alharness.spec import sections_with

    name = error.option_name.lstrip("-").replace("-", "_")
    homes = sections_with(name)
    typed = " or ".join(f"--set {home}.{name}=VALUE" for home in homes)
    return f" It is a setting: {typed}." if homes else ""


def call(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result: Any = cli.main(args=arguments, prog_name="alharness", standalone_mode=False)
    except UserError as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        click.echo(f"alharness: {error}", err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2
            click.echo(error.format_message(), err=True)
            return 2
        where = f" See '{context.command_path} --help'." if context is not None else ""
        if isinstance(error, click.NoSuchOption) and not error.possibilities:
            where = _as_setting(error) or where
        click.echo(f"alharness: {error.format_message()}{where}", err=True)
        return 2
    except click.Abort as stopped:
        # Click takes any end of a file for one of the keyboard's: of a damaged module it is a fault.
        if isinstance(stopped.__cause__, EOFError):
            raise stopped.__cause__ from None
        click.echo("alharness: stopped; the same command continues where it stopped.", err=True)
        return 130
    except OSError as error:
        # The one place for what the system refuses and nobody nearer to it explained.
        if os.environ.get(TRACEBACK):
            raise
        place = os.fsdecode(error.filename) if error.filename is not None else "a file"
        told = str(refusal(error, place, "used")).encode(errors="backslashreplace").decode()
        click.echo(f"alharness: {told}", err=True)
        return 2
    return result if isinstance(result, int) else 0
