"""A new run into an SQLite store of MLflow, by MLflow's own tables and in one transaction.

Its client takes 120 ms of CPU and eight commits for a run of twenty cycles, 70 of them to compare each
number with the newest of its name, which a new run does not need. This takes a tenth. The tables
(columns, defaults, checks) are those of the MLflow that is installed; no other file knows them.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from alharness.tracking.content import Content
from alharness.tracking.seen import STAMP


def insert_run(
    engine: Any, experiment_id: str, location: str, content: Content, *, unless: str = ""
) -> bool:
    """Write a run that the store does not have.

    Args:
        engine: of MLflow's store.
        experiment_id: the experiment.
        location: ``file:`` URI of the folder for the files of its runs.
        content: what to write.
        unless: a tag; nothing is written where any run, a deleted one too, has the same value of it.

    Returns:
        whether it was written.
    """
    from mlflow.store.tracking.dbmodels.models import (
        SqlLatestMetric,
        SqlMetric,
        SqlParam,
        SqlRun,
        SqlTag,
    )

    run_id = uuid.uuid4().hex
    number = int(experiment_id)
    tags = {**content.tags, "mlflow.runName": content.name, STAMP: content.stamp}
    metrics = [
        {"key": key, "value": value, "timestamp": ts_ms, "step": step, "is_nan": False}
        # Each once: the table refuses a row that it has.
        for key, value, ts_ms, step in dict.fromkeys(content.metrics())
    ]
    latest = {row["key"]: row for row in sorted(metrics, key=_recency)}
    place = f"{location}/{run_id}/artifacts"
    run = {
        "run_uuid": run_id,
        "name": content.name,
        "experiment_id": number,
        "artifact_uri": place,
        "status": content.status,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "source_version": "",
        "user_id": "unknown",
        "end_time": None if content.status == "RUNNING" else content.ended_ms,
        **({} if content.started_ms is None else {"start_time": content.started_ms}),
    }
    with engine.begin() as connection:
        if unless:
            known = SqlTag.__table__.select().filter_by(key=unless, value=tags[unless]).limit(1)
            if connection.execute(known).first() is not None:
                return False
        _copy(content.pictures, Path(unquote(urlsplit(place).path)))
        connection.execute(SqlRun.__table__.insert(), [run])
        for table, rows in (
            (SqlTag, [{"key": key, "value": text} for key, text in tags.items()]),
            (SqlParam, [{"key": key, "value": text} for key, text in content.params.items()]),
            (SqlMetric, metrics),
            (SqlLatestMetric, [*latest.values()]),
        ):
            if rows:
                connection.execute(
                    table.__table__.insert(), [{"run_uuid": run_id, **row} for row in rows]
                )
        _insert_dataset(connection, number, run_id, *content.dataset)
    return True


def move_files(engine: Any, before: str, now: str) -> None:
    """Let a store look for the files of its runs at another place: its folder was moved or copied.

    Args:
        engine: of MLflow's store.
        before, now: ``file:`` URIs of the folder.
    """
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
    from sqlalchemy import String, func, literal

    with engine.begin() as connection:
        for column in (SqlExperiment.artifact_location, SqlRun.artifact_uri):
            moved = literal(now, String) + func.substr(column, len(before) + 1)
            # Of one experiment more than ours: MLflow's own "Default" lies there too.
            inside = func.substr(column + "/", 1, len(before) + 1) == before + "/"
            table = column.class_.__table__
            connection.execute(table.update().where(inside).values({column.key: moved}))


def _recency(row: dict[str, Any]) -> tuple[int, int, float]:
    """MLflow's order: the largest is what its tables of runs show."""
    return row["step"], row["timestamp"], row["value"]


def _insert_dataset(
    connection: Any, experiment_id: int, run_id: str, name: str, digest: str
) -> None:
    """The data of a run, as an input of it."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlInput, SqlInputTag

    data = {"experiment_id": experiment_id, "name": name, "digest": digest}
    known = connection.execute(SqlDataset.__table__.select().filter_by(**data)).first()
    data_id = known.dataset_uuid if known is not None else uuid.uuid4().hex
    if known is None:
        row = {**data, "dataset_uuid": data_id, "dataset_source_type": "local"}
        connection.execute(SqlDataset.__table__.insert(), [{**row, "dataset_source": "{}"}])
    edge = {"source_type": "DATASET", "source_id": data_id, "destination_type": "RUN"}
    edge |= {"destination_id": run_id, "input_uuid": uuid.uuid4().hex}
    connection.execute(SqlInput.__table__.insert(), [edge])
    tag = {"input_uuid": edge["input_uuid"], "name": "mlflow.data.context", "value": "pool"}
    connection.execute(SqlInputTag.__table__.insert(), [tag])


def _copy(pictures: Sequence[Path], target: Path) -> None:
    """Pictures into the run's artefacts, before anything says that they are there."""
    if pictures:
        target.mkdir(parents=True, exist_ok=True)
    for path in pictures:
        shutil.copyfile(path, target / path.name)
