"""An experiment in an MLflow store, and how a run of ours is written into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alharness.errors import UserError
from alharness.files import flatten, read_toml
from alharness.records import CycleRecord, RunFacts, RunFolder
from alharness.spec import RunSpec
from alharness.tracking.metrics import clean, cycle_metrics, renamed
from alharness.tracking.stores import (
    Tell,
    artefact_root,
    check_uri,
    first_line,
    load_mlflow,
    make_engine,
    ready_database,
    sqlite_path,
    store_error,
)

PREFIX = "alharness."
DEFAULT_EXPERIMENT = "alharness"

#: Limits of one request of MLflow's.
METRICS_AT_ONCE = 900
PARAMS_AT_ONCE = 90

#: MLflow cuts longer values off, and says so each time.
LONGEST_VALUE = 5000


class Tracking:
    """An experiment in an MLflow store.

    Args:
        uri: tracking URI; SQLite files are created when absent.
        experiment: name of the experiment.
        mend: set a broken SQLite file aside and make another; else it is refused.
        tell: told in one sentence where a file was set aside.

    Raises:
        UserError: the store cannot be used; anything else that the store raises.
    """

    def __init__(
        self,
        uri: str,
        experiment: str = DEFAULT_EXPERIMENT,
        *,
        mend: bool = True,
        tell: Tell = lambda text: None,
    ) -> None:
        self.uri = check_uri(uri)
        self.experiment = experiment
        mlflow = load_mlflow()
        self.entities = mlflow.entities
        database = sqlite_path(self.uri)
        if database is not None:
            ready_database(database, mend=mend, tell=tell)
            make_engine(self.uri, database)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self.experiment_id = self._experiment_id(database)

    def _experiment_id(self, database: Path | None) -> str:
        location = None if database is None else artefact_root(database).resolve().as_uri()
        # Without its kind MLflow's pages open on traces of language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                created = self.client.create_experiment(
                    self.experiment, artifact_location=location, tags=tags
                )
            except Exception:
                found = self.client.get_experiment_by_name(self.experiment)
                if found is None:  # no other process was faster
                    raise
            else:
                return str(created)
        if found.lifecycle_stage == "deleted":
            raise UserError(
                f"The MLflow experiment '{self.experiment}' is deleted. Restore it, or choose "
                "another with --experiment."
            )
        return str(found.experiment_id)

    def open_run(
        self,
        spec: RunSpec,
        folder: RunFolder,
        facts: RunFacts,
        parent: str | None,
        records: Sequence[CycleRecord] = (),
    ) -> str:
        """The MLflow run of a run folder: the one that exists, or a new one, with all that it needs.

        A run that holds points which the records do not is of an earlier life of the folder (before
        ``--fresh``): it is deleted, and a new one takes its place.
        """
        found = self.find_run(folder, records, replace=True)
        tags = _tags(spec, folder, facts)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        params = {
            clean(key): str(value)[:LONGEST_VALUE]
            for key, value in flatten(spec.model_dump(mode="json")).items()
        }
        if found is None:
            # The folder's name, not the spec's hash now: a later version hashes further settings.
            tags[f"{PREFIX}run_key"] = folder.path.name
            name = f"{spec.task.name} {spec.strategy.name} s{spec.seed}"[:200]
            found = self.client.create_run(
                self.experiment_id, start_time=_started_ms(facts), run_name=name, tags=tags
            )
        elif found.info.status != "RUNNING":
            self.client.update_run(found.info.run_id, status="RUNNING")
        run_id = str(found.info.run_id)
        # A kill may have come between the run and what it holds.
        new = {key: text for key, text in tags.items() if found.data.tags.get(key) != text}
        left = {key: text for key, text in params.items() if key not in found.data.params}
        self._write_facts(run_id, new, left)
        if not getattr(found.inputs, "dataset_inputs", None):
            self._log_dataset(run_id, spec, facts)
        return run_id

    def find_run(
        self, folder: RunFolder, records: Sequence[CycleRecord], *, replace: bool = False
    ) -> Any:
        """The MLflow run of a run folder, or None.

        The same spec may have been run in another folder too: its run holds other points, and stays.
        """
        here = str(folder.path.resolve())
        points = {(record.cycle, record.ts_ms) for record in records}
        for run in self._runs_with(f"{PREFIX}run_key", folder.path.name):
            foreign = self._points(run.info.run_id) - points
            if run.data.tags.get(f"{PREFIX}folder") != here:
                # A folder that was moved brings its points along.
                if not foreign and run.data.metrics:
                    return run
            elif not foreign:
                return run
            elif replace:
                self.client.delete_run(run.info.run_id)
        return None

    def _runs_with(self, tag: str, value: str) -> Iterator[Any]:
        """All active runs whose tag has a value, whatever signs it has."""
        # MLflow's filters have no way to write a quote, so that a name with one is compared here.
        plain = value and all(sign.isalnum() or sign in " .,-_/" for sign in value)
        condition = f"= '{value}'" if plain else "LIKE '%'"
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{tag}` {condition}",
                max_results=500,
                page_token=token,
            )
            yield from (run for run in page if run.data.tags.get(tag) == value)
            token = page.token
            if not token:
                return

    def _write_facts(self, run_id: str, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        facts = [
            *(self.entities.RunTag(key, text) for key, text in tags.items()),
            *(self.entities.Param(key, text) for key, text in params.items()),
        ]
        for start in range(0, len(facts), PARAMS_AT_ONCE):
            part = facts[start : start + PARAMS_AT_ONCE]
            self.client.log_batch(
                run_id,
                tags=[fact for fact in part if isinstance(fact, self.entities.RunTag)],
                params=[fact for fact in part if isinstance(fact, self.entities.Param)],
            )

    def _log_dataset(self, run_id: str, spec: RunSpec, facts: RunFacts) -> None:
        dataset = self.entities.Dataset(
            name=spec.task.name[:500],
            digest=(facts.task.fingerprint or "unknown")[:36],
            source_type="local",
            source="{}",
        )
        tag = self.entities.InputTag(key="mlflow.data.context", value="pool")
        with suppress(AttributeError):  # stores without data-set inputs
            self.client.log_inputs(run_id, [self.entities.DatasetInput(dataset, [tag])])

    def log_record(self, run_id: str, record: CycleRecord) -> None:
        """The metrics of a cycle at step ``n_labelled``, stamped with the record's own time."""
        self.log_records(run_id, [record])

    def log_records(self, run_id: str, records: Sequence[CycleRecord]) -> None:
        """Several cycles in as few requests as MLflow allows."""
        metrics: list[Any] = []
        names: dict[str, str] = {}
        for record in records:
            values = cycle_metrics(record)
            values["cycle"] = values.pop("cycle")  # last: where it is, the whole record is
            metrics += [
                self.entities.Metric(key, value, record.ts_ms, record.n_labelled)
                for key, value in values.items()
            ]
            names |= renamed(record)
        if names:
            tags = {f"{PREFIX}name.{key}": true[:LONGEST_VALUE] for key, true in names.items()}
            self._write_facts(run_id, tags, {})
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])

    def logged_cycles(self, run_id: str) -> set[int]:
        """Cycles that are in the store already."""
        return {cycle for cycle, _ in self._points(run_id)}

    def _points(self, run_id: str) -> set[tuple[int, int]]:
        """(cycle, time stamp) of all records in the store."""
        history = self.client.get_metric_history(run_id, "cycle")
        return {(round(metric.value), int(metric.timestamp)) for metric in history}

    def log_files(self, run_id: str, paths: Sequence[Path]) -> None:
        """Copy files into the run's artefacts."""
        for path in paths:
            if path.is_file():
                self.client.log_artifact(run_id, str(path))

    def missing_files(self, run_id: str, paths: Sequence[Path]) -> list[Path]:
        """Those of some files that the run's artefacts do not have."""
        present = {Path(item.path).name for item in self.client.list_artifacts(run_id)}
        return [path for path in paths if path.name not in present]

    def finish(self, run_id: str, status: str = "FINISHED", ended_ms: int | None = None) -> None:
        """Set the run's final status."""
        self.client.set_terminated(run_id, status=status, end_time=ended_ms)

    def sweep(self, name: str) -> str:
        """The parent run of a sweep: the one that exists, or a new one."""
        marker, value = f"{PREFIX}sweep", name[:LONGEST_VALUE]
        for run in self._runs_with(marker, value):
            return str(run.info.run_id)
        created = self.client.create_run(
            self.experiment_id, run_name=name[:200], tags={marker: value}
        )
        return str(created.info.run_id)

    def answers(self) -> bool:
        """Whether the store can be asked at all."""
        try:
            return self.client.get_experiment(self.experiment_id) is not None
        except Exception:  # whatever it raises, it is no answer
            return False


def open_tracking(
    uri: str,
    experiment: str = DEFAULT_EXPERIMENT,
    *,
    mend: bool = True,
    tell: Tell = lambda text: None,
) -> Tracking:
    """Open (and where needed create) a tracking store.

    Raises:
        UserError: the store does not answer or cannot be made.
    """
    try:
        return Tracking(uri, experiment, mend=mend, tell=tell)
    except Exception as error:  # mlflow wraps connection and database errors in many types
        raise store_error(uri, error) from error


def _tags(spec: RunSpec, folder: RunFolder, facts: RunFacts) -> dict[str, str]:
    """Volatile facts: tags may change from session to session, parameters may not."""
    told: dict[str, Any] = {
        "folder": str(folder.path.resolve()),
        "strategy": spec.strategy.name,
        "task": spec.task.name,
        "git_commit": facts.git_commit,
        "synthetic_data": facts.task.synthetic,
        **{f"version.{key}": value for key, value in facts.versions.items()},
        **{f"hardware.{key}": value for key, value in facts.hardware.items()},
    }
    return {f"{PREFIX}{clean(key)}": str(value)[:LONGEST_VALUE] for key, value in told.items()}


def _started_ms(facts: RunFacts) -> int | None:
    """When the run's first session began; None for now."""
    return facts.sessions[0].started_ms if facts.sessions else None


def files_of(folder: RunFolder) -> list[Path]:
    """What of a finished run is copied into the view."""
    known = [folder.spec, folder.cycles, folder.queries, folder.env]
    return [path for path in (*known, *sorted(folder.path.glob("*.png"))) if path.is_file()]


def sync_run(
    folder: RunFolder,
    tracking: Tracking,
    parent: str | None = None,
    *,
    only_known: bool = False,
) -> int | None:
    """Bring the MLflow view of one run up to its records.

    Args:
        folder: the run.
        tracking: the store.
        parent: MLflow run of the sweep, if any.
        only_known: leave a run out that the view does not have.

    Returns:
        how many cycles were added; None when the run was left out.

    Raises:
        UserError: the folder cannot be read; anything else is the store's.
    """
    spec, records, facts = read_folder(folder)
    if only_known and tracking.find_run(folder, records) is None:
        return None
    run_id = tracking.open_run(spec, folder, facts, parent, records)
    logged = tracking.logged_cycles(run_id)
    missing = [record for record in records if record.cycle not in logged]
    tracking.log_records(run_id, missing)
    finished = bool(records) and records[-1].final
    if finished:
        files = files_of(folder)
        tracking.log_files(run_id, files if missing else tracking.missing_files(run_id, files))
    ended_ms = records[-1].ts_ms if records else None
    tracking.finish(run_id, "FINISHED" if finished else "KILLED", ended_ms)
    return len(missing)


def read_folder(folder: RunFolder) -> tuple[RunSpec, list[CycleRecord], RunFacts]:
    """What a run folder says of itself.

    Raises:
        UserError: one of its files cannot be read.
    """
    try:
        spec = RunSpec.model_validate(read_toml(folder.spec))
        return spec, folder.records(), folder.facts()
    except UserError:
        raise
    except (OSError, ValueError) as error:  # pydantic's, json's and decoding errors are ValueErrors
        raise UserError(
            f"The run's files cannot be read ({type(error).__name__}: {first_line(error)}). Restore "
            "them, or start the run over with --fresh."
        ) from error
