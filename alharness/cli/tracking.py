"""``alharness ui`` and ``alharness sync``: the MLflow view of the records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
from click.core import ParameterSource

from alharness.cli.options import runs_dir_option, tracking_options
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.records import RunFolder

#: A long sync says how far it is.
EVERY_S = 5.0

#: How long a server may take to end by itself.
ENDING_S = 3.0

#: What MLflow's page shows of an experiment: its training runs, as charts. In its own order, by time, it
#: shows sweeps with their runs folded away, and so no chart; by seed it shows runs, all strategies of the
#: first seed before the next.
TRAINING = "workflowType=machine_learning&compareRunsMode=CHART&orderByKey=params.%60seed%60&orderByAsc=true"


@click.command()
@runs_dir_option
@tracking_options
@click.option(
    "--all", "everything", is_flag=True, help="Also runs made with --no-tracking, and failed ones."
)
def sync(runs_dir: Path, tracking_uri: str | None, experiment: str, everything: bool) -> int:
    """Rebuild the MLflow view from the records: what is missing is added, nothing is doubled.

    A broken database beside the runs is set aside and made anew. A run whose folder cannot be read is
    named and left out; so are runs made with --no-tracking and failed ones, unless --all asks for them.
    """
    from alharness.records import run_folders
    from alharness.tracking.stores import check_uri, default_uri

    folders = run_folders(runs_dir)
    if not folders:
        raise UserError(f"There are no runs in '{runs_dir}'. Name their root with --runs-dir.")
    uri = check_uri(tracking_uri or default_uri(runs_dir))
    done = _bring_up_to_date(folders, uri, experiment, everything=everything)
    click.echo(
        f"{len(folders)} runs: {done['cycles']} cycles added"
        + (f", {done['running']} still running and left alone" if done["running"] else "")
        + (f", {done['kept out']} made with --no-tracking" if done["kept out"] else "")
        + (f", {done['failed']} failed" if done["failed"] else "")
        + (" (left out; --all adds them)" if done["kept out"] or done["failed"] else "")
        + (f", {done['bad']} could not be added" if done["bad"] else "")
    )
    return 1 if done["bad"] else 0


def _tell(text: str) -> None:
    click.echo(f"alharness: {text}", err=True)


def _bring_up_to_date(
    folders: Sequence[RunFolder], uri: str, experiment: str, *, everything: bool
) -> Counter[str]:
    """Sync every folder that can be; counts of what was added, and of what was left out and why."""
    from alharness.files import refusal
    from alharness.tracking.marks import is_kept_out
    from alharness.tracking.seen import look
    from alharness.tracking.sync import bring
    from alharness.tracking.view import open_tracking

    def left_out(folder: RunFolder) -> str:
        if everything:
            return ""
        if is_kept_out(folder):
            return "kept out"
        return "failed" if folder.failure() is not None else ""

    done: Counter[str] = Counter()
    seen = look(uri, experiment)
    stale = []
    for folder in folders:
        # Where nothing is new, MLflow is not even imported.
        unseen = seen is not None and folder.path.name not in seen.by_key
        try:
            # A run that the view has is kept up to date, whatever it was asked for when it was made.
            reason = left_out(folder) if unseen else ""
            is_fresh = seen is not None and not reason and seen.is_fresh(folder)
        except OSError as error:  # a folder of another user
            done["bad"] += 1
            _tell(str(refusal(error, error.filename or folder.path, "read")))
            continue
        if reason:
            done[reason] += 1
        elif not is_fresh:
            stale.append(folder)
    if not stale:
        return done
    tracking = open_tracking(uri, experiment, tell=_tell)
    last = time.monotonic()
    for number, found in enumerate(bring(stale, tracking, left_out=left_out), start=1):
        done[found.outcome] += 1
        done["cycles"] += found.cycles
        if found.reason:
            _tell(found.reason)
        if time.monotonic() - last > EVERY_S:
            last = time.monotonic()
            click.echo(f"{number} of {len(stale)} runs", err=True)
    return done


@click.command()
@runs_dir_option
@tracking_options
@click.option("--mlflow", is_flag=True, help="MLflow's page instead, with one light worker.")
@click.option("--port", type=int, default=5000, show_default=True, help="Port on this machine.")
def ui(runs_dir: Path, tracking_uri: str | None, experiment: str, mlflow: bool, port: int) -> None:
    """Watch the runs in a browser: curves, progress, failures, time left (Ctrl-C ends it).

    The page reads the records and follows them as runs go on; a click on a strategy hides it. It is
    served on this machine only.
    """
    if mlflow:
        _open_mlflow(runs_dir, tracking_uri, experiment, port)
        return
    for name in ("tracking_uri", "experiment"):
        # From the environment they are for whatever uses MLflow; typed, they are meant here.
        if click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} belongs to MLflow's page. Add --mlflow, or leave it out.")
    from alharness.live.server import LocalServer
    from alharness.live.watch import page, watched

    seen = watched(runs_dir)
    server = LocalServer({"": page, "runs.json": seen.values}, port=port)
    click.echo(server.address)
    with suppress(KeyboardInterrupt):
        server.serve()


def _open_mlflow(runs_dir: Path, tracking_uri: str | None, experiment: str, port: int) -> None:
    from alharness.comparison.comparison import BOUND
    from alharness.tracking import check_uri, default_uri, open_tracking, shown
    from alharness.tracking.stores import DATABASES, scheme_of, sqlite_path

    uri = check_uri(tracking_uri or default_uri(runs_dir))
    if scheme_of(uri) not in DATABASES:
        raise UserError(f"'{shown(uri)}' is a server already. Open it in a browser.")
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise UserError(
            f"There is no tracking store '{database}'. Run something first, or 'alharness sync'."
        )
    identity = open_tracking(uri, experiment, mend=False).experiment_id
    # The mode of training: without it MLflow's pages may open on traces of language models.
    # The bound's one point lies at the pool's size and presses all curves into a line; emptying the page's
    # search brings it back.
    contenders = "searchFilter=" + quote(f"params.`strategy.name` != '{BOUND}'")
    click.echo(f"http://127.0.0.1:{port}/#/experiments/{identity}/runs?{TRAINING}&{contenders}")
    # The job executor and further workers cost a gigabyte and 15 s of start-up and serve nothing here.
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    arguments = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-P", "-m", "mlflow", "server", *arguments, "--workers", "1"]
    code = _serve(command, environment)
    if code:
        raise UserError(
            f"MLflow's server ended with code {code}. Is port {port} taken? Try --port."
        )


def _serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """A server with all its processes, until it ends or we do (Ctrl-C, SIGTERM); its exit code."""
    # A group of its own: the server starts others, which nobody else would end.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_S)
