"""What a person writes: settings, sweeps, claims, plans, names, and answers about images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from alharness.cli.options import overrides
from alharness.executors.plans import extend_plan, job_of_plan
from alharness.executors.sweep_files import read_sweep
from alharness.executors.sweeps import Choices, expand, parse_seeds
from alharness.files import merge
from alharness.oracle.answers import ANSWERS, AnswerFile
from alharness.oracle.desk import AnnotationPendingError, Desk
from alharness.oracle.exchange import as_text, labelled, take_file
from alharness.scaling.claims import ClaimsFile
from alharness.scaling.study import Study
from alharness.spec import parse_set, resolve
from alharness.tracking import check_uri
from readers.base import RUN, Reader, from_file, from_text, reader


@reader
def sweep_file(folder: Path) -> Reader:
    text = """name = "s"
note = "n"
split_by = ["budget"]
[base]
task = "digits-two"
device = "cpu"
learner.kind = "linear"
[[runs]]
strategy = ["random", {name = "core-set"}]
seed = "0-1"
[profiles.paper]
budget = 40
"""

    def read(path: Path) -> object:
        return expand(read_sweep(path), Choices(), folder / "runs")

    return from_file(folder / "sweep.toml", read, text.encode())


@reader
def config_file(folder: Path) -> Reader:
    text = """task = "digits-two"
seed = 3
budget = 60
initial_size = 20
[strategy]
name = "max-entropy"
[learner]
kind = "mlp"
lr = 1e-3
[oracle]
mode = "abstain"
"""

    def read(path: Path) -> object:
        return resolve({**overrides(config=path, settings=["device=cpu"])})

    return from_file(folder / "config.toml", read, text.encode())


@reader
def set_values(folder: Path) -> Reader:
    def read(text: str) -> object:
        return resolve(merge({**RUN, "task": {"name": "digits-two"}}, parse_set(text)))

    return from_text(read, "learner.min_steps=500")


@reader
def names_of_plugins(folder: Path) -> Reader:
    def read(text: str) -> object:
        strategy, _, task = text.partition(" ")
        return resolve({**RUN, "strategy": strategy, "task": task})

    return from_text(read, "subset:500:max-entropy folder:./images")


@reader
def seeds(folder: Path) -> Reader:
    def read(text: str) -> object:
        return parse_seeds(re.sub(r"\d{4,}", "7", text))  # a range of 10^20 seeds is a user's right

    return from_text(read, "0-4,7")


@reader
def tracking_uris(folder: Path) -> Reader:
    return from_text(check_uri, f"sqlite:///{folder}/mlflow.db")


@reader
def claims_file(folder: Path) -> Reader:
    text = """[[study]]
name = "s"
sizes = [1000, 2000]
strategies = ["random"]
[[claim]]
id = "c"
text = "t"
where = "w"
kind = "time_exponent"
name = "random"
accept = [0.0, 1.0]
study = "s"
"""
    return from_file(folder / "claims.toml", ClaimsFile.read, text.encode())


@reader
def plan_file(folder: Path) -> Reader:
    runs_dir = folder / "runs"
    path = folder / "plan.json"
    (folder / "s.toml").write_text(
        '[base]\ntask="digits-two"\n[[runs]]\nstrategy="random"\nseed=0\n'
    )
    jobs = expand(read_sweep(folder / "s.toml"), Choices(), runs_dir)
    extend_plan(path, "s", runs_dir, jobs)

    def read(path: Path) -> object:
        return job_of_plan(path, 0)

    return from_file(path, read, path.read_bytes())


@reader
def plan_file_of_before(folder: Path) -> Reader:
    """One JSON object, as versions before 0.3 wrote it."""
    runs = [resolve({**RUN, "task": {"name": "digits-two"}}).model_dump(mode="json")]
    text = json.dumps({"sweep": "s", "runs_dir": str(folder / "runs"), "runs": runs})
    return from_file(folder / "plan.json", lambda path: job_of_plan(path, 0), text.encode())


@reader
def timing_study(folder: Path) -> Reader:
    about = {"spec": {"sizes": [10, 20], "strategies": ["random"]}, "machine": {"cpu": "x"}}
    (folder / "timing.jsonl").touch()
    return from_file(
        folder / "study.json", lambda path: Study.read(folder), json.dumps(about).encode()
    )


@reader
def timing_lines(folder: Path) -> Reader:
    (folder / "study.json").write_text('{"spec": {}, "machine": {}}')
    line = {"kind": "select", "name": "random", "n": 10, "query_size": 5, "repeat": 0, "seconds": 1}
    whole = (json.dumps(line) + "\n").encode() * 2
    return from_file(folder / "timing.jsonl", lambda path: Study.read(folder), whole)


def _desk(folder: Path, ask: Callable[[Desk], object]) -> Reader:
    desk = Desk(folder / "annotations", ["Äpfel", "2", "c d"])
    with pytest.raises(AnnotationPendingError) as caught:
        ask(desk)
    *head, _, _, _ = caught.value.table.read_text(encoding="utf-8").splitlines()
    rows = ["1,Äpfel,2", "2,skip,", "3,2,0"]
    return from_file(caught.value.table, lambda path: ask(desk), "\n".join([*head, *rows]).encode())


@reader
def answers_about_images(folder: Path) -> Reader:
    images = torch.zeros(3, 1, 4, 4)
    return _desk(folder, lambda desk: desk.labels(images, 0))


@reader
def answers_about_lines(folder: Path) -> Reader:
    images = torch.zeros(3, 4, 1, 4, 4)
    return _desk(folder, lambda desk: desk.changes(images, 0))


CLASSES = ["Äpfel", "2", "c d"]


def _asked(folder: Path) -> Path:
    """A folder of questions with three pool items asked and two of them answered."""
    desk = Desk(folder / "annotations", CLASSES)
    with pytest.raises(AnnotationPendingError) as caught:
        desk.labels(torch.zeros(3, 1, 4, 4), 0, torch.tensor([4, 2, 9]))
    desk.take(caught.value.question, {1: ("Äpfel",), 3: (None,)}, via="page", who="ada")
    return folder / "annotations"


@reader
def labels_from_a_table(folder: Path) -> Reader:
    where = _asked(folder)
    whole = as_text(labelled(where, CLASSES, also_open=True), "csv").encode()
    take = partial(take_file, folder=where, class_names=CLASSES, n_complete=0)
    return from_file(folder / "labels.csv", take, whole)


@reader
def labels_from_label_studio(folder: Path) -> Reader:
    where = _asked(folder)
    whole = as_text(labelled(where, CLASSES, also_open=True), "label-studio").encode()
    take = partial(take_file, folder=where, class_names=CLASSES, n_complete=0)
    return from_file(folder / "tasks.json", take, whole)


@reader
def answers_that_were_kept(folder: Path) -> Reader:
    where = _asked(folder)
    whole = (where / ANSWERS).read_bytes()
    return from_file(where / ANSWERS, lambda path: AnswerFile(where).read(), whole)
