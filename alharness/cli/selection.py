"""Which runs a command is about: a sweep file, options, or directories of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import (
    default_of,
    parse_settings,
    path_option,
    runs_dir_option,
    settings_option,
    stacked,
)

if TYPE_CHECKING:
    from alharness.api.comparing import ComparisonResult
    from alharness.executors.sweep_files import Sweep
    from alharness.executors.sweeps import Job
    from alharness.executors.targets import Found

Command = Callable[..., Any]

#: Runs that are named one by one; of more, so many stand for all.
SHOWN = 3

#: Options that change what a sweep file says, or say it all; ``jobs_of`` takes them.
sweep_options = stacked(
    click.option("--strategies", default=None, help="A,B: of a sweep file, only these."),
    click.option("--datasets", default=None, help="A,B: instead of the file's."),
    click.option("--seeds", default=None, help="0-9 or 0-4,7: in blocks of several seeds."),
    click.option("--profile", default=None, help="quick or paper."),
    click.option("--device", default=None, help="auto, cpu, cuda or cuda:N (default auto)."),
    settings_option("Any setting of all runs."),
)
OF_A_SWEEP = ("strategies", "datasets", "seeds", "profile", "device", "settings")


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

    top = {"profile": profile, "device": device}
    given = {key: value for key, value in top.items() if value is not None}
    laid = merge(given, parse_settings(settings))
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


_comparison_options = stacked(
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

_published_option = path_option(
    "--published",
    metavar="PATH",
    help="Judge published records: a .tar.xz file, or a folder with some (benchmarks/results).",
)

#: What was looked at before the last seeds were added.
looks_option = click.option(
    "--looks",
    type=click.IntRange(min=1),
    default=1,
    help="How often results were looked at while seeds were added, this time included (default 1): "
    "every p is multiplied by it.",
)

#: Rules that are judged on the runs.
stopping_option = click.option(
    "--stopping",
    multiple=True,
    metavar="RULE",
    help="Judge a stopping rule on these runs, for instance kappa, budget:200 or all (repeatable): "
    "annotations spent, accuracy lost. Nothing is trained.",
)


@dataclass(frozen=True)
class Compared:
    """Which runs a command compares, and how.

    Attributes:
        targets: one sweep file, or directories of runs; nothing means all of ``runs_dir``, or the sweep that
            the options describe.
        runs_dir: where runs lie.
        published: records as they were published, in place of all of these.
        split_by: settings that make comparisons of their own, beside those that the sweep names.
        labels: ``NAME=LABEL``, what strategies are called.
        of_a_sweep: what ``sweep_options`` collected.
        axis, metric, against, looks, stopping: as for ``alharness.compare``.
    """

    targets: Sequence[Path]
    runs_dir: Path
    published: Path | None
    split_by: Sequence[str]
    labels: Sequence[str]
    of_a_sweep: dict[str, Any]
    axis: str
    metric: str | None
    against: str | None
    looks: int = 1
    stopping: Sequence[str] = ()

    def find(self) -> Found:
        """The comparisons behind what a user named.

        Raises:
            UserError: nothing there, a mixture of files and directories, protocols that differ.
        """
        from alharness.api.comparing import found_of
        from alharness.errors import UserError
        from alharness.executors.targets import found_of_sweep

        named = _parse_labels(self.labels)
        files = [path for path in self.targets if path.suffix == ".toml"]
        given = [name for name, value in self.of_a_sweep.items() if value]
        option = f"--{given[0].replace('settings', 'set')}" if given else ""
        if self.published is not None and given:
            raise UserError(f"{option} belongs to a sweep; published records are taken whole.")
        # A file says a sweep; without one, strategies and data sets together do.
        a_sweep = len(self.targets) == len(files) == 1 or (
            not self.targets and {"strategies", "datasets"} <= set(given)
        )
        if not a_sweep and given:
            raise UserError(
                f"{option} belongs to a sweep. Name its file, or leave the option out to take all runs "
                "of a directory."
            )
        if not a_sweep or self.published is not None:
            return found_of(self.targets, self.runs_dir, self.split_by, named, self.published)
        path = files[0] if files else None
        sweep, jobs = jobs_of(path, self.runs_dir, elsewhere=True, **self.of_a_sweep)
        return found_of_sweep(sweep, jobs, split_by=self.split_by, labels=named)

    def result(self, found: Found, **more: Any) -> ComparisonResult:
        """What was found, worked out; ``more`` as for ``result_of``."""
        from alharness.api.comparing import result_of

        how = {name: getattr(self, name) for name in ("axis", "metric", "against", "looks")}
        return result_of(found, stopping=self.stopping, **how, **more)


def comparing(*more: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """TARGETS and the options of a command that compares runs, which takes them as one ``Compared``.

    Args:
        more: options of it that only some of these commands have.
    """

    def decorate(command: Command) -> Command:
        def called(**given: Any) -> Any:
            of_a_sweep = {name: given.pop(name) for name in OF_A_SWEEP}
            own = {f.name: given.pop(f.name) for f in fields(Compared) if f.name in given}
            return command(Compared(of_a_sweep=of_a_sweep, **own), **given)

        options: Callable[[Command], Command] = stacked(
            click.argument("targets", nargs=-1, type=click.Path(path_type=Path)),
            runs_dir_option,
            _published_option,
            _comparison_options,
            *more,
            sweep_options,
        )
        return options(wraps(command)(called))

    return decorate


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
