"""Data of one's own: arrays, tables, torchvision's sets; rows of floats as items; what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from alharness.cli import call
from alharness.cli.options import places
from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.run.runner import execute
from alharness.spec import resolve
from alharness.tasks.base import DataLocations, TaskData

RNG = np.random.default_rng(0)
N = 60
LABELS = np.arange(N) % 3
IMAGES = RNG.integers(0, 255, (N, 8, 8)).astype(np.uint8)
ROWS = (RNG.normal(size=(N, 4)) + LABELS[:, None]).astype(np.float32)


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def load(name: str, root: Path | None = None, **parameters: Any) -> TaskData:
    locations = DataLocations(root or Path("nowhere"), Path("nowhere"))
    return resolve_task(name, **parameters).load(locations)


# npz ------------------------------------------------------------------------------------------


def test_an_npz_with_its_own_test_set_is_taken_as_it_is(tmp_path: Path) -> None:
    name = saved(
        tmp_path / "a.npz",
        x_pool=IMAGES[:40], y_pool=LABELS[:40], x_test=IMAGES[40:], y_test=LABELS[40:],
        class_names=["cat", "dog", "eel"],
    )  # fmt: skip
    data = load(name)
    assert data.class_names == ("cat", "dog", "eel")
    assert np.array_equal(data.pool_images, IMAGES[:40, None])
    assert data.test_targets.tolist() == LABELS[40:].tolist()
    assert data.open_pool(torch.device("cpu")).item_shape == (1, 8, 8)


def test_a_split_is_seeded_stratified_and_not_the_runs(tmp_path: Path) -> None:
    name = saved(tmp_path / "a.npz", x=ROWS.astype(np.float64), y=np.array(["x", "y", "z"])[LABELS])
    data, again = load(name), load(name)
    assert data.class_names == ("x", "y", "z")
    assert np.bincount(data.test_targets).tolist() == [4, 4, 4]
    assert data.pool_images.dtype == np.float32
    assert data.fingerprint == again.fingerprint != load(name, split_seed=1).fingerprint
    rows = {tuple(row) for row in np.concatenate([data.pool_images, data.test_images])}
    assert rows == {tuple(row) for row in ROWS}


def test_channels_last_are_brought_to_the_front(tmp_path: Path) -> None:
    colour = RNG.integers(0, 255, (N, 6, 5, 3)).astype(np.uint8)
    first = saved(tmp_path / "a.npz", x=colour, y=LABELS)
    data = load(first)
    assert data.pool_images.shape[1:] == (3, 6, 5)
    thin = saved(tmp_path / "b.npz", x=colour[:, :3], y=LABELS)
    with pytest.raises(UserError, match=r"task.layout=chw or task.layout=hwc"):
        load(thin)
    assert load(thin, layout="hwc").pool_images.shape[1:] == (3, 3, 5)
    assert load(thin, layout="chw").pool_images.shape[1:] == (3, 5, 3)


def test_the_default_classifier_follows_from_the_files_header(tmp_path: Path) -> None:
    def kind(x: Any) -> str:
        name = saved(tmp_path / "a.npz", x=x, y=np.arange(len(x)) % 2)
        return resolve_task(name).defaults("quick").learner.kind

    assert kind(np.zeros((4, 32, 32, 3), np.uint8)) == "strided-cnn"
    assert kind(np.zeros((4, 8, 8), np.uint8)) == "mlp"
    assert kind(np.zeros((4, 9), np.float32)) == "mlp"
    assert resolve_task("npz:none.npz").defaults("quick").learner.kind == "mlp"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": ROWS}, r"must hold x_pool, y_pool.*found x\."),
    ({"x": ROWS, "y": LABELS, "z": LABELS}, "found x, y, z"),
    ({"x": ROWS[:50], "y": LABELS}, "50 items in x and 60 labels"),
    ({"x": ROWS, "y": ROWS[:, 0]}, r"labels y of .* must be whole numbers or texts.*float32"),
    ({"x": ROWS, "y": LABELS[:, None]}, r"shape \(60, 1\)"),
    ({"x": ROWS, "y": np.zeros(N, int)}, r"one class only \(0\)"),
    ({"x": ROWS.astype(int), "y": LABELS}, r"found int64 of shape \(60, 4\)"),
    ({"x": np.zeros((N, 8, 8)), "y": LABELS}, "must be uint8 images"),
    ({"x": np.where(ROWS > 1, np.nan, ROWS), "y": LABELS}, "must be finite; row"),
    ({"x": np.full((N, 2), 1e300), "y": LABELS}, "must be finite; row 0"),
    ({"x": ROWS, "y": LABELS.astype(object)}, "never unpickled"),
    ({"x": ROWS, "y": LABELS + 1, "class_names": ["a", "b", "c"]}, r"numbers 0 \.\. 2; found 1"),
    ({"x": ROWS[:4], "y": np.array([0, 0, 0, 1])}, "too few to split off"),
    (
        {"x_pool": ROWS, "y_pool": LABELS, "x_test": IMAGES, "y_test": LABELS},
        "must be alike; found float32",
    ),
    (
        {"x_pool": ROWS, "y_pool": LABELS, "x_test": ROWS, "y_test": LABELS + 1},
        "Class '3' .* has no item in the pool",
    ),
    (
        {"x_pool": ROWS, "y_pool": LABELS, "x_test": ROWS, "y_test": LABELS.astype(str)},
        "y_pool and y_test .* must be alike",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_npz_gets_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    name = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as told:
        load(name)
    assert "\n" not in str(told.value)


def test_a_file_that_is_no_npz_gets_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "a.npz"
    saved(whole, x=ROWS, y=LABELS)
    (tmp_path / "torn.npz").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "text.npz").write_text("x,y\n")
    np.save(tmp_path / "one.npy", ROWS)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for file, message in {
        "torn.npz": "not a whole npz",
        "text.npz": "not a whole npz|never unpickled",
        "one.npz": "not a whole npz",
        "none.npz": "does not exist",
    }.items():
        with pytest.raises(UserError, match=message) as told:
            load(f"npz:{tmp_path / file}")
        assert "\n" not in str(told.value), file


def test_items_that_stand_in_pool_and_test_are_said(tmp_path: Path) -> None:
    name = saved(tmp_path / "a.npz", x_pool=ROWS, y_pool=LABELS, x_test=ROWS[:9], y_test=LABELS[:9])
    assert load(name).notes["duplicates"] == "9 of 9 test items are in the pool too"


def test_another_content_of_the_file_is_another_run(tmp_path: Path) -> None:
    name = saved(tmp_path / "a.npz", x=ROWS, y=LABELS)
    given = {"task": name, "strategy": "random", "budget": 12, "initial_size": 6}
    before = resolve(given).run_key
    assert resolve(given).run_key == before
    saved(tmp_path / "a.npz", x=ROWS + 1, y=LABELS)
    assert resolve(given).run_key != before
    with pytest.raises(UserError, match=r"does not exist.*Expected npz:PATH"):
        resolve({**given, "task": "npz:nowhere.npz"})


# Tables -----------------------------------------------------------------------------------------


def frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "size": ROWS[:, 0] * 100 + 7,
            "count": np.arange(N),
            "colour": np.array(["red", "blue"])[np.arange(N) % 2],
            "ripe": np.arange(N) % 4 == 0,
            "same": 1.0,
            "class": np.array(["a", "b", "c"])[LABELS],
        }
    )


@pytest.mark.parametrize("ending", ["csv", "parquet", "tsv"])
def test_a_table_becomes_rows_scaled_on_the_pool(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"fruit.{ending}"
    if ending == "parquet":
        frame().to_parquet(path)
    else:
        frame().to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    data = load(f"table:{path}")
    assert data.class_names == ("a", "b", "c")
    assert data.pool_images.shape == (48, 2 + 2 + 2 + 1)  # colour and ripe have two categories each
    np.testing.assert_allclose(data.pool_images[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.pool_images[:, :2].std(axis=0), 1, atol=1e-5)
    assert abs(float(data.test_images[:, 1].mean())) > 1e-6  # the test set has no say in it
    assert set(data.pool_images[:, 2:4].sum(axis=1)) == {1.0}
    assert set(data.pool_images[:, -1]) == {0.0}


def test_a_column_may_say_what_is_the_test_set(tmp_path: Path) -> None:
    table = frame()
    table["part"] = ["train"] * 50 + ["test"] * 10
    table.to_csv(tmp_path / "t.csv", index=False)
    data = load(f"table:{tmp_path / 't.csv'}", split_column="part", drop="count, same")
    assert data.pool_images.shape == (50, 5)
    assert data.test_targets.tolist() == LABELS[50:].tolist()


TABLES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"target": "klass"}, {}, "Unknown column of .* 'klass'. Did you mean 'class'"),
    ({"drop": "siz"}, {}, "Did you mean 'size'"),
    ({"target": "size"}, {}, "float64 numbers, which are no classes"),
    ({}, {"y": 1}, "Which column .* Set task.target to one of: size, count"),
    ({}, {"size": [None, *range(N - 1)]}, "'size' .* has 1 missing values, the first in row 1"),
    ({}, {"count": [np.inf, *range(N - 1)]}, "infinite in row 1"),
    ({"split_column": "colour"}, {}, "must say train .* and test; found 'blue'"),
    ({"drop": "size,count,colour,ripe,same"}, {}, "no column beside 'class'"),
    ({"separator": ";"}, {}, "Set task.separator"),
    (
        {},
        {"part": ["train"] * 50 + ["test"] * 10},
        "'part' .* says test, train: .*task.split_column=part",
    ),
    ({}, {"fold": ["Train"] * 50 + ["val"] * 10}, "'fold' .* says train, val: .*task.drop=fold"),
    (
        {},
        {"class": [None, *LABELS[1:]]},
        "'class' .* first in row 1.*name another column with task.target",
    ),
]


def test_a_split_column_that_is_left_out_is_no_feature(tmp_path: Path) -> None:
    frame().assign(part=["train"] * 50 + ["test"] * 10).to_csv(tmp_path / "t.csv", index=False)
    assert load(f"table:{tmp_path / 't.csv'}", drop="part").pool_images.shape == (48, 7)


@pytest.mark.parametrize(("parameters", "changes", "message"), TABLES, ids=range(len(TABLES)))
def test_a_bad_table_gets_one_line(
    tmp_path: Path, parameters: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    frame().assign(**changes).to_csv(tmp_path / "t.csv", index=False)
    name = f"table:{tmp_path / 't.csv'}"
    with pytest.raises(UserError, match=message) as told:
        load(name, **parameters)
    assert "\n" not in str(told.value)


def test_texts_that_tell_rows_apart_are_not_categories(tmp_path: Path) -> None:
    table = pandas.concat([frame()] * 3, ignore_index=True)
    table["name"] = [f"n{i}" for i in range(len(table))]
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"180 different texts.*task.drop=name"):
        load(f"table:{tmp_path / 't.csv'}")
    assert load(f"table:{tmp_path / 't.csv'}", drop="name").pool_images.shape[1] == 7
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read as a table"):
        load(f"table:{tmp_path / 'bad.parquet'}")
    with pytest.raises(UserError, match="does not exist"):
        load(f"table:{tmp_path / 'none.csv'}")


# torchvision ------------------------------------------------------------------------------------


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Two files as Fashion-MNIST has them."""
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">IIII", 2051, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    head = struct.pack(">II", 2049, len(labels))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.astype(np.uint8).tobytes())


def test_a_set_of_torchvision_is_read_from_its_files(tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (40, 28, 28)).astype(np.uint8)
    labels = np.arange(40) % 10
    raw = tmp_path / "FashionMNIST" / "raw"
    write_idx(raw, "train", images[:30], labels[:30])
    write_idx(raw, "t10k", images[30:], labels[30:])
    data = load("torchvision:FashionMNIST", tmp_path)
    assert data.class_names[0] == "T-shirt/top"
    assert np.array_equal(data.pool_images[:, 0], images[:30])
    assert data.test_targets.tolist() == labels[30:].tolist()
    assert resolve_task("torchvision:FashionMNIST").defaults("quick").learner.kind == "strided-cnn"


def test_a_set_that_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torchvision.datasets import KMNIST.*--data-root") as told:
        load("torchvision:KMNIST", tmp_path)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="Did you mean 'FashionMNIST'"):
        resolve_task("torchvision:FashionMnist")
    with pytest.raises(UserError, match="Expected torchvision:EMNIST:balanced"):
        resolve_task("torchvision:EMNIST")


def test_rows_are_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = saved(tmp_path / "a.npz", x=ROWS, y=LABELS)
    by_hand = ["run", "--strategy", "random", "--dataset", name, "--budget", "40"]
    by_hand += ["--set", "oracle.mode=human", "--runs-dir", str(tmp_path / "runs")]
    for arguments in (["data", "preview", name], ["generator", "train", name], by_hand):
        assert call(arguments) == 2
        told = capsys.readouterr().err
        assert "(4,)" in told.splitlines()[-1]
        assert "Traceback" not in told


# A run on rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "learner"),
    [
        ("cluster-margin", {"kind": "mlp", "min_steps": 5, "epochs": 1}),
        ("seals:5:margin", {"kind": "linear"}),
        ("bald", {"kind": "linear", "members": 3}),
        ("margin", {"kind": "sklearn.naive_bayes:GaussianNB"}),
    ],
)
def test_rows_run_from_end_to_end(tmp_path: Path, strategy: str, learner: dict[str, Any]) -> None:
    given = {
        "task": saved(tmp_path / "a.npz", x=ROWS, y=LABELS),
        "strategy": strategy,
        "budget": 16,
        "query_size": 4,
        "initial_size": 8,
        "learner": learner,
    }
    folder = execute(resolve(given), places(tmp_path / "runs", None))
    assert [record.n_labelled for record in folder.records()] == [8, 12, 16]
    spec = resolve({**given, "strategy": "asal-auto", "learner": {"kind": "linear"}})
    with pytest.raises(UserError, match=r"generates images.*\(4,\)"):
        execute(spec, places(tmp_path / "runs", None))
