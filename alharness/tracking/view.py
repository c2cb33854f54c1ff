"""An experiment in an MLflow store, and how a run of ours is written into it.

One thing makes the view, whoever asks for it (``alharness sync``, a run, a sweep's driver): ``sync_run``.
A run's stamp is written last, or with all the rest in one transaction, so that a kill in between leaves a
run that is brought up to date again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from alharness.errors import UserError
from alharness.records import CycleRecord, RunFolder
from alharness.tracking.content import LONGEST_VALUE, Content, content_of
from alharness.tracking.database import insert_run, move_files
from alharness.tracking.seen import FOLDER, KEY, STAMP, SWEEP
from alharness.tracking.stores import (
    FILES,
    Tell,
    artefact_root,
    check_uri,
    load_mlflow,
    make_engine,
    ready_database,
    sqlite_path,
    store_error,
)

DEFAULT_EXPERIMENT = "alharness"

#: Limits of one request of MLflow's.
METRICS_AT_ONCE = 900
PARAMS_AT_ONCE = 90


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
        self._engine: Any = None
        if database is not None:
            ready_database(database, mend=mend, tell=tell)
            self._engine = make_engine(self.uri, database)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        found = self._open_experiment(database)
        self.experiment_id = str(found.experiment_id)
        self._location = str(found.artifact_location)

    def _open_experiment(self, database: Path | None) -> Any:
        """The experiment of the name, made where there is none."""
        location = None if database is None else artefact_root(database).resolve().as_uri()
        # Without its kind MLflow's pages open on traces of language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            failed: list[Exception] = []
            try:
                self.client.create_experiment(
                    self.experiment, artifact_location=location, tags=tags
                )
            except Exception as error:  # another process may have been faster
                failed.append(error)
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                raise failed[0]
        if found.lifecycle_stage == "deleted":
            raise UserError(
                f"The MLflow experiment '{self.experiment}' is deleted. Restore it, or choose "
                "another with --experiment."
            )
        before = str(found.artifact_location)
        if location is not None and before != location and before.endswith(FILES):
            # The database came here with its folder: nothing is to be written into the old one.
            move_files(self._engine, before, location)
            found = self.client.get_experiment_by_name(self.experiment)
        return found

    def find_run(
        self, folder: RunFolder, records: Sequence[CycleRecord], *, replace: bool = False
    ) -> Any:
        """The MLflow run of a run folder, or None.

        The same spec may have been run in another folder too: its run holds other points, and stays. One
        of this folder that holds points which the records do not is of an earlier life of it (before
        ``--fresh``), and is deleted where it is to be replaced.
        """
        here = str(folder.path.resolve())
        points = {(record.cycle, record.ts_ms) for record in records}
        for run in self._runs_with(KEY, folder.path.name):
            # By cycle and time: a run that was started over has the same cycles at other times.
            foreign = self._points(run.info.run_id) - points
            if run.data.tags.get(FOLDER) != here:
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

    def logged_cycles(self, run_id: str) -> set[int]:
        """Cycles that are in the store already."""
        return {cycle for cycle, _ in self._points(run_id)}

    def _points(self, run_id: str) -> set[tuple[int, int]]:
        """(cycle, time stamp) of all records in the store."""
        history = self.client.get_metric_history(run_id, "cycle")
        return {(round(metric.value), int(metric.timestamp)) for metric in history}

    @property
    def _by_tables(self) -> bool:
        """Whether new runs are written without MLflow's client."""
        return self._engine is not None and self._location.startswith("file:")

    def add_new(self, content: Content) -> bool:
        """Write a run whose key the store does not know, in one step; False where it does, or cannot tell."""
        # MLflow's search for it takes 20 ms, as much as all the rest, and most runs that come are new.
        return self._by_tables and insert_run(
            self._engine, self.experiment_id, self._location, content, unless=KEY
        )

    def add(self, content: Content) -> None:
        """Write a run that the view does not have."""
        if self._by_tables:
            insert_run(self._engine, self.experiment_id, self._location, content)
            return
        run = self.client.create_run(
            self.experiment_id,
            start_time=content.started_ms,
            run_name=content.name,
            tags=dict(content.tags),
        )
        self.complete(run, content)

    def complete(self, run: Any, content: Content) -> None:
        """Bring a run that is there up to date, by MLflow's client; its stamp comes last."""
        run_id = str(run.info.run_id)
        if run.info.status != "RUNNING":  # MLflow adds nothing to a run that has ended
            self.client.update_run(run_id, status="RUNNING")
        # A kill may have come between the run and what it holds.
        tags = {key: text for key, text in content.tags.items() if run.data.tags.get(key) != text}
        params = {key: text for key, text in content.params.items() if key not in run.data.params}
        self._write_facts(run_id, tags, params)
        if not getattr(run.inputs, "dataset_inputs", None):
            self._log_dataset(run_id, *content.dataset)
        given = [self.entities.Metric(*metric) for metric in content.metrics()]
        for start in range(0, len(given), METRICS_AT_ONCE):
            self.client.log_batch(run_id, metrics=given[start : start + METRICS_AT_ONCE])
        self.log_files(run_id, content.pictures)
        self._write_facts(run_id, {STAMP: content.stamp}, {})
        self.finish(run_id, content.status, content.ended_ms)

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

    def _log_dataset(self, run_id: str, name: str, digest: str) -> None:
        dataset = self.entities.Dataset(name=name, digest=digest, source_type="local", source="{}")
        tag = self.entities.InputTag(key="mlflow.data.context", value="pool")
        with suppress(AttributeError):  # stores without data-set inputs
            self.client.log_inputs(run_id, [self.entities.DatasetInput(dataset, [tag])])

    def log_files(self, run_id: str, paths: Sequence[Path]) -> None:
        """Copy files into the run's artefacts."""
        for path in paths:
            self.client.log_artifact(run_id, str(path))

    def finish(self, run_id: str, status: str = "FINISHED", ended_ms: int | None = None) -> None:
        """Set the run's status; one that goes on has no end."""
        if status == "RUNNING":
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status=status, end_time=ended_ms)

    def sweep(self, name: str) -> str:
        """The parent run of a sweep: the one that exists, or a new one."""
        value = name[:LONGEST_VALUE]
        for run in self._runs_with(SWEEP, value):
            return str(run.info.run_id)
        created = self.client.create_run(
            self.experiment_id, run_name=name[:200], tags={SWEEP: value}
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


def sync_run(
    folder: RunFolder,
    tracking: Tracking,
    parent: str | None = None,
    *,
    only_known: bool = False,
    running: bool = False,
) -> int | None:
    """Bring the MLflow view of one run up to its records.

    Args:
        folder: the run.
        tracking: the store.
        parent: MLflow run of the sweep, if any.
        only_known: leave a run out that the view does not have.
        running: the run goes on: one that is not finished was not ended.

    Returns:
        how many cycles were added; None when the run was left out.

    Raises:
        UserError: the folder cannot be read; anything else is the store's.
    """
    content = content_of(folder, parent, running=running)
    records = content.records
    if not only_known and tracking.add_new(content):
        return len(records)
    found = tracking.find_run(folder, records, replace=not only_known)
    if found is None and only_known:
        return None
    if found is None:
        tracking.add(content)
        return len(records)
    logged = tracking.logged_cycles(found.info.run_id)
    missing = [record for record in records if record.cycle not in logged]
    tracking.complete(found, replace(content, records=missing))
    return len(missing)
