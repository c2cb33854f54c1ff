"""Items without a class: in the pool where they are to be labelled, out of it and told of everywhere else."""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alharness.artefacts import Supply
from alharness.engine.initial import start
from alharness.engine.loop import Sizes, run
from alharness.engine.recording import record_of
from alharness.engine.stage import set_stage
from alharness.errors import UserError
from alharness.pool import ArrayPool
from alharness.records import CycleRecord, Ledger
from alharness.registry import resolve_strategy, resolve_task
from alharness.tasks.base import BLANK, DataLocations, TaskData, load_data

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 4)).astype(np.float32)
WORDS = np.array(["cat", "dog", ""] * 20)


@pytest.fixture
def locations(tmp_path: Path) -> DataLocations:
    return DataLocations(tmp_path, tmp_path / "cache")


def labelling(name: str, locations: DataLocations, **parameters: Any) -> TaskData:
    """As somebody who labels loads it."""
    return load_data(resolve_task(name, blank="pool", **parameters), locations, blanks=True)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)


def pictures(folder: Path, *names: str, n: int = 6) -> None:
    for name in names:
        for number in range(n):
            picture(folder / name / f"{number}.png")


# arrays ---------------------------------------------------------------------------------------


def test_blanks_of_an_array_are_pool_items_without_a_class(
    tmp_path: Path, locations: DataLocations
) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=WORDS)
    data = labelling(f"npz:{tmp_path}/a.npz", locations)
    assert np.array_equal(data.pool_images, ROWS)
    assert data.class_names == ("cat", "dog")
    assert data.pool_targets[:4].tolist() == [0, 1, BLANK, 0]
    assert data.notes["unlabelled"] == "20 of 60 pool items have no class yet"
    assert data.pool_names is not None
    assert data.pool_names[:2].tolist() == ["0", "1"]


def test_a_run_leaves_blanks_out_as_before_and_says_how_many(
    tmp_path: Path, locations: DataLocations
) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=WORDS)
    np.savez(tmp_path / "known.npz", x=ROWS[WORDS != ""], y=WORDS[WORDS != ""])
    with_blanks, without = (
        load_data(resolve_task(f"npz:{tmp_path}/{name}.npz"), locations) for name in ("a", "known")
    )
    assert with_blanks.notes["left out"] == "20 items without labels"
    assert with_blanks.fingerprint == without.fingerprint


@pytest.mark.parametrize("by_name", [True, False])
def test_an_array_without_any_label_needs_the_names_of_its_classes_only(
    tmp_path: Path, locations: DataLocations, by_name: bool
) -> None:
    if by_name:
        np.savez(tmp_path / "x.npz", x=ROWS)
        name = f"npz:{tmp_path}/x.npz"
    else:
        np.save(tmp_path / "x.npy", ROWS)
        name = f"npz:{tmp_path}/x.npy"
    with pytest.raises(UserError, match=r"Name the classes: --set task.classes=cat,dog"):
        labelling(name, locations)
    data = labelling(name, locations, classes="dog,cat")
    assert data.class_names == ("dog", "cat")
    assert set(data.pool_targets) == {BLANK}
    assert data.test_images.shape == (0, 4)
    assert data.notes["splits"] == "no test set: accuracy is not measured"
    with pytest.raises(UserError, match=r"task\.labels|must hold"):
        load_data(resolve_task(name), locations)


def test_the_authors_test_set_stays_one_and_its_blanks_are_no_pool(
    tmp_path: Path, locations: DataLocations
) -> None:
    tests = np.where(np.arange(20) < 15, np.arange(20) % 2, np.nan)
    np.savez(
        tmp_path / "a.npz", x_train=ROWS[:40], x_test=ROWS[40:], y_test=tests,
        class_names=["cat", "dog", "eel"],
    )  # fmt: skip
    data = labelling(f"npz:{tmp_path}/a.npz", locations)
    assert len(data.pool_targets) == 40
    assert len(data.test_targets) == 15
    # All that have a name, not those that occur: the third may turn up.
    assert data.class_names == ("cat", "dog", "eel")
    assert data.notes["left out"] == "5 items without labels"


def test_a_class_that_is_not_among_the_named_ones_is_refused(
    tmp_path: Path, locations: DataLocations
) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=WORDS)
    with pytest.raises(UserError, match=r"has the class 'cat', which task.classes does not name"):
        labelling(f"npz:{tmp_path}/a.npz", locations, classes="dog,eel")
    with pytest.raises(UserError, match=r"names 'eel', which no item .* has"):
        load_data(resolve_task(f"npz:{tmp_path}/a.npz", classes="cat,dog,eel"), locations)
    # In the order in which they are named, also of a run.
    data = load_data(resolve_task(f"npz:{tmp_path}/a.npz", classes="dog,cat"), locations)
    assert data.class_names == ("dog", "cat")


# tables ---------------------------------------------------------------------------------------


def table(path: Path, *columns: str) -> str:
    cells = {
        "size": [f"{number / 2}" for number in range(30)],
        "colour": ["red", "blue"] * 15,
        "label": ["cat", "dog", ""] * 10,
        "note": [f"n{number}" for number in range(30)],
    }
    lines = [",".join(columns), *map(",".join, zip(*(cells[c] for c in columns), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return f"table:{path}"


def test_a_blank_cell_in_the_column_of_classes_is_a_row_to_be_labelled(
    tmp_path: Path, locations: DataLocations
) -> None:
    name = table(tmp_path / "a.csv", "size", "colour", "label", "note")
    data = labelling(name, locations, drop="note")
    assert data.pool_targets[:4].tolist() == [0, 1, BLANK, 0]
    assert data.pool_names is not None
    assert data.pool_names[[0, 29]].tolist() == ["1", "30"]
    cells = resolve_task(name, blank="pool", drop="note").original("4")
    assert cells == {"size": "1.5", "colour": "blue", "note": "n3"}
    with pytest.raises(UserError, match=r"10 missing values.*'alharness label'"):
        load_data(resolve_task(name, drop="note"), locations)


def test_blanks_in_a_column_that_nobody_named_may_be_the_classes(
    tmp_path: Path, locations: DataLocations
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "size,churned\n" + "".join(f"{i / 7},{'yes' * (i % 5 == 0)}\n" for i in range(30))
    )
    with pytest.raises(UserError, match=r"'churned'.*name the column of classes with task\.target"):
        labelling(f"table:{path}", locations, classes="yes,no")
    data = labelling(f"table:{path}", locations, classes="yes,no", target="churned")
    assert (data.pool_targets == BLANK).sum() == 24


def test_a_table_without_a_column_of_classes_can_be_labelled(
    tmp_path: Path, locations: DataLocations
) -> None:
    name = table(tmp_path / "a.csv", "size", "colour")
    data = labelling(name, locations, classes="cat,dog")
    assert data.pool_images.shape == (30, 3)
    assert set(data.pool_targets) == {BLANK}
    with pytest.raises(UserError, match=r"Which column"):
        load_data(resolve_task(name), locations)


def test_a_large_table_keeps_its_blanks_and_names(
    tmp_path: Path, locations: DataLocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alharness.tasks.table.CACHED_FROM", 1)
    name = table(tmp_path / "a.csv", "size", "label")
    first, again = labelling(name, locations), labelling(name, locations)
    assert again.pool_targets.tolist() == first.pool_targets.tolist()
    assert again.pool_names is not None
    assert again.pool_names.tolist() == [str(number) for number in range(1, 31)]
    assert list((tmp_path / "cache").rglob("pool_names.npy"))


# folders --------------------------------------------------------------------------------------


def test_a_flat_folder_of_pictures_can_be_labelled(
    tmp_path: Path, locations: DataLocations
) -> None:
    pictures(tmp_path / "flat", ".")
    name = f"folder:{tmp_path}/flat"
    data = labelling(name, locations, classes="cat,dog")
    assert data.pool_images.shape == (6, 1, 8, 8)
    assert set(data.pool_targets) == {BLANK}
    assert data.test_images.shape == (0, 1, 8, 8)
    assert data.pool_names is not None
    assert data.pool_names.tolist() == [f"{number}.png" for number in range(6)]
    original = resolve_task(name, blank="pool", classes="cat,dog").original("3.png")
    assert np.array_equal(np.array(Image.open(original)), data.pool_images[3, 0])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"Name the classes"):
        labelling(name, locations)
    pictures(tmp_path / "by year", "2023", "2024")
    with pytest.raises(UserError, match=r"class '2023'.*may lie in a folder unlabelled"):
        labelling(f"folder:{tmp_path}/by year", locations, classes="cat,dog")
    with pytest.raises(UserError, match=r"not lie in a class folder.*'alharness label'"):
        load_data(resolve_task(name), locations)


@pytest.mark.parametrize("where", ["unlabelled", ".", "unlabeled/2024"])
def test_pictures_beside_class_folders_are_to_be_labelled(
    tmp_path: Path, locations: DataLocations, where: str
) -> None:
    root = tmp_path / "mine"
    pictures(root, "cat", "dog")
    pictures(root, where, n=20)
    data = labelling(f"folder:{root}", locations)
    assert data.class_names == ("cat", "dog")
    assert np.bincount(data.pool_targets + 1).tolist() == [20, 6, 6]


def test_a_folder_called_unlabelled_is_no_class_of_a_run(
    tmp_path: Path, locations: DataLocations
) -> None:
    root = tmp_path / "mine"
    pictures(root, "cat", "dog", "unlabelled")
    data = load_data(resolve_task(f"folder:{root}"), locations)
    assert data.class_names == ("cat", "dog")
    assert data.notes["left out"] == "6 images without labels"


def test_classes_may_be_called_by_words_for_splits(
    tmp_path: Path, locations: DataLocations
) -> None:
    root = tmp_path / "mine"
    pictures(root, "train", "bus")
    pictures(root, ".", n=3)
    assert labelling(f"folder:{root}", locations).class_names == ("bus", "train")


def test_a_test_folder_is_measured_on_and_its_blanks_are_left_out(
    tmp_path: Path, locations: DataLocations
) -> None:
    root = tmp_path / "mine"
    pictures(root, "train", n=9)
    pictures(root / "test", "cat", "dog")
    pictures(root / "test", ".", n=2)
    data = labelling(f"folder:{root}", locations)
    assert len(data.pool_targets) == 9
    assert set(data.pool_targets) == {BLANK}
    assert np.bincount(data.test_targets).tolist() == [6, 6]
    assert data.notes["left out"] == "2 images without labels"


def test_a_table_beside_pictures_may_leave_cells_blank(
    tmp_path: Path, locations: DataLocations
) -> None:
    root = tmp_path / "mine"
    pictures(root, ".", n=9)
    rows = [f"{number}.png,{('cat', 'dog', '')[number % 3]}" for number in range(9)]
    (root / "labels.csv").write_text("\n".join(["file_name,label", *rows]) + "\n")
    data = labelling(f"folder:{root}", locations, table="labels.csv")
    assert data.pool_targets.tolist() == [0, 1, BLANK] * 3


# what becomes of them -------------------------------------------------------------------------


def test_whoever_would_have_to_guess_is_refused(tmp_path: Path, locations: DataLocations) -> None:
    np.savez(tmp_path / "a.npz", x=ROWS, y=WORDS)
    with pytest.raises(UserError, match=r"20 of 60 items have no class.*alharness label"):
        load_data(resolve_task(f"npz:{tmp_path}/a.npz", blank="pool"), locations)


Blobs = namedtuple("Blobs", ["problem", "oracle", "test_targets"])


def test_without_a_test_set_a_run_selects_the_same_and_claims_nothing(blobs: Any) -> None:
    def records(test: ArrayPool, targets: np.ndarray) -> list[CycleRecord]:
        sizes = Sizes(seed=0, data_seed=0, budget=40, query_size=10, initial_size=20)
        strategy = resolve_strategy("max-entropy")
        begin = start(strategy, blobs.problem.pool.n, blobs.oracle, sizes)
        problem = replace(blobs.problem, test=test)
        stage = set_stage(strategy, problem, None, Supply(None))  # type: ignore[arg-type]
        return [
            record_of(cycle, Ledger()) for cycle in run(stage, blobs.oracle, targets, sizes, begin)
        ]

    shape = blobs.problem.test.item_shape
    nothing = ArrayPool(torch.empty(0, *shape), may_be_empty=True)
    measured = records(blobs.problem.test, blobs.test_targets)
    bare = records(nothing, np.empty(0, dtype=np.int64))
    assert [r.query and r.query.digest for r in bare] == [
        r.query and r.query.digest for r in measured
    ]
    for record in bare:
        assert math.isnan(record.test.accuracy)
        assert '"accuracy":null' in record.model_dump_json()
        again = CycleRecord.model_validate_json(record.model_dump_json())
        assert not again.test.were_measured
        assert again.test.as_text("accuracy") == "-"
