"""``alharness ui`` and ``alharness sync``: the MLflow view of the records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from alharness.cli.options import runs_dir_option, tracking_options
from alharness.errors import UserError


@click.command()
@runs_dir_option
@tracking_options
def sync(runs_dir: Path, tracking_uri: str | None, experiment: str) -> None:
    """Rebuild the MLflow view from the records: what is missing is added, nothing is doubled."""
    from filelock import FileLock, Timeout

    from alharness.records import run_folders
    from alharness.tracking import default_uri, open_tracking, sync_run

    folders = run_folders(runs_dir)
    if not folders:
        raise UserError(f"There are no runs in '{runs_dir}'. Name their root with --runs-dir.")
    tracking = open_tracking(tracking_uri or default_uri(runs_dir), experiment)
    added = running = failed = 0
    for folder in folders:
        try:
            with FileLock(folder.lock, timeout=0):
                added += sync_run(folder, tracking)
        except Timeout:
            running += 1  # its own process logs it
        except UserError as error:
            failed += 1
            click.echo(f"alharness: {folder.path}: {error}", err=True)
    click.echo(
        f"{len(folders)} runs: {added} cycles added"
        + (f", {running} still running and left alone" if running else "")
        + (f", {failed} not readable" if failed else "")
    )
    if failed:
        raise SystemExit(1)


@click.command()
@runs_dir_option
@tracking_options
@click.option("--port", type=int, default=5000, show_default=True, help="Port on this machine.")
def ui(runs_dir: Path, tracking_uri: str | None, experiment: str, port: int) -> None:
    """Open the runs in MLflow, with one light worker (Ctrl-C ends it)."""
    from alharness.tracking import default_uri, open_tracking

    uri = tracking_uri or default_uri(runs_dir)
    if not uri.startswith(("sqlite:", "mysql", "postgres", "mssql")):
        raise UserError(f"'{uri}' is a server already. Open it in a browser.")
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(
            f"There is no tracking store at '{uri}'. Run something first, or 'alharness sync'."
        )
    identity = open_tracking(uri, experiment).experiment_id
    click.echo(f"http://127.0.0.1:{port}/#/experiments/{identity}/runs")
    # The job executor and further workers cost a gigabyte and 15 s of start-up and serve nothing here.
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    arguments = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *arguments, "--workers", "1"]
    try:
        done = subprocess.run(command, env=environment, check=False)
    except KeyboardInterrupt:
        return
    if done.returncode:
        raise UserError(
            f"MLflow's server ended with code {done.returncode}. Is port {port} taken? Try --port."
        )
