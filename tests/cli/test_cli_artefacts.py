"""``alharness artefacts`` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alharness.artefacts import Artefact, ArtefactStore
from alharness.cli import call
from alharness.progress import Progress


def build(folder: Path, progress: Progress) -> Mapping[str, Any]:
    (folder / "weights.bin").write_bytes(b"\x07" * 2000)
    return {"task": "digits-two"}


def stored(runs: Path, number: int) -> Artefact:
    return ArtefactStore(runs / "artefacts").obtain("thing", {"number": number}, build)


def artefacts(runs: Path, command: str, *arguments: str) -> int:
    return call(["artefacts", command, *arguments, "--runs-dir", str(runs)])


def test_list_show_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert artefacts(tmp_path, "list") == 0
    assert "No artefacts" in capsys.readouterr().out
    first, second = stored(tmp_path, 1), stored(tmp_path, 2)
    assert artefacts(tmp_path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["kind", "key", "task", "made", "took", "size"]
    assert {line.split()[1] for line in lines[1:]} == {first.key, second.key}
    assert all("2.0 kB" in line for line in lines[1:])
    assert artefacts(tmp_path, "show", first.key[:12]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") : out.rindex("}") + 1]) == first.meta
    assert artefacts(tmp_path, "remove", first.key, "nonsense") == 2
    assert first.path.is_dir(), "a bad key must not lead to half of the work"
    assert artefacts(tmp_path, "remove", first.key, second.key) == 0
    assert not first.path.exists()
    assert not second.path.exists()


def test_show_finds_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = stored(tmp_path, 1)
    (found.path / "weights.bin").write_bytes(b"\x08" * 2000)
    assert artefacts(tmp_path, "show", found.key) == 2
    error = capsys.readouterr().err
    assert "weights.bin" in error
    assert f"alharness artefacts remove {found.key}" in error
    (found.path / "meta.json").write_text("{")
    assert artefacts(tmp_path, "list") == 2
    assert str(found.path) in capsys.readouterr().err
    assert artefacts(tmp_path, "remove", found.key) == 0  # the cure that was named
    assert not found.path.exists()


def test_unfinished_ones_are_shown_and_can_be_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(folder: Path, progress: Progress) -> Mapping[str, Any]:
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ArtefactStore(tmp_path / "artefacts").obtain("thing", {"number": 3}, stop)
    artefacts(tmp_path, "list")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("unfinished: thing ")
    assert artefacts(tmp_path, "remove", line.split()[2]) == 0
    capsys.readouterr()
    artefacts(tmp_path, "list")
    assert "unfinished:" not in capsys.readouterr().out


def test_the_environment_names_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stored(tmp_path / "shared", 1)
    monkeypatch.setenv("ALHARNESS_ARTEFACTS", str(tmp_path / "shared" / "artefacts"))
    assert artefacts(tmp_path / "other", "list") == 0
    assert found.key in capsys.readouterr().out
