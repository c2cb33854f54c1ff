"""``alharness sweep``: many runs from one file or one line; ``plan`` and ``run-one`` for job arrays."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.explaining import explain_option, sweep_format
from alharness.cli.options import (
    data_root_option,
    path_option,
    runs_dir_option,
    runs_dir_typed,
    tracked,
    tracking_options,
    typed,
)
from alharness.cli.selection import jobs_of, sweep_options

if TYPE_CHECKING:
    from alharness.executors.base import Executor
    from alharness.executors.sweep_files import Sweep
    from alharness.executors.sweeps import Job, SweepState


class _StartByDefault(click.Group):
    """``alharness sweep SPEC`` is short for ``alharness sweep start SPEC``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_StartByDefault)
def sweep() -> None:
    """Run many: strategies x data sets x seeds.

    The same command again skips what is finished and continues what is not.

    \b
    alharness sweep benchmarks/specs/fig3a.toml --profile quick --jobs 2
    alharness sweep --strategies random,max-entropy,full --datasets digits-two --seeds 0-9
    alharness sweep plan benchmarks/specs/fig3a.toml       (for Slurm; then: sweep run-one)
    alharness sweep --explain                              (what a sweep file may say)
    alharness sweep start --help                           (all options)
    """


spec_argument = click.argument(
    "spec", required=False, type=click.Path(path_type=Path, dir_okay=False)
)


@sweep.command()
@explain_option(sweep_format)
@spec_argument
@sweep_options
@data_root_option
@runs_dir_option
@tracking_options
@click.option("--no-tracking", is_flag=True, help="Keep records only, without MLflow.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: on a cluster.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=None,
    help="Runs at once (default: one per GPU, else 1).",
)
@click.option("--threads", type=click.IntRange(1), default=None, help="CPU threads of each run.")
@click.option("--address", default=None, help="Ray cluster (default: one on this machine).")
@click.option(
    "--gpus-per-run", type=float, default=None, help="Share of a GPU that a run takes (ray)."
)
@click.option("--retries", type=int, default=3, show_default=True, help="After a lost node (ray).")
@click.option("--fresh", is_flag=True, help="Throw away what exists of these runs.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and stop.")
@click.option("--quiet", is_flag=True, help="Show failures only.")
def start(
    spec: Path | None,
    data_root: Path | None,
    runs_dir: Path,
    tracking_uri: str | None,
    experiment: str,
    no_tracking: bool,
    executor: str,
    jobs: int | None,
    threads: int | None,
    address: str | None,
    gpus_per_run: float | None,
    retries: int,
    fresh: bool,
    dry_run: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Carry out a sweep here or on a Ray cluster ('start' may be left out).

    SPEC is a TOML file (--explain says what it may hold); without one, --strategies and --datasets
    say it all.
    Ctrl-C stops it, the same command continues. Exit code 1: at least one run failed.
    """
    if executor == "ray":  # known before the runs are looked up and a store is opened
        from alharness.executors.ray_cluster import see_that_ray_is_there

        see_that_ray_is_there()
    if not quiet:  # before the libraries are loaded, which takes seconds
        click.echo(f"looking up the runs of {spec or 'these options'} ...")
    from alharness.api.running import places_of
    from alharness.api.running import tracking_uri as checked
    from alharness.api.sweeping import drive_tracked
    from alharness.cli.sweep_display import make_sweep_display
    from alharness.executors.outlook import LISTED, outlook
    from alharness.executors.sweeps import standing

    tracking = tracked(tracking_uri, no_tracking)
    checked(tracking, runs_dir)  # before anything costly
    found, everything = jobs_of(spec, runs_dir, elsewhere=executor == "ray", **options)
    state = standing(everything, fresh=fresh)
    where = places_of(runs_dir, data_root)
    carrier, at_once = _executor(
        executor, everything, jobs, threads, address, gpus_per_run, retries
    )
    if not quiet or dry_run:
        _announce(found, everything, state, at_once)
    # Said before the hours are spent, not in the comparison after them.
    if dry_run:
        for line in outlook(everything, found.split_by):
            click.echo(line)
        for job in state.left[:LISTED]:
            click.echo(f"  to run: {job.name}")
        if len(state.left) > LISTED:
            click.echo(f"  and {len(state.left) - LISTED} more")
        return 0
    if not quiet and state.left:
        for line in outlook(everything, found.split_by):
            if line.startswith("  !"):
                click.echo(line)
    display = make_sweep_display(everything, state.left, quiet=quiet)
    try:
        if state.left:
            n = min(at_once, len(state.left))
            display.say(f"starting {n} at once; each loads its libraries first ...", aside=True)
        outcome = drive_tracked(
            found,
            state,
            where,
            carrier,
            fresh=fresh,
            tracking=tracking,
            experiment=experiment,
            warn=display.warn,
            show=display.event,
        )
    except KeyboardInterrupt:
        display.close()
        raise click.Abort from None
    finally:
        display.close()
    _conclude(spec, runs_dir, options, everything, outcome.failed, quiet=quiet)
    return 1 if outcome.failed else 0


def _announce(found: Sweep, jobs: Sequence[Job], state: SweepState, at_once: int) -> None:
    from alharness.cli.display import duration

    click.echo(
        f"{found.heading}: {len(jobs)} runs, {len(state.finished)} finished, "
        f"{len(state.unfinished)} to continue, {len(state.open)} to start"
    )
    n_left = len(state.left)
    if not n_left:
        return
    if not state.measured:
        click.echo("expected cost: unknown, no finished run of these strategies yet")
        return
    seconds = duration(state.expected_s / min(at_once, n_left))
    rest = n_left - state.measured
    more = f", and {rest} runs of strategies without a finished run" if rest else ""
    click.echo(f"expected: about {seconds} with {at_once} at once{more}")


def _executor(
    name: str,
    jobs: Sequence[Job],
    at_once: int | None,
    threads: int | None,
    address: str | None,
    gpus_per_run: float | None,
    retries: int,
) -> tuple[Executor, int]:
    """The executor, and how many runs it carries out at once."""
    if name == "ray":
        from alharness.executors.ray_cluster import RayExecutor

        return RayExecutor(address, threads or 1, gpus_per_run, retries, at_once), at_once or 1
    from alharness.executors.local import LocalExecutor

    local = LocalExecutor.fitting(jobs, at_once, threads)
    return local, local.jobs


def _conclude(
    spec: Path | None,
    runs_dir: Path,
    options: dict[str, Any],
    jobs: Sequence[Job],
    failed: Sequence[tuple[Job, str]],
    *,
    quiet: bool,
) -> None:
    if failed:
        click.echo(f"{len(failed)} of {len(jobs)} runs failed:", err=True)
        for job, reason in failed:
            click.echo(f"  {job.name}: {reason}", err=True)
        click.echo("The same command tries them again.", err=True)
    if not quiet:
        click.echo(f"{len(jobs) - len(failed)} of {len(jobs)} runs are finished.")
        words = _as_typed(spec, options) + runs_dir_typed(runs_dir)
        click.echo(f"Report:  {typed('report', *words)}")


def _as_typed(spec: Path | None, options: dict[str, Any]) -> list[str]:
    """The words that name the same runs in another command."""
    words = [str(spec)] if spec is not None else []
    for name, value in options.items():
        if name == "settings":
            words += [word for text in value for word in ("--set", text)]
        elif value is not None:
            words += [f"--{name}", value]
    return words


@sweep.command()
@spec_argument
@sweep_options
@runs_dir_option
def status(spec: Path | None, runs_dir: Path, **options: Any) -> None:
    """Say where the runs of a sweep stand: finished, to continue, to start, failed.

    It looks at the folders of the runs, and starts nothing; another process may be at work there.
    """
    from alharness.executors.sweeps import read_jobs, standing

    found, everything = jobs_of(spec, runs_dir, elsewhere=True, **options)
    state = standing(everything)
    _announce(found, everything, state, 1)
    for job, run in read_jobs(state.left):
        if run.failure is not None:
            click.echo(f"  failed: {job.name}: {run.failure}")
    for job, run in read_jobs(state.unfinished):
        told = f"{run.records[-1].n_asked} of {job.spec.budget} annotations"
        click.echo(f"  to continue: {job.name}  {told}")
    if state.left:
        words = _as_typed(spec, options) + runs_dir_typed(runs_dir)
        click.echo(f"Carry on:  {typed('sweep', *words)}")


@sweep.command()
@spec_argument
@sweep_options
@runs_dir_option
@path_option("--out", default=Path("plan.jsonl"))
def plan(spec: Path | None, runs_dir: Path, out: Path, **options: Any) -> None:
    """Write down the runs that are left, numbered, for a job array.

    Over a plan that is there already, every run keeps its number, so that an array that waits still
    finds its runs; new ones are appended. A device that is left open is settled where a run starts.
    """
    from alharness.executors.plans import as_array, extend_plan
    from alharness.executors.sweeps import standing

    found, jobs = jobs_of(spec, runs_dir, elsewhere=True, **options)
    left = standing(jobs).left
    numbers = extend_plan(out, found.name, runs_dir, left)
    click.echo(f"{out}: {len(left)} of {len(jobs)} runs are left")
    if left:
        carried = typed("sweep", "run-one", str(out))
        click.echo(shlex.join(["sbatch", f"--array={as_array(numbers)}", "--wrap", carried]))


@sweep.command("run-one")
@click.argument("plan_file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--index",
    type=click.IntRange(0),
    required=True,
    envvar="SLURM_ARRAY_TASK_ID",
    help="Which run of the plan (environment: SLURM_ARRAY_TASK_ID).",
)
@data_root_option
@click.option("--fresh", is_flag=True, help="Throw away what exists of this run.")
def run_one(plan_file: Path, index: int, data_root: Path | None, fresh: bool) -> int:
    """Carry out one run of a plan, without MLflow ('alharness sync' makes the view afterwards)."""
    from alharness.api.running import places_of
    from alharness.executors.base import carry_out, payload
    from alharness.executors.plans import job_of_plan

    job = job_of_plan(plan_file, index)
    click.echo(job.name)
    reason, _ = carry_out(payload(job, places_of(job.runs_dir, data_root), fresh=fresh))
    if reason:
        click.echo(f"failed: {reason}", err=True)
        return 1
    return 0
