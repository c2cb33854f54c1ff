"""A run is what was run: its plug-ins' code and its data are part of it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alharness import registry
from alharness.cli import call
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.records import RunFolder, run_folders
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

FIRST, LAST = "view.unlabelled[:query_size]", "view.unlabelled[-query_size:]"
MINE = """
from alharness.strategy import PoolQuery, Strategy

class Mine(Strategy):
    "Ask about some end of the pool."
    source = "test"

    def select(self, view, query_size):
        return PoolQuery({rule})
"""
SMALL = {"task": "digits-two", "device": "cpu", "budget": 30, "query_size": 5, "initial_size": 15}
OPTIONS = ["--dataset", "digits-two", "--device", "cpu", "--budget", "30", "--query-size", "5"]
OPTIONS += ["--initial-size", "15", "--no-tracking"]


def places(root: Path) -> Places:
    return Places(root / "runs", DataLocations.resolve(), None)


def digests(folder: RunFolder) -> list[str | None]:
    return [record.query.digest if record.query else None for record in folder.records()]


def write(path: Path, rule: str) -> str:
    path.write_text(MINE.format(rule=rule), encoding="utf-8")
    return f"{path}:Mine"


def test_the_same_command_after_an_edit_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    first = execute(resolve({**SMALL, "strategy": write(path, FIRST)}), places(tmp_path))
    second = execute(resolve({**SMALL, "strategy": write(path, LAST)}), places(tmp_path))
    assert first.path != second.path
    assert digests(first)[0] != digests(second)[0]
    again = execute(resolve({**SMALL, "strategy": write(path, FIRST)}), places(tmp_path))
    assert again.path == first.path


def test_an_edit_of_the_same_second_and_length_is_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled module that Python keeps is told from another one by size and whole seconds alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    beside = "from beside import END\n" + MINE.format(rule="view.unlabelled[:0]")

    def ends(own: str, other: str) -> tuple[str, str]:
        for name, text in (
            ("mine.py", f"{beside}    own = {own!r}\n    other = END\n"),
            ("beside.py", f"END = {other!r}\n"),
        ):
            Path(name).write_text(text, encoding="utf-8")
            os.utime(name, (1_000_000_000, 1_000_000_000))
        cls = registry.find_strategy("./mine.py:Mine").cls
        return cls.own, cls.other  # type: ignore[attr-defined]

    for asked in (("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")):
        assert ends(*asked) == asked


def test_a_stopped_run_does_not_go_on_with_other_code(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    stopped = execute(
        resolve({**SMALL, "strategy": write(path, FIRST)}), places(tmp_path), max_cycles=1
    )
    edited = execute(resolve({**SMALL, "strategy": write(path, LAST)}), places(tmp_path))
    assert len(stopped.records()) == 1
    assert len(digests(edited)) == 4
    assert digests(edited)[0] != digests(stopped)[0]


def test_what_a_plugin_imports_from_beside_it_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    helper = tmp_path / "a_rule_of_mine.py"
    helper.write_text("def rule(view, n):\n    return view.unlabelled[:n]\n", encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(
        "from a_rule_of_mine import rule\n" + MINE.format(rule="rule(view, query_size)"),
        encoding="utf-8",
    )
    before = execute(resolve({**SMALL, "strategy": f"{path}:Mine"}), places(tmp_path))
    helper.write_text("def rule(view, n):\n    return view.unlabelled[-n:]\n", encoding="utf-8")
    after = execute(resolve({**SMALL, "strategy": f"{path}:Mine"}), places(tmp_path))
    assert before.path != after.path
    assert digests(before)[0] != digests(after)[0]


def test_a_worker_refuses_code_that_changed_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    spec = resolve({**SMALL, "strategy": write(path, FIRST)})
    write(path, LAST)
    with pytest.raises(UserError, match=r"mine\.py' is not what it was when this run was put"):
        execute(spec, places(tmp_path))
    assert not list((tmp_path / "runs").glob("*/*/*/cycles.jsonl"))


def test_the_harness_s_own_are_told_by_its_version() -> None:
    for strategy in ("random", "subset:500:max-entropy"):
        assert resolve({**SMALL, "strategy": strategy}).plugins == {}


def pictures(folder: Path, seed: int) -> None:
    """Forty pictures of two classes."""
    rng = np.random.default_rng(seed)
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            values = rng.integers(level - 50, level + 50, size=(8, 8)).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{number:02}.png")


def test_one_name_in_two_places_is_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "task": "folder:pics", "strategy": "random", "budget": 20}
    settings |= {"initial_size": 10}
    keys = []
    for place in ("here", "there"):
        pictures(tmp_path / place / "pics", seed=len(place))
        monkeypatch.chdir(tmp_path / place)
        keys.append(resolve(settings).run_key)
    assert len(set(keys)) == 2


def test_a_finished_run_is_no_result_of_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALHARNESS_CACHE", str(tmp_path / "cache"))
    pictures(tmp_path / "pics", seed=0)
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "task": "folder:pics", "strategy": "random", "budget": 20}
    spec = resolve({**settings, "initial_size": 10})
    folder = execute(spec, places(tmp_path))
    told: list[str] = []
    assert execute(spec, places(tmp_path), warn=told.append).path == folder.path
    assert "nothing was run" in told[0]

    shutil.rmtree(tmp_path / "pics")
    told.clear()
    execute(spec, places(tmp_path), warn=told.append)
    assert "not here" in told[0]

    pictures(tmp_path / "pics", seed=7)
    with pytest.raises(UserError, match="was made on data with fingerprint"):
        execute(spec, places(tmp_path))


def test_the_command_says_that_nothing_was_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--strategy", "random", *OPTIONS, "--runs-dir", str(tmp_path)]
    assert call(command) == 0
    assert "nothing was run" not in "".join(capsys.readouterr())
    assert call(command) == 0
    assert re.search("finished before; nothing was run", "".join(capsys.readouterr()))
    assert len(run_folders(tmp_path)) == 1


def library(root: Path, number: str) -> None:
    """A library as pip installs it; version 2 ranks the other way round."""
    place = root / "site-packages"
    (place / "ranking").mkdir(parents=True, exist_ok=True)
    sign = "" if number == "1.0" else "-"
    (place / "ranking" / "__init__.py").write_text(
        f"def first(view, n):\n    return view.unlabelled[{sign}n:][:n]\n", encoding="utf-8"
    )
    about = place / "ranking_of_mine.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: ranking-of-mine\nVersion: {number}\n"
    )
    (about / "top_level.txt").write_text("ranking\n")


@pytest.mark.parametrize("deep", [False, True], ids=["by itself", "by a module beside it"])
def test_the_version_of_a_library_that_a_plugin_imports_is_part_of_the_run(
    deep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, "1.0")
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    path = tmp_path / "mine.py"
    if deep:
        (tmp_path / "beside_mine.py").write_text("from ranking import first\n", encoding="utf-8")
    home = "beside_mine" if deep else "ranking"
    write(path, f"__import__('{home}').first(view, query_size)")
    path.write_text(f"import {home}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    name = f"{path}:Mine"
    before = resolve({**SMALL, "strategy": name})
    folder = execute(before, places(tmp_path), max_cycles=1)
    assert "ranking-of-mine 1.0" in before.plugins[str(path)]
    assert folder.facts().versions["ranking-of-mine"] == "1.0"
    library(tmp_path, "2.0")
    after = resolve({**SMALL, "strategy": name})
    assert after.run_key != before.run_key
    with pytest.raises(UserError, match="is not what it was"):
        execute(before, places(tmp_path))


def test_versions_that_every_run_records_rename_no_foreign_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import json, torch, numpy, sklearn.cluster\nimport alharness\n")
    (identity,) = registry.identity_of(registry.STRATEGIES, f"{path}:Mine").values()
    assert len(identity.split()) == 1
