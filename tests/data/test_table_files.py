"""Files of tables: every line accounted for, whoever wrote it, and read once."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_tables import WHOLE, N, X, Y, advised, load, refused, write

from alharness.registry import resolve_task
from alharness.tasks import table as table_module
from alharness.tasks import table_file
from alharness.tasks import texts as texts_module
from alharness.tasks.base import DataLocations
from alharness.tasks.texts import Form, read_texts

# -------------------------------------------------------------------------------------- the lines


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
