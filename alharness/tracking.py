"""The MLflow view of runs: a copy of the records that can be thrown away and rebuilt.

The only importer of mlflow. What is logged for a cycle is a function of its record, with the
record's own time stamp, so logging a record twice writes the same rows: replaying after a stop (or
``alharness sync``) doubles no point. A server that does not answer costs nothing but its view:
the records stay, the user is told once, ``alharness sync`` catches up.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from alharness.errors import UserError
from alharness.files import read_toml
from alharness.records import CycleRecord, RunFolder
from alharness.spec import RunSpec

PREFIX = "alharness."
DEFAULT_EXPERIMENT = "alharness"


def default_uri(runs_dir: Path) -> str:
    """An embedded SQLite store beside the runs."""
    return f"sqlite:///{(runs_dir / 'mlflow.db').resolve()}"


def _mlflow() -> Any:
    """mlflow, imported when first needed (2 s) and without its telemetry."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A dead server must not hold up a run: the default is minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


def _is_local(uri: str) -> bool:
    return uri.startswith(("sqlite:", "file:")) or "://" not in uri


class Tracking:
    """An experiment in an MLflow store.

    Args:
        uri: tracking URI; SQLite files are created when absent.
        experiment: name of the experiment.
        artefact_dir: where a local store keeps its artefacts.
    """

    def __init__(self, uri: str, experiment: str = DEFAULT_EXPERIMENT) -> None:
        self.uri = uri
        self.experiment = experiment
        mlflow = _mlflow()
        self.entities = mlflow.entities
        if not _is_local(uri):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment_id(None)
            return
        database = Path(uri.removeprefix("sqlite:///"))
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The tracking store '{uri}' cannot be made: {error.strerror}. "
                "Choose another --tracking-uri, or use --no-tracking."
            ) from error
        # Two processes that create the tables at once break each other.
        with FileLock(database.with_name(database.name + ".lock")):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment_id(database.parent / "mlflow" / "artefacts")

    def _experiment_id(self, artefact_dir: Path | None) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise UserError(
                    f"The MLflow experiment '{self.experiment}' is deleted. Restore it, or choose "
                    "another with --experiment."
                )
            return str(found.experiment_id)
        location = None if artefact_dir is None else artefact_dir.resolve().as_uri()
        # Without its kind MLflow's pages open on traces of language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        created = self.client.create_experiment(
            self.experiment, artifact_location=location, tags=tags
        )
        return str(created)

    def open_run(
        self, spec: RunSpec, folder: RunFolder, environment: Mapping[str, Any], parent: str | None
    ) -> str:
        """The MLflow run of a run key: the one that exists, or a new one."""
        # The folder's name, not the spec's hash now: a later version hashes further settings.
        marker, run_key = f"{PREFIX}run_key", folder.path.name
        found = self.client.search_runs(
            [self.experiment_id], filter_string=f"tags.`{marker}` = '{run_key}'", max_results=1
        )
        tags = {marker: run_key, **_tags(spec, folder, environment)}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        if found:
            run_id = str(found[0].info.run_id)
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)
            self.client.update_run(run_id, status="RUNNING")
            return run_id
        name = f"{spec.task.name} {spec.strategy.name} s{spec.seed}"
        created = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        run_id = str(created.info.run_id)
        params = [
            self.entities.Param(key, value)
            for key, value in flat(spec.model_dump(mode="json")).items()
        ]
        for start in range(0, len(params), 100):  # the API's limit
            self.client.log_batch(run_id, params=params[start : start + 100])
        self._log_dataset(run_id, spec, environment)
        return run_id

    def _log_dataset(self, run_id: str, spec: RunSpec, environment: Mapping[str, Any]) -> None:
        task = environment.get("task", {})
        dataset = self.entities.Dataset(
            name=spec.task.name,
            digest=str(task.get("fingerprint", "unknown"))[:36],
            source_type="local",
            source="{}",
        )
        tag = self.entities.InputTag(key="mlflow.data.context", value="pool")
        with suppress(AttributeError):  # stores without data-set inputs
            self.client.log_inputs(run_id, [self.entities.DatasetInput(dataset, [tag])])

    def log_record(self, run_id: str, record: CycleRecord) -> None:
        """One batch per cycle, at step ``n_labelled``, stamped with the record's own time."""
        metrics = [
            self.entities.Metric(key, value, record.ts_ms, record.n_labelled)
            for key, value in cycle_metrics(record).items()
        ]
        self.client.log_batch(run_id, metrics=metrics)

    def logged_cycles(self, run_id: str) -> set[int]:
        """Cycles that are in the store already."""
        history = self.client.get_metric_history(run_id, "cycle")
        return {round(metric.value) for metric in history}

    def log_files(self, run_id: str, paths: Sequence[Path]) -> None:
        """Copy files into the run's artefacts."""
        for path in paths:
            if path.is_file():
                self.client.log_artifact(run_id, str(path))

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """Set the run's final status."""
        self.client.set_terminated(run_id, status=status)

    def sweep(self, name: str) -> str:
        """The parent run of a sweep: the one that exists, or a new one."""
        marker = f"{PREFIX}sweep"
        found = self.client.search_runs(
            [self.experiment_id], filter_string=f"tags.`{marker}` = '{name}'", max_results=1
        )
        if found:
            return str(found[0].info.run_id)
        created = self.client.create_run(self.experiment_id, run_name=name, tags={marker: name})
        return str(created.info.run_id)


def open_tracking(uri: str, experiment: str = DEFAULT_EXPERIMENT) -> Tracking:
    """Open (and where needed create) a tracking store.

    Raises:
        UserError: the store does not answer or cannot be made.
    """
    try:
        return Tracking(uri, experiment)
    except UserError:
        raise
    except Exception as error:  # mlflow wraps connection and database errors in many types
        raise UserError(
            f"The tracking store '{uri}' does not answer ({_one_line(error)}). Start the server, give "
            "another --tracking-uri, or use --no-tracking and 'alharness sync' later."
        ) from error


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as ``section.name`` -> text, for parameters."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _tags(spec: RunSpec, folder: RunFolder, environment: Mapping[str, Any]) -> dict[str, str]:
    """Volatile facts: tags may change from session to session, parameters may not."""
    facts: dict[str, Any] = {
        "folder": str(folder.path.resolve()),
        "strategy": spec.strategy.name,
        "task": spec.task.name,
        "git_commit": environment.get("git_commit", ""),
        "synthetic_data": environment.get("task", {}).get("synthetic", False),
        **{f"version.{key}": value for key, value in environment.get("versions", {}).items()},
        **{f"hardware.{key}": value for key, value in environment.get("hardware", {}).items()},
    }
    return {f"{PREFIX}{key}": str(value) for key, value in facts.items()}


def cycle_metrics(record: CycleRecord) -> dict[str, float]:
    """All metrics of one cycle, by the names that the report and MLflow use."""
    metrics: dict[str, float] = {
        "cycle": record.cycle,
        "labels/n_asked": record.n_asked,
        "labels/n_synthetic": record.n_synthetic,
        "labels/cost": record.cost,
        "test/accuracy": record.test.accuracy,
        "test/balanced_accuracy": record.test.balanced_accuracy,
        "test/macro_f1": record.test.macro_f1,
        "test/log_loss": record.test.log_loss,
        "fit/steps": record.fit.steps,
        "fit/train_loss": record.fit.train_loss,
        "time/fit_s": record.time.fit_s,
        "time/evaluate_s": record.time.evaluate_s,
        "time/harness_s": record.time.harness_s,
    }
    if record.test.average_precision is not None:
        metrics["test/average_precision"] = record.test.average_precision
    if record.time.select_s is not None:
        metrics["time/select_s"] = record.time.select_s
    for phase, seconds in record.time.phases.items():
        metrics[f"time/select/{phase}_s"] = seconds
    if record.test.average_precision is not None:
        metrics["test/average_precision"] = record.test.average_precision
    if record.query is not None:
        metrics["query/entropy_mean"] = record.query.entropy_mean
        metrics["query/entropy_median"] = record.query.entropy_median
        for key, value in record.query.diagnostics.items():
            metrics[f"query/{key}"] = value
    if record.annotation is not None:
        metrics["query/n_rejected"] = record.annotation.n_rejected
        for index, count in enumerate(record.annotation.class_histogram):
            metrics[f"query/class_{index}"] = count
    for key, count in record.work.items():
        metrics[f"work/{key}"] = count
    for entry in record.time.prepared:
        metrics[f"preparation/{entry.name}_s"] = entry.seconds
        metrics[f"preparation/{entry.name}_cached"] = float(entry.cached)
    return metrics


class TrackingObserver:
    """Logs each cycle after its record is on the disk; says once when the store does not answer.

    Args:
        uri, experiment: the store.
        parent: MLflow run of the sweep, if any.
        warn: called with one sentence when the store fails; the run goes on.
    """

    def __init__(self, uri: str, experiment: str, warn: Any, parent: str | None = None) -> None:
        self.uri, self.experiment = uri, experiment
        self.parent = parent
        self._warn = warn
        self._tracking: Tracking | None = None
        self._run_id: str | None = None
        self._failed = False

    def open(self) -> None:
        """Open the store before anything costly, so that a mistyped URI is told at once."""
        self._tracking = open_tracking(self.uri, self.experiment)

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        def go() -> None:
            assert self._tracking is not None
            self._run_id = self._tracking.open_run(spec, folder, folder.environment(), self.parent)
            logged = self._tracking.logged_cycles(self._run_id) if done else set()
            for record in done:
                if record.cycle not in logged:
                    self._tracking.log_record(self._run_id, record)

        self._attempt(go)

    def cycle(self, record: CycleRecord) -> None:
        def go() -> None:
            assert self._tracking is not None
            assert self._run_id is not None
            self._tracking.log_record(self._run_id, record)

        self._attempt(go)

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        def go() -> None:
            assert self._tracking is not None
            assert self._run_id is not None
            self._tracking.log_files(self._run_id, _files(folder))
            self._tracking.finish(self._run_id)

        self._attempt(go)

    def stopped(self) -> None:
        """Mark an unfinished run, so that it does not seem to go on for ever."""

        def go() -> None:
            assert self._tracking is not None
            if self._run_id is not None:
                self._tracking.finish(self._run_id, status="KILLED")

        self._attempt(go)

    def _attempt(self, action: Any) -> None:
        if self._failed or self._tracking is None:
            return
        try:
            action()
        except Exception as error:  # whatever the store raises, the records matter more
            self._failed = True
            self._warn(
                f"MLflow at '{self.uri}' stopped answering ({_one_line(error)}). The run goes on and "
                "its records are complete; 'alharness sync' rebuilds the view."
            )


def _files(folder: RunFolder) -> list[Path]:
    return [
        folder.spec,
        folder.cycles,
        folder.queries,
        folder.env,
        *sorted(folder.path.glob("*.png")),
    ]


def sync_run(folder: RunFolder, tracking: Tracking, parent: str | None = None) -> int:
    """Bring the MLflow view of one run up to its records.

    Returns:
        how many cycles were added.
    """
    spec = RunSpec.model_validate(read_toml(folder.spec))
    records = folder.records()
    run_id = tracking.open_run(spec, folder, folder.environment(), parent)
    logged = tracking.logged_cycles(run_id)
    missing = [record for record in records if record.cycle not in logged]
    for record in missing:
        tracking.log_record(run_id, record)
    finished = bool(records) and records[-1].final
    if finished and missing:
        tracking.log_files(run_id, _files(folder))
    tracking.finish(run_id, status="FINISHED" if finished else "KILLED")
    return len(missing)
