"""Which runs a command is about: a sweep file, options, or directories of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from alharness.cli.options import default_of

if TYPE_CHECKING:
    from alharness.executors.sweep_files import Sweep
    from alharness.executors.sweeps import Job
    from alharness.executors.targets import Found

#: Runs that are named one by one; of more, so many stand for all.
SHOWN = 3

Function = TypeVar("Function", bound=Callable[..., Any])


def sweep_options(function: Function) -> Function:
    """Options that change what a sweep file says, or say it all."""
    options = (
        click.option("--strategies", default=None, help="A,B: of a sweep file, only these."),
        click.option("--datasets", default=None, help="A,B: instead of the file's."),
        click.option("--seeds", default=None, help="0-9 or 0-4,7: in blocks of several seeds."),
        click.option("--profile", default=None, help="quick or paper."),
        click.option("--device", default=None, help="auto, cpu, cuda or cuda:N (default auto)."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting of all runs."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def jobs_of(
    path: Path | None,
    runs_dir: Path,
    *,
    strategies: str | None,
    datasets: str | None,
    seeds: str | None,
    profile: str | None,
    device: str | None,
    settings: Sequence[str],
    elsewhere: bool = False,
) -> tuple[Sweep, list[Job]]:
    """A sweep and all of its runs, resolved; ``elsewhere`` leaves the device to other machines."""
    from alharness.api.sweeping import asked
    from alharness.executors.sweeps import expand
    from alharness.files import merge
    from alharness.spec import parse_set

    top = {"profile": profile, "device": device}
    given = {key: value for key, value in top.items() if value is not None}
    laid = merge(given, *(parse_set(text) for text in settings))
    sweep, choices = asked(_names(strategies), _names(datasets), seeds, path, laid)
    return sweep, expand(sweep, choices, runs_dir, elsewhere=elsewhere)


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


class _MetricOption(click.Option):
    """``--metric``: its help lists the figures of the record, which are read when help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from alharness.records import METRICS  # pydantic: not for every command

        self.help = (
            f"Figure of the test set: {', '.join(METRICS)} (default accuracy, and balanced_accuracy where "
            "classes are uneven)."
        )
        return super().get_help_record(ctx)


def comparison_options(function: Function) -> Function:
    """Options of everything that compares runs."""
    options = (
        click.option(
            "--x",
            "axis",
            default=default_of("compare", "axis"),
            show_default=True,
            help="queries (annotations asked for), labels or cost.",
        ),
        click.option(
            "--metric",
            cls=_MetricOption,
            default=default_of("compare", "metric"),
        ),
        click.option(
            "--against", default=None, help="Strategy to test the others against (default random)."
        ),
        click.option(
            "--label",
            "labels",
            multiple=True,
            metavar="NAME=LABEL",
            help="What a strategy is called, for instance ./mine.py:Gini=Gini.",
        ),
        click.option(
            "--split-by",
            multiple=True,
            metavar="FIELD",
            help="Compare the runs of each value by themselves, for instance query_size.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def looks_option(function: Function) -> Function:
    """``--looks``: what was looked at before the last seeds were added."""
    return click.option(
        "--looks",
        type=click.IntRange(min=1),
        default=1,
        help="How often results were looked at while seeds were added, this time included (default 1): "
        "every p is multiplied by it.",
    )(function)


def published_option(function: Function) -> Function:
    """``--published``: records as they were published, in place of runs of this machine."""
    return click.option(
        "--published",
        type=click.Path(path_type=Path),
        default=None,
        metavar="PATH",
        help="Judge published records: a .tar.xz file, or a folder with some (benchmarks/results).",
    )(function)


def stopping_option(function: Function) -> Function:
    """``--stopping``: rules that are judged on the runs."""
    return click.option(
        "--stopping",
        multiple=True,
        metavar="RULE",
        help="Judge a stopping rule on these runs, for instance kappa, budget:200 or all (repeatable): "
        "annotations spent, accuracy lost. Nothing is trained.",
    )(function)


def tell_unreadable(found: Found) -> int:
    """Name the runs that cannot be read: a line each, or one with three of them where there are many.

    Returns:
        the exit code: 1 when there was one, since what is shown is not all.
    """
    reasons = [item.reason for item in found.unreadable]
    if len(reasons) > SHOWN:
        told = "; ".join(reason.rstrip(".") for reason in reasons[:SHOWN])
        reasons = [f"{len(reasons)} runs that cannot be read, for instance: {told}."]
    for reason in reasons:
        click.echo(f"alharness: left out: {reason}", err=True)
    return 1 if reasons else 0


def find_comparisons(
    targets: Sequence[Path],
    runs_dir: Path,
    split_by: Sequence[str],
    labels: Sequence[str],
    options: dict[str, Any],
    published: Path | None = None,
) -> Found:
    """The comparisons behind what a user named.

    Args:
        targets: one sweep file, or directories of runs; nothing means all of ``runs_dir``, or the
            sweep that the options describe.
        runs_dir: where runs lie.
        split_by: settings that make comparisons of their own, beside those that the sweep names.
        labels: ``NAME=LABEL``, what strategies are called.
        options: what ``sweep_options`` collected.
        published: records as they were published, in place of all of these.

    Raises:
        UserError: nothing there, a mixture of files and directories, protocols that differ.
    """
    from alharness.api.comparing import found_of
    from alharness.errors import UserError
    from alharness.executors.targets import found_of_sweep

    named = _parse_labels(labels)
    files = [path for path in targets if path.suffix == ".toml"]
    given = [name for name, value in options.items() if value]
    a_sweep = len(targets) == len(files) == 1
    if published is not None and given:
        raise UserError(
            f"--{given[0].replace('settings', 'set')} belongs to a sweep; published records are taken whole."
        )
    a_sweep = a_sweep or (not targets and bool(options["strategies"] and options["datasets"]))
    if not a_sweep and given:
        raise UserError(
            f"--{given[0].replace('settings', 'set')} belongs to a sweep. Name its file, or leave "
            "the option out to take all runs of a directory."
        )
    if not a_sweep or published is not None:
        return found_of(targets, runs_dir, split_by, named, published)
    sweep, jobs = jobs_of(files[0] if files else None, runs_dir, elsewhere=True, **options)
    return found_of_sweep(sweep, jobs, split_by=split_by, labels=named)


def _parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """``NAME=LABEL``: a name may hold an equals sign (``margin(rule=x)=Mine``), a label may not."""
    from alharness.errors import UserError

    parsed = {}
    for text in labels:
        name, _, label = text.rpartition("=")
        if not name or not label.strip():
            raise UserError(
                f"--label takes NAME=LABEL, for instance --label ./mine.py:Gini=Gini; found '{text}'."
            )
        parsed[name] = label.strip()
    return parsed
