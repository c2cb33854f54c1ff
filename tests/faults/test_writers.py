"""A disk that fills up takes a part of a write: what was there before stays, whoever writes."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alharness.artefacts import write_tensors
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.files import append_line, copy, write_json, write_sealed, write_text
from alharness.pictures.charts import Chart
from alharness.pictures.grids import save_curve, save_grid
from alharness.pictures.sheets import save
from alharness.records import QueryLog, RunFolder
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

#: More than any buffer holds, so that a write is made in several parts.
LONG = 40_000


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the kernel takes the part that fits, then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_modules, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python keeps cut ones
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = writes_modules


def rows(path: Path, n: int) -> None:
    log = QueryLog()
    log.add(0, {"indices": np.arange(n)})
    log.write(path)


def copied(path: Path, n: int) -> None:
    source = path.with_name("source")
    if not source.exists() or source.stat().st_size != n:
        with lifted():
            source.write_bytes(b"x" * n)
    copy(source, path)


@contextmanager
def lifted() -> Iterator[None]:
    with room_for(resource.getrlimit(resource.RLIMIT_FSIZE)[1]):
        yield


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 255, (n // 100, 100), dtype=np.uint8)


#: What writes a file of about ``n`` bytes in one go.
WRITERS: dict[str, Callable[[Path, int], object]] = {
    "text": lambda path, n: write_text(path, "x" * n),
    "json": lambda path, n: write_json(path, {"x": "y" * n}),
    "sealed json": lambda path, n: write_sealed(path, {"x": "y" * n}),
    "a copy": copied,
    "rows of queries.npz": rows,
    "why a run failed": lambda path, n: RunFolder(path.parent).write_failure("x" * n),
    "tensors": lambda path, n: write_tensors(path, {"w": torch.zeros(n // 4)}),
    "a sheet": lambda path, n: save(Image.fromarray(noise(n)), path),
    "a grid": lambda path, n: save_grid(path, torch.from_numpy(noise(n)).view(-1, 1, 10, 10) / 255),
    "a curve": lambda path, n: save_curve(path, ["a", "b"], [[i, i % 7] for i in range(n // 400)]),
    "a chart": lambda path, n: Chart(
        "chart", "", ("a",), (("x" * n,),), lambda figure: None, (2.0, 2.0)
    ).write(path.parent),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "source"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_the_old_one_or_the_new_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    WRITERS[name](path, LONG // 2)
    before = contents(tmp_path)
    WRITERS[name](path, LONG)
    after = contents(tmp_path)
    full = max(len(content) for content in after.values())
    for part in (0, 1, full // 3, full // 2, full - 1):
        for file, content in before.items():
            (tmp_path / file).write_bytes(content)
        with room_for(part), pytest.raises(UserError, match="cannot be written"):
            WRITERS[name](path, LONG)
        found = contents(tmp_path)
        assert found.keys() == before.keys(), "no half file is left"
        assert all(content in (before[file], after[file]) for file, content in found.items())


@pytest.mark.parametrize("taken", [0, 1, 500, 40_006])
def test_a_line_is_whole_or_not_there(taken: int, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    with room_for(len("first\n") + taken), pytest.raises(UserError, match="File too large"):
        append_line(path, "x" * (LONG + 6))
    assert path.read_text() == "first\n"
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


@pytest.mark.parametrize("part", [0.1, 0.4, 0.8, 0.99])
def test_a_run_goes_on_from_any_write_that_succeeded_in_part(part: float, tmp_path: Path) -> None:
    spec = resolve(
        {
            "task": "digits-two",
            "strategy": "margin",
            "budget": 50,
            "initial_size": 10,
            "query_size": 10,
            "learner": {"kind": "linear"},
        }
    )
    whole = execute(spec, Places(tmp_path / "whole", DataLocations.resolve()))
    full = max(path.stat().st_size for path in whole.path.iterdir())
    places = Places(tmp_path / "runs", DataLocations.resolve())
    with room_for(int(part * full)), pytest.raises(UserError, match="cannot be written"):
        execute(spec, places)
    folder = execute(spec, places)
    assert [record.without_times() for record in folder.records()] == [
        record.without_times() for record in whole.records()
    ]
