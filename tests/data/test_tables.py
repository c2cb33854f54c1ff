"""Tables as people have them: read as a person would, or refused in a line whose advice helps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from own_tables import RNG, WHOLE, N, X, Y, advised, load, refused, write

from alharness.api.running import places_of
from alharness.cli import call
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

# ------------------------------------------------------------------------------------------ classes


def test_classes_are_the_files_texts(tmp_path: Path) -> None:
    data = load(write(tmp_path / "t.csv", label=np.repeat(["01", "1", "02"], N // 3)))
    assert data.class_names == ("01", "02", "1")
    assert any("zeros in front" in warning for warning in data.warnings)
    assert load(write(tmp_path / "t.csv", label=np.repeat(["007", "042"], N // 2))).class_names == (
        "007",
        "042",
    )
    assert load(write(tmp_path / "t.csv", label=np.arange(N) % 12)).class_names == tuple(
        map(str, range(12))
    )
    assert load(write(tmp_path / "t.csv", label=np.arange(N) % 2 == 0)).class_names == (
        "False",
        "True",
    )
    floats = np.array(["10.0", "2.0"])[np.arange(N) % 2]
    assert load(write(tmp_path / "t.csv", label=floats)).class_names == ("2.0", "10.0")
    mixed = np.array(["1", "1.0"])[np.arange(N) % 2]
    path = write(tmp_path / "t.csv", label=mixed)
    assert "one number in two spellings, '1' and '1.0'" in refused(path)
    assert load(path, categories="label").class_names == ("1", "1.0")


def test_what_is_no_class_is_said_to_be_unsupported(tmp_path: Path) -> None:
    assert "regression is not supported" in refused(write(tmp_path / "t.csv", label=X))
    assert "regression and texts as targets are not supported" in refused(
        write(tmp_path / "t.csv", label=np.arange(N))
    )
    texts = [f"a film about {k} things" for k in range(N)]
    assert "free text" in refused(write(tmp_path / "t.csv", label=texts))


def test_only_what_is_read_otherwise_has_another_key(tmp_path: Path) -> None:
    def key(path: Path, **parameters: Any) -> dict[str, str]:
        return resolve_task(f"table:{path}", **parameters).identity()

    same = write(tmp_path / "same.csv", code=WHOLE, colour=np.tile(["u", "v"], N // 2))
    assert set(key(same)) == {str(same)}
    assert set(key(same, categories="code")) == {str(same)}
    codes = write(tmp_path / "codes.csv", code=[f"{k:03}" for k in WHOLE])
    assert key(codes)["table"] == "reading 2"
    assert "table" not in key(codes, drop="code")
    classes = write(tmp_path / "classes.csv", label=np.repeat(["01", "1"], N // 2))
    assert key(classes)["table"] == "reading 2"
    given = {"strategy": "random", "budget": 20, "initial_size": 10}
    spec = resolve({**given, "task": f"table:{same}"})
    assert "missing" not in spec.task.parameters, "a new parameter renames no run"


# --------------------------------------------------------------------------------------------- gaps


def test_gaps_of_all_columns_are_one_line_and_a_setting_fills_them(tmp_path: Path) -> None:
    colour = np.tile(["u", "v"], N // 2).astype(object)
    colour[[7, 9]] = None
    size = X.copy()
    size[3] = np.nan
    path = write(tmp_path / "t.csv", colour=colour, size=size)
    told = refused(path)
    assert "Column 'colour' of" in told
    assert "has 2 missing values, the first in row 8; 'size' has 1 missing value," in told
    assert "task.missing=drop (3 of 60 rows)" in told
    assert "task.drop=colour,size" in told
    dropped = load(path, missing="drop")
    assert len(dropped.pool_targets) + len(dropped.test_targets) == N - 3
    assert "left out: 3 of 60 rows with gaps" in dropped.warnings
    as_category = load(path, missing="category")
    assert as_category.pool_images.shape[1] == 1 + 3 + 2
    assert "colour (3 categories)" in as_category.notes["features"]
    median = load(path, missing="median")
    assert median.pool_images.shape[1] == 1 + 2 + 1
    assert "gaps: colour, size: median" in median.warnings
    assert load(path, drop="colour,size").pool_images.shape[1] == 1


def test_a_median_is_the_pools(tmp_path: Path) -> None:
    size = np.arange(N).astype(float)
    size[0] = np.nan
    part = np.array(["train"] * 31 + ["test"] * (N - 31))
    label = np.tile(["a", "b"], N // 2)
    path = write(tmp_path / "t.csv", size=size, part=part, label=label)
    data = load(path, missing="median", split_column="part")
    assert data.pool_images[0, 1] == pytest.approx(
        0, abs=1e-6
    )  # 15.5 is median and mean of 1 .. 30


def test_a_gap_in_the_target_or_in_the_split_is_told(tmp_path: Path) -> None:
    label = Y.astype(object).copy()
    label[4] = None
    path = write(tmp_path / "t.csv", label=label)
    assert "in row 5" in refused(path)
    assert len(load(path, missing="drop").pool_targets) == 48 - 1
    split = np.array(["train"] * 45 + ["test"] * 15, dtype=object)
    split[5], split[6] = None, "val"
    told = refused(write(tmp_path / "t.csv", split=split), split_column="split")
    assert "'split'" in told
    assert "1 missing value, in row 6" in told


@pytest.mark.parametrize("word", ["NA", "None", "nan", "NULL", "N/A", "#N/A"])
def test_words_of_absence_are_gaps_among_numbers_and_a_question_among_words(
    word: str, tmp_path: Path
) -> None:
    numbers = WHOLE.astype(str).astype(object)
    numbers[2] = word
    path = write(tmp_path / "n.csv", size=numbers)
    assert "'size' of" in (told := refused(path))
    assert "1 missing value, in row 3" in told
    assert load(path, missing="median").pool_images.shape[1] == 2
    path = write(tmp_path / "w.csv", region=np.tile([word, "EU"], N // 2))
    told = refused(path)
    assert f"says '{word}' in 30 rows: a word, or nothing there?" in told
    assert load(path, categories="region").pool_images.shape[1] == 3
    assert "30 missing values" in refused(path, gaps=word)
    path = write(tmp_path / "c.csv", label=np.repeat([word, "Brick"], N // 2))
    assert "a class, or nothing there?" in refused(path)
    assert sorted(load(path, categories="label").class_names) == sorted([word, "Brick"])


# ------------------------------------------------------------- what is not written as a number is

KINDS: dict[str, tuple[list[str], str]] = {
    "money": ([f"${k}" for k in WHOLE], "an amount of money in 60 of 60 rows"),
    "thousands": ([f"{k},{k:03}" for k in WHOLE], "a number in 60 of 60 rows"),
    "euros": ([f"{k}.50 €" for k in WHOLE], "an amount of money in 60"),
    "units": ([f"{k} months" for k in WHOLE], "a number with a unit in 60 of 60 rows"),
    "percent": ([f"{k} %" for k in WHOLE], "a number in 60 of 60 rows"),
    "comma": ([f"{k},5" for k in WHOLE], "a number in 60 of 60 rows.*task.decimal=,"),
    "dates": (
        [f"{1 + k % 28:02}/03/2020" for k in range(N)],
        "a date in 60 of 60 rows.*row 1 says '01/03/2020'",
    ),
    "iso": ([f"2020-03-{1 + k % 28:02}T10:00" for k in range(N)], "a date in 60"),
    "months": ([f"{1 + k % 28} Mar 2020" for k in range(N)], "a date in 60"),
    "censored": (np.where(WHOLE < 40, "<0.5", WHOLE).tolist(), "a number and a bound in 60"),
    "ranges": ([f"{k}-{k + 10}" for k in WHOLE], "a range in 60"),
    "times": ([f"{k % 24:02}:{k % 60:02}" for k in WHOLE], "a time in 60"),
    "codes with e": ([f"{k}e{k % 7}" for k in WHOLE], "numbers with an e or codes, row 1 says"),
    "marks": (np.where(np.arange(N) == 7, "?", WHOLE).tolist(), r"59 of 60 rows.*row 8 says '\?'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named_with_an_example_and_settings_that_help(kind: str, tmp_path: Path) -> None:
    values, expected = KINDS[kind]
    path = write(tmp_path / "t.csv", size=values)
    told = refused(path)
    assert re.search(rf"Column 'size' of .*{expected}", told), told
    choices = advised(told)
    assert {"drop": "size"} in choices or kind == "codes with e"
    for choice in choices:
        more = {"missing": "drop"} if "gaps" in choice else {}
        data = load(path, **choice, **more)
        assert data.pool_images.shape[1] >= 1, choice


def test_numbers_may_be_written_for_people(tmp_path: Path) -> None:
    def read(values: list[str], **more: str) -> list[float]:
        rows = [*values, *values]
        path = tmp_path / "t.csv"
        pandas.DataFrame({"v": rows, "label": ["a", "b"] * len(values)}).to_csv(path, index=False)
        split = {"test_fraction": 0.5}
        data = load(path, **({"numbers": "v"} | more), **split)
        column = np.concatenate([data.pool_images[:, 0], data.test_images[:, 0]])
        return np.round(
            (column - column.min()).astype(float) / float(column.max() - column.min()), 3
        ).tolist()

    def spread(values: list[float]) -> set[float]:
        low, high = min(values), max(values)
        return {round((value - low) / (high - low), 3) for value in values}

    plain = [10.0, 1200.5, 300.0, 40.0]
    for written in (
        ["$10", "$1,200.5", "$300", "$40"],
        ["10 kg", "1200.5 kg", "300kg", "40 kg"],
        ["010", "1200.5", "0300", "40"],
        ["10%", "1200.5 %", "300%", "40%"],
        ["1e1", "12005e-1", "3e2", "4e1"],
    ):
        assert set(read(written)) == spread(plain), written
    assert set(read(["10,0", "1200,5", "300,0", "40"], decimal=",", numbers="")) == spread(plain)
    assert set(read(["10 €", "1.200,5 €", "300 €", "40 €"], decimal=",")) == spread(plain)
    path = tmp_path / "t.csv"
    pandas.DataFrame({"v": ["1 kg", "2 lb"] * 10, "label": ["a", "b"] * 10}).to_csv(path)
    assert "several units ('kg', 'lb')" in refused(path, numbers="v", drop="Unnamed: 0")
    pandas.DataFrame({"v": ["1,5", "2,25"] * 10, "label": ["a", "b"] * 10}).to_csv(path)
    told = refused(path, numbers="v", drop="Unnamed: 0")
    assert "Set task.decimal=," in told
    assert load(path, numbers="v", drop="Unnamed: 0", decimal=",").pool_images.shape[1] == 1


def test_all_columns_troubles_are_told_at_once(tmp_path: Path) -> None:
    told = refused(
        write(tmp_path / "t.csv", a=[f"${k}" for k in WHOLE], b=[f"{k} kg" for k in WHOLE])
    )
    assert "Column 'a' of" in told
    assert "Column 'b' reads as a number with a unit" in told


def test_codes_are_words_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", zip=[f"{k % 5:05}" for k in range(N)])
    data = load(path)
    assert data.pool_images.shape[1] == 1 + 5
    assert any("taken for codes" in warning for warning in data.warnings)
    assert load(path, numbers="zip").pool_images.shape[1] == 2


def test_lists_of_numbers_are_vectors(tmp_path: Path) -> None:
    rows = RNG.normal(size=(N, 7))
    texts = ["[" + ", ".join(f"{v:.4f}" for v in row) + "]" for row in rows]
    data = load(write(tmp_path / "t.csv", embedding=texts))
    assert data.pool_images.shape[1] == 1 + 7
    assert "embedding (vector of 7)" in data.notes["features"]
    pandas.DataFrame({"embedding": list(rows), "label": Y}).to_parquet(tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").pool_images.shape[1] == 7
    texts[3] = "[1, 2]"
    assert "no vectors: expected as many numbers" in refused(
        write(tmp_path / "t.csv", embedding=texts)
    )


def test_a_text_column_of_parquet_is_read_alike_wherever_its_gaps_stand(tmp_path: Path) -> None:
    n_gaps = 6
    words = ["01", "1"] * (N // 2)
    for at in (slice(0, n_gaps), slice(N - n_gaps, N)):
        column: list[str | None] = list(words)
        column[at] = [None] * n_gaps
        path = tmp_path / "t.parquet"
        pandas.DataFrame({"x": X, "code": column, "label": Y}).to_parquet(path)
        assert "'code'" in refused(path)
        assert "code (3 categories)" in load(path, missing="category").notes["features"]
        assert (
            resolve_task(f"table:{path}")
            .preview(DataLocations.resolve())[1]
            .startswith("code: codes")
        )


# ------------------------------------------------------------------------------------------- splits

SPLITS: dict[str, tuple[str, list[str]]] = {
    "title": ("Split", ["Train"] * 45 + ["Test"] * 15),
    "flag": ("is_test", ["0"] * 45 + ["1"] * 15),
    "flag of words": ("isTrain", ["True"] * 45 + ["False"] * 15),
    "usage": ("Usage", ["Training"] * 45 + ["PrivateTest"] * 10 + ["PublicTest"] * 5),
    "kaggle": ("set", ["TRAINING"] * 45 + ["VALIDATION"] * 15),
    "holdout": ("holdout", ["no"] * 45 + ["yes"] * 15),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_the_authors_split_is_told_when_seen_and_taken_when_asked(
    kind: str, tmp_path: Path
) -> None:
    name, said = SPLITS[kind]
    path = write(tmp_path / "t.csv", **{name: said, "label": np.tile(["a", "b"], N // 2)})
    told = refused(path)
    assert f"Column '{name}' of" in told
    for choice in advised(told):
        data = load(path, **choice)
        taken = choice == {"split_column": name}
        assert len(data.pool_targets) == (45 if taken else 48)
        assert data.pool_images.shape[1] == (
            1 if taken or "drop" in choice else data.pool_images.shape[1]
        )


def test_a_column_that_tells_the_class_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", copy=np.where(Y == "a", 7, 9), other=np.tile([1, 2], N // 2))
    (leak,) = [warning for warning in load(path).warnings if warning.startswith("leak")]
    assert "'copy' tells the class" in leak
    assert not [w for w in load(path, drop="copy").warnings if w.startswith("leak")]


# ------------------------------------------------------------------------------------- previewed


def test_a_preview_says_what_each_column_is_taken_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.csv", price=[f"${k}" for k in WHOLE], zip=[f"{k:05}" for k in WHOLE])
    assert call(["data", "preview", f"table:{path}"]) == 0
    said = capsys.readouterr().out
    assert "x: numbers (" in said
    assert "price: amount of money (" in said
    assert "task.numbers=price" in said
    assert "zip: codes (" in said
    assert "label: 2 classes (2 different: 'a', 'b')" in said


# ------------------------------------------------------------------- gaps that a classifier takes as they are


def gappy(path: Path) -> Path:
    size, colour = WHOLE.astype(float), np.tile(["u", "v"], N // 2).astype(object)
    size[::7], colour[[3, 9]] = np.nan, None
    return write(path, size=size, colour=colour)


def test_kept_gaps_stay_what_they_are_and_the_rest_is_scaled_as_without_them(
    tmp_path: Path,
) -> None:
    path = gappy(tmp_path / "t.csv")
    data, median = load(path, missing="keep"), load(path, missing="median")
    assert data.has_gaps
    assert not median.has_gaps
    frame = pandas.read_csv(path)
    rows = np.concatenate([data.pool_images, data.test_images])
    assert np.isnan(rows[:, 1]).sum() == frame["size"].isna().sum()
    assert not np.isnan(rows[:, [0, 2, 3, 4]]).any(), "of words a gap is a category"
    of_pool = data.pool_images[:, 1]
    assert np.nanmean(of_pool) == pytest.approx(0, abs=1e-6)
    assert np.nanstd(of_pool) == pytest.approx(1, abs=1e-6)


def test_only_a_classifier_that_takes_gaps_sees_them(tmp_path: Path) -> None:
    """Scikit-learn's tags say less than a trial: a pipeline that imputes takes gaps, too."""
    imputing = tmp_path / "mine.py"
    imputing.write_text(
        "from sklearn.impute import SimpleImputer\nfrom sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "imputing = make_pipeline(SimpleImputer(), LogisticRegression())\n"
    )
    given = {
        "task": {"name": f"table:{gappy(tmp_path / 't.csv')}", "missing": "keep"},
        "strategy": "margin",
        "budget": 24,
        "query_size": 4,
        "initial_size": 20,
    }
    places = places_of(tmp_path / "runs", None)
    for kind in ("sklearn.ensemble:HistGradientBoostingClassifier", f"{imputing}:imputing"):
        folder = execute(resolve({**given, "learner": {"kind": kind}}), places)
        assert [record.n_labelled for record in folder.records()] == [20, 24]
        execute(
            resolve({**given, "learner": {"kind": kind}}), places
        )  # finished: proved, not refused
    for kind in ("mlp", "linear", "sklearn.linear_model:LogisticRegression"):
        with pytest.raises(
            UserError, match=r"have gaps.*HistGradientBoosting.*task.missing=median"
        ):
            execute(resolve({**given, "learner": {"kind": kind}}), places)
    spec = resolve({**given, "strategy": "core-set", "learner": {"kind": f"{imputing}:imputing"}})
    with pytest.raises(UserError, match=r"compares rows with each other"):
        execute(spec, places)


def test_a_word_that_is_a_gap_among_numbers_is_one_in_the_whole_file(tmp_path: Path) -> None:
    """As R writes penguins: NA in every column."""
    numbers, colour = WHOLE.astype(str).astype(object), np.tile(["u", "v"], N // 2).astype(object)
    numbers[3], colour[[3, 9]] = "NA", "NA"
    path = write(tmp_path / "t.csv", size=numbers, colour=colour)
    assert "'colour' has 2 missing values, the first in row 4" in refused(path)
    assert load(path, missing="category").pool_images.shape[1] == 1 + 2 + 3
    kept = load(
        path, missing="median", categories="colour"
    )  # a word there, whatever it is elsewhere
    assert kept.pool_images.shape[1] == 1 + 1 + 3


@pytest.mark.parametrize(("n_words", "is_refused"), [(100, False), (101, True)])
def test_a_column_has_up_to_a_hundred_categories_each_of_them_once(
    tmp_path: Path, n_words: int, is_refused: bool
) -> None:
    names = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(n_words)]
    labels = ["a", "b"] * n_words
    rows = pandas.DataFrame({"x": np.arange(n_words) / 7, "name": names, "label": labels[:n_words]})
    path = tmp_path / "t.csv"
    rows.to_csv(path, index=False)
    if is_refused:
        assert f"{n_words} different texts; expected at most 100 categories" in refused(path)
    else:
        assert load(path).pool_images.shape[1] == 1 + n_words


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_without_a_mark_is_sent_to_its_encoding(
    tmp_path: Path, encoding: str
) -> None:
    """Which half of the bytes is zero tells the order; with a mark nothing has to be said."""
    path = write(tmp_path / "t.csv")
    text = path.read_text()
    whole = load(path).pool_images
    path.write_bytes(text.encode(encoding))
    told = refused(path)
    assert f"holds zero bytes, as UTF-16 without a mark does. Set task.encoding={encoding}." in told
    assert np.array_equal(load(path, encoding=encoding).pool_images, whole)
    path.write_bytes(("\ufeff" + text).encode(encoding))
    assert np.array_equal(load(path).pool_images, whole)
