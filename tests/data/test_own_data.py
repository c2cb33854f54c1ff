"""Data of one's own: arrays, tables, torchvision's sets; rows of floats as items; what is refused."""

from __future__ import annotations

import datetime
import decimal
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from alharness.api.running import places_of
from alharness.cli import call
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.registry import resolve_task
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


def test_the_forms_of_keras_and_medmnist_are_read_with_their_own_split(tmp_path: Path) -> None:
    labels = LABELS[:, None].astype(np.uint8)
    keras = {
        "x_train": IMAGES[:40],
        "y_train": labels[:40],
        "x_test": IMAGES[40:],
        "y_test": LABELS[40:, None],
    }
    data = load(saved(tmp_path / "a.npz", **{k: v.astype(np.uint8) for k, v in keras.items()}))
    assert (len(data.pool_targets), len(data.test_targets)) == (40, 20)
    assert data.notes["splits"] == "pool: x_train; test: x_test"
    med = {
        f"{part}_{kind}": values[cut]
        for part, cut in (("train", slice(30)), ("val", slice(30, 40)), ("test", slice(40, 60)))
        for kind, values in (("images", IMAGES), ("labels", labels))
    }
    name = saved(tmp_path / "b.npz", **med)
    data = load(name)
    assert (len(data.pool_targets), len(data.test_targets)) == (30, 20)
    assert data.notes["splits"].endswith("val_images: 10 items, not used")
    assert resolve_task(name).defaults("quick").learner.kind == "mlp"
    upper = saved(
        tmp_path / "c.npz",
        X_train=ROWS[:40],
        y_train=LABELS[:40],
        X_test=ROWS[40:],
        y_test=LABELS[40:],
    )
    assert load(upper).test_targets.tolist() == LABELS[40:].tolist()


def test_items_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    some = LABELS.astype(float)
    some[:5] = np.nan
    words = np.array(["x", "y", ""])[np.where(np.arange(N) < 6, 2, LABELS % 2)]
    for labels, n, more in (
        (some, 5, {}),
        (words, 6, {}),
        (np.where(np.arange(N) < 7, -1, LABELS), 7, {"unlabelled": "-1"}),
    ):
        data = load(saved(tmp_path / "a.npz", x=ROWS, y=labels), **more)
        assert len(data.pool_targets) + len(data.test_targets) == N - n
        assert f"left out: {n} items without labels" in data.warnings
    assert load(saved(tmp_path / "a.npz", x=ROWS, y=LABELS - 1)).class_names == ("-1", "0", "1")


def test_one_array_with_its_labels_beside(tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", ROWS)
    np.save(tmp_path / "labels.npy", LABELS)
    name = f"npz:{tmp_path / 'emb.npy'}"
    with pytest.raises(UserError, match=rf"task.labels={tmp_path}/labels.npy.*numpy.savez"):
        load(name)
    data = load(name, labels=str(tmp_path / "labels.npy"))
    assert data.class_names == ("0", "1", "2")
    assert resolve_task(name).defaults("quick").learner.kind == "mlp"
    (tmp_path / "y.txt").write_text("".join(f"{label + 9}\n" for label in LABELS))
    assert load(name, labels=str(tmp_path / "y.txt")).class_names == ("9", "10", "11")
    lines = (tmp_path / "y.txt").read_text()
    (tmp_path / "y.csv").write_text(f"label\n{lines}")
    with pytest.raises(
        UserError, match=r"one label more: if its first line, 'label', is a heading"
    ):
        load(name, labels=str(tmp_path / "y.csv"))
    given = {"task": {"name": name, "labels": str(tmp_path / "y.txt")}, "strategy": "random"}
    before = resolve({**given, "budget": 12, "initial_size": 6}).run_key
    (tmp_path / "y.txt").write_text("".join(f"{label}\n" for label in LABELS))
    assert resolve({**given, "budget": 12, "initial_size": 6}).run_key != before


def test_columns_of_unlike_scale_are_warned_of(tmp_path: Path) -> None:
    data = load(saved(tmp_path / "a.npz", x=ROWS * [1, 1, 1, 50_000], y=LABELS))
    (told,) = [warning for warning in data.warnings if warning.startswith("scales")]
    assert "networks and distances want them scaled" in told
    assert not load(saved(tmp_path / "b.npz", x=ROWS, y=LABELS)).warnings


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
    (
        {"target": "size"},
        {},
        "holds fractions .*, which are no classes: regression is not supported",
    ),
    ({}, {"y": 1}, "Which column .* Set task.target to one of: size, count"),
    ({}, {"size": [None, *range(N - 1)]}, "'size' .* has 1 missing value, in row 1"),
    ({}, {"colour": ["red", *[None] * 3, *["blue"] * (N - 4)]}, "'colour' .* 3 missing values"),
    (
        {"split_column": "k"},
        {"k": ["train", None, *["test"] * (N - 2)]},
        "'k' .* 1 missing value, in row 2;",
    ),
    ({}, {"count": [np.inf, *range(N - 1)]}, "infinite in row 1"),
    ({"split_column": "colour"}, {}, "must say train .* and test; found 'blue'"),
    ({"drop": "size,count,colour,ripe,same"}, {}, "no column beside 'class'"),
    ({"separator": ";"}, {}, "Set task.separator"),
    (
        {},
        {"part": ["train"] * 50 + ["test"] * 10},
        "'part' .* says test, train: .*task.split_column=part",
    ),
    ({}, {"fold": ["Train"] * 50 + ["val"] * 10}, "'fold' .* says Train, val: .*task.drop=fold"),
    (
        {},
        {"class": [None, *LABELS[1:]]},
        "'class' .* in row 1.*name another column with task.target",
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


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return f"table:{path}"


def test_a_column_that_is_constant_in_the_pool_says_nothing_in_the_test_set(tmp_path: Path) -> None:
    """The deviation of 300 times 1.1 is 2e-16, and another value divided by it is 1e14."""
    n = 400
    table = pandas.DataFrame({"x": np.arange(n) % 7, "part": ["train"] * 300 + ["test"] * 100})
    table = table.assign(version=[1.1] * 300 + [1.2] * 100, y=np.arange(n) % 2)
    table.to_csv(tmp_path / "t.csv", index=False)
    data = load(f"table:{tmp_path / 't.csv'}", split_column="part")
    assert not data.pool_images[:, 1].any()
    assert not data.test_images[:, 1].any()
    assert data.notes["features"] == "x (number), version (constant)"
    close = table.assign(version=1e9 + np.arange(n) % 3)  # small against its size, and no constant
    close.to_csv(tmp_path / "t.csv", index=False)
    values = load(f"table:{tmp_path / 't.csv'}", split_column="part").pool_images[:, 1]
    np.testing.assert_allclose(np.unique(values), [-1.2247, 0, 1.2247], atol=1e-4)


NUMBERS = np.arange(N).astype(str).astype(object)
MARKED = np.where(np.arange(N) == 7, "?", NUMBERS)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (MARKED, r"a number in 59 of 60 rows.*; row 8 says '\?'.*task.categories=size"),
        ([f"{v}%" for v in range(N)], "a number in 60 of 60 rows.*row 1 says '0%'"),
        ([f"{v},5" for v in range(N)], "a number in 60 of 60 rows.*row 1 says '0,5'"),
        ([f"1 {v:03},25" for v in range(N)], "a number in 60 of 60 rows"),
        ([f"2026-11-{1 + v % 30:02}" for v in range(N)], "a date in 60 of 60 rows"),
    ],
    ids=["?", "%", "comma", "thousands", "date"],
)
def test_texts_that_are_mostly_numbers_are_no_categories(
    tmp_path: Path, values: Any, told: str
) -> None:
    frame().assign(size=values).to_csv(tmp_path / "t.csv", index=False)
    name = f"table:{tmp_path / 't.csv'}"
    with pytest.raises(UserError, match=told):
        load(name)
    n_categories = len(set(values))
    data = load(name, categories="size")
    assert data.pool_images.shape[1] == n_categories + 6
    assert f"size ({n_categories} categories)" in data.notes["features"]
    assert load(name, drop="size").pool_images.shape[1] == 6


def test_categories_may_be_numbers_and_others_stay_texts(tmp_path: Path) -> None:
    table = frame().assign(
        code=np.arange(N) % 3, kind=np.array(["1", "2", "3+", "none"])[np.arange(N) % 4]
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    name = f"table:{tmp_path / 't.csv'}"
    with pytest.raises(UserError, match=r"'kind' .*30 of 60 rows"):
        load(name)
    assert load(name, categories="code, kind").pool_images.shape[1] == 7 + 3 + 4
    with pytest.raises(UserError, match="Did you mean 'kind'"):
        load(name, categories="kinds")


def test_rows_of_more_fields_than_names_are_not_shifted(tmp_path: Path) -> None:
    rows = "".join(f"{v / 100:.2f},{'ab'[v % 2]}\n".replace(".", ",") for v in range(N))
    told = "1 more field than its line of names, which has 2: decimal commas"
    with pytest.raises(UserError, match=told):
        load(written(tmp_path / "a.csv", "x,label\n" + rows))
    two = rows.replace(",a", ",0,5,a").replace(",b", ",0,5,b")
    with pytest.raises(UserError, match=r"2 more fields than its line of names, which has 3"):
        load(written(tmp_path / "b.csv", "x,z,label\n" + two))
    assert load(written(tmp_path / "c.tsv", "x\tlabel\n" + "1\ta\n2\tb\n" * 10)).n_classes == 2


def test_a_class_under_two_names_or_none_is_refused(tmp_path: Path) -> None:
    twice = "x,label,label\n" + "1,a,a\n2,b,b\n" * 10
    with pytest.raises(UserError, match="has 2 columns named 'label'"):
        load(written(tmp_path / "a.csv", twice))
    import pyarrow
    from pyarrow import parquet

    columns = [
        pyarrow.array([1, 2] * 10),
        pyarrow.array(["a", "b"] * 10),
        pyarrow.array(["a"] * 20),
    ]
    held = pyarrow.Table.from_arrays(columns, names=["x", "label", "label"])
    parquet.write_table(held, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has 2 columns named 'label'"):
        load(f"table:{tmp_path / 'a.parquet'}")
    blanks = "x,label\n" + "1,a\n2,b\n3,a \n" * 10
    with pytest.raises(UserError, match="differ by blanks only: 'a ' and 'a'"):
        load(written(tmp_path / "b.csv", blanks))


def test_row_numbers_are_told(tmp_path: Path) -> None:
    """A table sorted by class tells the class by them."""
    frame().sort_values("class").reset_index(drop=True).to_csv(tmp_path / "t.csv")
    name = f"table:{tmp_path / 't.csv'}"
    with pytest.raises(
        UserError, match=r"column without a name: row numbers.*task.drop='Unnamed: 0'"
    ):
        load(name)
    assert load(name, drop="Unnamed: 0").pool_images.shape[1] == 7
    frame().to_csv(tmp_path / "t.csv", index=False)
    assert any(
        "column 'count' numbers the rows and is a feature" in told for told in load(name).warnings
    )
    assert not load(name, drop="count").warnings
    frame().set_index("colour").to_parquet(tmp_path / "t.parquet")
    named = load(f"table:{tmp_path / 't.parquet'}", drop="count")
    assert named.warnings == ("left out: the index (colour)",)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[1.0, 2.0], [3.0]] * (N // 2), r"lists that are no vectors.*lengths \[1, 2\].*drop=size"),
        ([datetime.date(2026, 1, 1)] * N, "holds dates or times"),
        ([datetime.time(1)] * N, "holds dates or times"),
        ([b"x"] * N, r"neither numbers nor texts \(bytes\)"),
    ],
    ids=["lists", "dates", "times", "bytes"],
)
def test_what_is_neither_number_nor_text_is_refused(tmp_path: Path, values: Any, told: str) -> None:
    frame().assign(size=values).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=told):
        load(f"table:{tmp_path / 't.parquet'}")
    with pytest.raises(UserError, match="which are no classes"):
        load(f"table:{tmp_path / 't.parquet'}", target="size")


def test_decimals_are_numbers_and_large_labels_are_not_wrapped(tmp_path: Path) -> None:
    price = [decimal.Decimal(f"{v}.25") for v in range(N)]
    large = np.array([5, 2**63 + 1], dtype=np.uint64)[np.arange(N) % 2]
    frame().assign(size=price, **{"class": large}).to_parquet(tmp_path / "t.parquet")
    data = load(f"table:{tmp_path / 't.parquet'}")
    assert "size (number)" in data.notes["features"]
    assert data.class_names == ("5", str(2**63 + 1))


def test_a_table_without_rows_or_without_a_test_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names of columns and no rows"):
        load(written(tmp_path / "a.csv", "x,label\n"))
    frame().assign(part="test").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"must say train .* and test; found 'test' everywhere"):
        load(f"table:{tmp_path / 't.csv'}", split_column="part")


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
    for arguments in (["data", "preview", name], ["generator", "train", name]):
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
    folder = execute(resolve(given), places_of(tmp_path / "runs", None))
    assert [record.n_labelled for record in folder.records()] == [8, 12, 16]
    spec = resolve({**given, "strategy": "asal-auto", "learner": {"kind": "linear"}})
    with pytest.raises(UserError, match=r"generates images.*\(4,\)"):
        execute(spec, places_of(tmp_path / "runs", None))
