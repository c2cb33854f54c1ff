"""``parquet:PATH``: images in parquet files as Hugging Face ships them, nothing left out unsaid."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alharness.cli import call
from alharness.errors import UserError
from alharness.records import run_folders
from alharness.tasks import parquet
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.originals import parquet_files
from alharness.tasks.parquet import Parquet

NAMES = ["cat", "dog", "eel"]


def encoded(value: int, size: int = 8, kind: str = "PNG") -> bytes:
    """A gray picture of noise around a value."""
    rng = np.random.default_rng(value)
    pixels = np.clip(rng.normal(value, 5, (size, size)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def described(names: Sequence[str] | None = NAMES, **columns: Any) -> dict[bytes, bytes]:
    """The description that the package ``datasets`` writes into a file."""
    label = (
        {"dtype": "int64", "_type": "Value"}
        if names is None
        else {"names": list(names), "_type": "ClassLabel"}
    )
    features = {"image": {"_type": "Image"}, "label": label, **columns}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write(
    path: Path,
    labels: Sequence[Any],
    *,
    first: int = 0,
    metadata: dict[bytes, bytes] | None = None,
    images: Sequence[Any] | None = None,
    names: tuple[str, str] = ("image", "label"),
    rows: int = 4,
    **more: Sequence[Any],
) -> Path:
    """A file of small images, four to a group of rows; image i of label l is ``encoded(first + i)``."""
    if images is None:
        images = [{"bytes": encoded(first + i), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({names[0]: images, names[1]: labels, **more})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata(described() if metadata is None else metadata),
        path,
        row_group_size=rows,
    )
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A clone of a data set: two train files, a test file, a README."""
    root = tmp_path / "pets"
    write(root / "data/train-00000-of-00002.parquet", [0, 1, 2, 0, 1, 2, 0])
    write(root / "data/train-00001-of-00002.parquet", [1, 2, 0], first=7)
    write(root / "data/test-00000-of-00001.parquet", [2, 1, 0, 2], first=100)
    (root / "README.md").write_text("# pets")
    return root


def load(path: Path, **parameters: Any) -> TaskData:
    return Parquet("parquet", str(path), **parameters).load(DataLocations.resolve())


def decoded(value: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded(value))))[None]


def test_a_clone_of_a_data_set_is_taken_as_it_is(hub: Path) -> None:
    data = load(hub)
    assert data.class_names == ("cat", "dog", "eel")
    assert data.pool_targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert data.test_targets.tolist() == [2, 1, 0, 2]
    assert np.array_equal(data.pool_images, [decoded(i) for i in range(10)])
    assert np.array_equal(data.test_images, [decoded(100 + i) for i in range(4)])
    assert data.notes["splits"] == "pool: train; test: test"
    assert data.notes["left out"] == "1 other files (1 .md)"
    assert data.notes["fit"] == "1 channels, 8x8"


def test_it_runs_from_the_command_line(hub: Path, tmp_path: Path) -> None:
    sizes = [
        "--budget",
        "8",
        "--initial-size",
        "6",
        "--query-size",
        "2",
        "--no-tracking",
        "--quiet",
    ]
    few = ["--set", "learner.min_steps=5", "--set", "learner.epochs=0", "--set", "learner.kind=mlp"]
    where = ["--runs-dir", str(tmp_path / "runs")]
    command = ["run", "--strategy", "margin", "--dataset", f"parquet:{hub}"]
    assert call([*command, *sizes, *few, *where]) == 0
    (folder,) = run_folders(tmp_path / "runs")
    assert folder.facts().task.class_names == ["cat", "dog", "eel"]


def test_the_hubs_own_conversion_says_the_split_by_folders(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    write(root / "default/train/0000.parquet", [0, 1, 0, 1])
    write(root / "default/train/0001.parquet", [1, 0], first=4)
    write(root / "default/validation/0000.parquet", [1, 0], first=50)
    data = load(root)
    assert data.class_names == ("cat", "dog"), "eel is a name that no image has"
    assert len(data.pool_targets) == 6
    assert data.notes["splits"] == "pool: train; test: validation"
    write(root / "default/test/0000.parquet", [0, 0, 1], first=60)
    data = load(root)
    assert len(data.test_targets) == 3
    assert data.notes["splits"] == "pool: train; test: test; validation: 2 items, not used"


def test_half_a_conversion_is_said_to_be_one(tmp_path: Path) -> None:
    write(tmp_path / "default/partial-train/0000.parquet", [0, 1] * 10)
    data = load(tmp_path)
    assert data.notes["partial"].startswith("the hub converted the beginning")
    assert any("beginning" in warning for warning in data.warnings)


def test_one_file_or_train_alone_is_split_by_a_seed_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "a/train-00000-of-00001.parquet", [0, 1] * 20)
    one, folder = load(file), load(file.parent)
    assert (len(one.pool_targets), len(one.test_targets)) == (32, 8)
    assert np.bincount(one.test_targets).tolist() == [4, 4]
    assert one.fingerprint == folder.fingerprint
    assert one.notes["splits"] == "test: 0.2 of each class, drawn with seed 0"
    other = load(file, split_seed=1)
    assert other.fingerprint != one.fingerprint
    assert len(load(file, test_fraction=0.5).test_targets) == 20


def test_what_has_no_label_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.parquet", [0, None, 1, -1, 0, 1, 0, 1, 0, 1, 0, 1])
    write(tmp_path / "test-00000-of-00001.parquet", [-1, -1, -1], first=50)
    write(tmp_path / "validation-00000-of-00001.parquet", [1, 0], first=70)
    data = load(tmp_path)
    assert np.array_equal(data.pool_images[:3], [decoded(0), decoded(2), decoded(4)])
    assert data.notes["splits"] == "pool: train; test: validation"
    assert data.notes["left out"] == "5 items without labels"


def test_what_has_no_label_can_be_labelled(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.parquet", [0, None, 1, -1, 0, 1])
    write(tmp_path / "test-00000-of-00001.parquet", [1, 0, -1], first=50)
    plugin = Parquet("parquet", str(tmp_path), blank="pool")
    data = plugin.load(DataLocations(tmp_path, tmp_path / "cache"))
    assert data.pool_targets.tolist() == [0, -1, 1, -1, 0, 1]
    assert data.test_targets.tolist() == [1, 0]
    assert data.class_names == tuple(NAMES), "the third may turn up"
    assert data.notes["left out"] == "1 items without labels"
    assert data.pool_names is not None
    assert data.pool_names[1] == "train-00000-of-00001.parquet row 1"
    assert plugin.original(str(data.pool_names[1])) == encoded(1)


def test_a_file_without_any_label_needs_the_names_of_its_classes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [0, 1] * 5)
    table = pq.read_table(file).drop_columns(["label"])
    pq.write_table(table.replace_schema_metadata({}), file)
    locations = DataLocations(tmp_path, tmp_path / "cache")
    data = Parquet("parquet", str(file), blank="pool", classes="cat,dog").load(locations)
    assert data.pool_targets.tolist() == [-1] * 10
    assert data.class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"Which column .* holds the label"):
        load(file)


def test_minus_one_is_no_label_only_where_that_is_described(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [-1, 1] * 10, metadata={})
    with pytest.raises(
        UserError, match=r"'label' of .* has labels of -1.*number the classes from 0"
    ):
        load(tmp_path / "a.parquet")


def test_a_column_of_splits_is_the_authors(tmp_path: Path) -> None:
    said = ["train"] * 12 + ["test"] * 5 + ["validation"] * 3
    file = write(tmp_path / "a.parquet", [0, 1] * 10, split=said, origin=["web", "scan"] * 10)
    with pytest.raises(UserError, match=r"Column 'split' .*task.split_column=split.*=none"):
        load(file)
    data = load(file, split_column="split")
    assert (len(data.pool_targets), len(data.test_targets)) == (12, 5)
    assert data.test_targets.tolist() == [0, 1, 0, 1, 0]
    assert "validation: 3 items, not used" in data.notes["splits"]
    said[:2] = ["unlabelled"] * 2
    fewer = load(write(tmp_path / "b.parquet", [0, 1] * 10, split=said), split_column="split")
    assert len(fewer.pool_targets) == 10
    assert fewer.notes["left out"].startswith("2 items without labels")
    drawn = load(file, split_column="none")
    assert (len(drawn.pool_targets), len(drawn.test_targets)) == (16, 4)
    with pytest.raises(UserError, match=r"'origin' .* must say train, test or validation"):
        load(file, split_column="origin")
    with pytest.raises(UserError, match="Did you mean 'split'"):
        load(file, split_column="spilt")


def test_bytes_texts_and_other_names_of_columns(tmp_path: Path) -> None:
    images = [encoded(i) for i in range(10)]
    labels = ["b", "a"] * 5
    write(
        tmp_path / "p.parquet", labels, images=images, names=("img", "kind"), metadata={},
        label=[0] * 10,
    )  # fmt: skip
    data = load(tmp_path / "p.parquet", label="kind")
    assert data.class_names == ("a", "b")
    with pytest.raises(UserError, match=r"one class only \(0\)"):
        load(tmp_path / "p.parquet")
    with pytest.raises(UserError, match="Did you mean 'kind'"):
        load(tmp_path / "p.parquet", label="kinds")
    with pytest.raises(UserError, match="Name other columns"):
        load(tmp_path / "p.parquet", image="kind")


def test_two_columns_of_classes_are_for_the_user_to_choose(tmp_path: Path) -> None:
    coarse = {"names": ["pet", "fish"], "_type": "ClassLabel"}
    file = write(
        tmp_path / "p.parquet", [0, 1, 2] * 5, metadata=described(coarse_label=coarse),
        coarse_label=[0, 0, 1] * 5,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"may be any of label, coarse_label.*Set task.label"):
        load(file)
    assert load(file, label="coarse_label").class_names == ("pet", "fish")


def test_a_changed_file_is_converted_again(hub: Path) -> None:
    before = load(hub)
    write(hub / "data/test-00000-of-00001.parquet", [2, 1, 0, 1], first=100)
    after = load(hub)
    assert after.test_targets.tolist() == [2, 1, 0, 1]
    assert after.fingerprint != before.fingerprint


def test_images_of_many_sizes_and_modes_follow_the_rules_of_folders(tmp_path: Path) -> None:
    images = [{"bytes": encoded(i, size=8 + i), "path": None} for i in range(10)]
    file = write(tmp_path / "p.parquet", [0, 1] * 5, images=images)
    assert load(file).pool_images.shape[1:] == (1, 64, 64)
    assert load(file, image_size=12, mode="rgb").pool_images.shape[1:] == (3, 12, 12)


TRAIN, TEST = "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"
NONE, JUNK = {"bytes": None, "path": "x.png"}, {"bytes": b"none", "path": ""}

#: What is done to the files -> what is said.
SPOILT: dict[str, Any] = {
    f"lacks 1 of the 2 files of data/train, the first {TRAIN[:-8]}": lambda p: (p / TRAIN).unlink(),
    "several data sets side by side (data, other)": lambda p: shutil.copytree(
        p / "data", p / "other"
    ),
    "say no split: data/extra.parquet": lambda p: write(p / "data/extra.parquet", [0]),
    "other columns or class names": lambda p: write(
        p / TEST, [0, 1], metadata=described(["x", "y", "z", "u"])
    ),
    "must be numbers 0 .. 2; found 0 .. 7": lambda p: write(p / TEST, [0, 7]),
    f"{TEST} row 1 (no bytes of an image": lambda p: write(p / TEST, [0, 1], images=[JUNK, NONE]),
    f"{TEST} row 0 (cannot be read as an image": lambda p: write(
        p / TEST, [0, 1], images=[JUNK, JUNK]
    ),
    "git lfs pull": lambda p: (p / TEST).write_text("version https://git-lfs.github.com/spec/v1"),
    "description of the columns is damaged": lambda p: write(
        p / TEST, [0, 1], metadata={b"huggingface": b"{"}
    ),
    "No parquet files in": lambda p: shutil.rmtree(p / "data"),
    "Nothing is at": shutil.rmtree,
    "has test and no train items": lambda p: [
        file.unlink() for file in (p / "data").glob("train*")
    ],
    "found struct<bytes: binary, path: string> and double": lambda p: write(p / TEST, [0.5, 1.5]),
    # Rows of vectors are a table: the way there is named.
    "has no column of encoded images; there are embedding, label. Rows of numbers": lambda p: [
        pq.write_table(pa.table({"embedding": [[0.5, 1.5]], "label": [1]}), file)
        for file in (p / "data").glob("*.parquet")
    ],
    "holds the label? It may be none that is known": lambda p: write(
        p / TEST, [0, 1], names=("image", "kind"), metadata={}
    ),
}


@pytest.mark.parametrize("said", SPOILT)
def test_what_is_wrong_is_one_line_with_the_name(hub: Path, said: str) -> None:
    SPOILT[said](hub)
    with pytest.raises(UserError) as caught:
        load(hub)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told_whatever_its_length(hub: Path) -> None:
    file = hub / "data/train-00000-of-00002.parquet"
    whole = file.read_bytes()
    for length in range(0, len(whole), len(whole) // 12):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="train-00000"):
            load(hub)


def test_flipped_bytes_are_one_line_or_harmless(tmp_path: Path) -> None:
    file = write(tmp_path / "p.parquet", [0, 1, 2] * 4)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for at in [*rng.integers(len(whole), size=20), *rng.integers(-1200, -1, size=40)]:
        changed = bytearray(whole)
        changed[at] ^= int(rng.integers(1, 256))
        file.write_bytes(changed)
        try:
            assert load(file).pool_images.dtype == np.uint8
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in text for text in refused)


def test_groups_of_rows_that_would_fill_the_memory_are_refused(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "MAX_GROUP_BYTES", 100)
    with pytest.raises(UserError, match="fewer rows in a group"):
        load(hub)


def test_pool_and_test_in_common_are_said_and_no_path_is_needed(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1, 0])
    write(tmp_path / "test.parquet", [0, 1], first=0)
    assert load(tmp_path).notes["duplicates"].startswith("2 of 2 test images")


def test_a_folder_of_parquet_files_is_told_where_it_belongs(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(hub)
    (hub / "README.md").unlink()
    for dataset, hint in (("folder:data", "parquet:"), ("data", "parquet:data")):
        assert call(["run", "--strategy", "random", "--dataset", dataset, "--quiet"]) == 2
        assert hint in capsys.readouterr().err
    write(Path("many.parquet"), [0, 1] * 10)
    assert call(["run", "--strategy", "random", "--dataset", "table:many.parquet"]) == 2
    assert "parquet:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "known", "parts"),
    [
        (["train", "test", "train"], [1, 1, 1], ["train", "test", "train"]),
        # What stands beside no label only may say a part as well: its items are no part of the pool.
        (["train", "test", "val"], [1, 1, 0], ["train", "test", "val"]),
        (["train", "test", "unlabelled"], [1, 1, 0], ["train", "test", "unlabelled"]),
        # Where it says no part, it says nothing of the others.
        (["train", "test", "later"], [1, 1, 0], ["train", "test", "unlabelled"]),
    ],
)
def test_a_column_of_splits_may_say_the_part_of_items_without_a_label(
    said: list[str], known: list[int], parts: list[str]
) -> None:
    found = parquet._said_by_column(
        {"part": said},
        np.array(known, dtype=bool),
        parquet.ParquetParameters(split_column="part"),
        "t.parquet",
    )
    assert found is not None
    assert found.tolist() == parts
