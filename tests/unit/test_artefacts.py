"""The artefact store: built once, found again, never half, and nothing foreign is believed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from alharness.artefacts import (
    ArtefactStore,
    artefact_key,
    default_store_root,
    write_tensors,
)
from alharness.artefacts.store import META
from alharness.errors import UserError
from alharness.progress import Progress

IDENTITY = {"data": "d1", "recipe": {"lr": 0.1, "steps": 3}, "shape": [1, 2]}


def build(folder: Path, progress: Progress) -> Mapping[str, Any]:
    write_tensors(folder / "w.safetensors", {"w": torch.arange(3.0)})
    (folder / "curve.json").write_text("[1, 2]")
    return {"quality": {"mse": 0.5}}


def must_not_build(folder: Path, progress: Progress) -> Mapping[str, Any]:
    raise AssertionError("built although it was there")


def test_built_once_then_found(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path / "store")
    built = store.obtain("thing", IDENTITY, build)
    assert not built.cached
    found = store.obtain("thing", dict(reversed(IDENTITY.items())), must_not_build)
    assert found.cached
    assert (found.key, found.seconds) == (built.key, built.seconds)
    assert found.details == {"quality": {"mse": 0.5}}
    assert found.identity == IDENTITY
    assert torch.equal(found.tensors("w.safetensors")["w"], torch.arange(3.0))
    assert sorted(path.name for path in found.path.iterdir()) == [
        "curve.json",
        META,
        "w.safetensors",
    ]
    assert found.size_bytes == sum(
        (found.path / name).stat().st_size for name in ("curve.json", "w.safetensors")
    )
    assert found.meta["versions"]["torch"] == torch.__version__


def test_all_files_are_as_readable_as_the_users_other_files(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    before = os.umask(0o027)
    try:
        path = store.obtain("thing", IDENTITY, build).path
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o640}


def test_the_key_names_all_of_the_identity() -> None:
    key = artefact_key("thing", IDENTITY)
    assert len(key) == 16
    assert key != artefact_key("other", IDENTITY)
    changed = {**IDENTITY, "recipe": {"lr": 0.1, "steps": 4}}
    assert key != artefact_key("thing", changed)


def test_a_failed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)

    def fail(folder: Path, progress: Progress) -> Mapping[str, Any]:
        (folder / "checkpoint").write_text("half")
        raise RuntimeError("out of power")

    with pytest.raises(RuntimeError):
        store.obtain("thing", IDENTITY, fail)
    assert store.finished() == []
    assert [path.name for path in store.unfinished()] == [
        artefact_key("thing", IDENTITY) + ".partial"
    ]

    def resume(folder: Path, progress: Progress) -> Mapping[str, Any]:
        assert (folder / "checkpoint").read_text() == "half"
        (folder / "checkpoint").unlink()
        return build(folder, progress)

    assert not store.obtain("thing", IDENTITY, resume).cached
    assert store.unfinished() == []


def build_slowly(root: str, marker: str, release: str) -> None:
    """Once it is let."""

    def slow(folder: Path, progress: Progress) -> Mapping[str, Any]:
        with Path(marker).open("a") as file:
            file.write("built\n")
        while not Path(release).exists():
            time.sleep(0.02)
        return build(folder, progress)

    ArtefactStore(Path(root)).obtain("thing", IDENTITY, slow)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_build_once(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "store"), str(marker), str(tmp_path / "release"))
    processes = [context.Process(target=build_slowly, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    await_file(marker)
    time.sleep(0.2)  # for the others to come, if they are quick
    (tmp_path / "release").touch()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert marker.read_text() == "built\n"


def build_until_killed(root: str) -> None:
    def endless(folder: Path, progress: Progress) -> Mapping[str, Any]:
        (folder / "checkpoint").write_text("as far as it came")
        for step in range(1000):
            time.sleep(0.3)
            progress("work", step, 1000)
        return {}

    ArtefactStore(Path(root)).obtain("thing", IDENTITY, endless)


def test_kill_9_frees_the_lock_and_keeps_checkpoint_and_seconds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=build_until_killed, args=(str(tmp_path),))
    process.start()
    partial = tmp_path / "thing" / (artefact_key("thing", IDENTITY) + ".partial")
    await_file(partial / "spent")
    store = ArtefactStore(tmp_path)
    with pytest.raises(UserError, match="being made by a run"):
        store.remove("thing", artefact_key("thing", IDENTITY))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)

    def resume(folder: Path, progress: Progress) -> Mapping[str, Any]:
        assert (folder / "checkpoint").read_text() == "as far as it came"
        return build(folder, progress)

    assert store.obtain("thing", IDENTITY, resume).seconds >= 1.0


def harmed(path: Path) -> None:
    """The last byte of a file is another one."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["w.safetensors", "curve.json", META])
@pytest.mark.parametrize("harm", [harmed, Path.unlink])
def test_a_damaged_artefact_is_named_set_aside_and_made_anew(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    store = ArtefactStore(tmp_path)
    made = store.obtain("thing", IDENTITY, build)
    harm(made.path / name)
    with pytest.raises(UserError, match=name):
        store.load("thing", made.key)
    told: list[str] = []
    again = store.obtain("thing", IDENTITY, build, lambda stage, *rest: told.append(stage))
    assert not again.cached
    assert name in told[0]
    assert "made anew" in told[0]
    assert store.load("thing", made.key).meta["files"] == made.meta["files"]
    assert made.path.with_name(f"{made.key}.damaged").is_dir()
    assert [artefact.key for artefact in store.finished()] == [made.key]
    assert store.find(made.key[:6]).key == made.key


def test_no_turned_bit_in_a_meta_goes_unseen(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    made = store.obtain("thing", IDENTITY, build)
    content = (made.path / META).read_bytes()
    for at in range(0, len(content), 3):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        (made.path / META).write_bytes(bytes(changed))
        with pytest.raises(UserError, match=META):
            store.load("thing", made.key)


def test_a_foreign_folder_is_no_artefact(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    artefact = store.obtain("thing", IDENTITY, build)
    other = {**IDENTITY, "data": "d2"}
    artefact.path.rename(artefact.path.with_name(artefact_key("thing", other)))
    with pytest.raises(UserError, match="foreign"):
        store.load("thing", artefact_key("thing", other))
    assert not store.obtain("thing", other, build).cached


def test_a_meta_of_another_format_is_refused_and_kept(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    meta = store.obtain("thing", IDENTITY, build).path / META
    content = json.loads(meta.read_text())
    del content["sealed"], content["sha256"]  # as version 0.1.0 wrote it
    meta.write_text(json.dumps(content))
    assert store.obtain("thing", IDENTITY, must_not_build).cached
    meta.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(UserError, match="has format 99"):
        store.obtain("thing", IDENTITY, must_not_build)


def test_find_by_prefix_and_remove(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    keys = [store.obtain("thing", {"n": n}, build).key for n in range(20)]
    assert store.find(keys[3][:10]).key == keys[3]
    with pytest.raises(UserError, match="fits several"):
        store.find("")
    store.remove("thing", keys[3])
    with pytest.raises(UserError, match=f"No artefact '{keys[3]}'"):
        store.find(keys[3])
    assert len(store.finished()) == 19


def test_an_artefact_is_taken_elsewhere_by_copying_its_folder(tmp_path: Path) -> None:
    here, there = ArtefactStore(tmp_path / "here"), ArtefactStore(tmp_path / "there")
    artefact = here.obtain("thing", IDENTITY, build)
    copied = shutil.copytree(artefact.path, there.root / "thing" / artefact.key)
    assert there.obtain("thing", IDENTITY, must_not_build).meta == artefact.meta
    (copied / "w.safetensors").write_bytes(b"cut on the way")
    with pytest.raises(UserError, match=r"w\.safetensors"):
        there.load("thing", artefact.key)


def test_the_root_follows_option_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_store_root(tmp_path) == tmp_path / "artefacts"
    monkeypatch.setenv("ALHARNESS_ARTEFACTS", str(tmp_path / "shared"))
    assert default_store_root(tmp_path) == tmp_path / "shared"


def test_waiting_for_another_run_is_shown(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    release = tmp_path / "release"
    arguments = (str(tmp_path / "store"), str(tmp_path / "marker"), str(release))
    process = context.Process(target=build_slowly, args=arguments)
    process.start()
    await_file(tmp_path / "marker")
    seen: list[str] = []

    def shown(stage: str, *rest: object) -> None:
        seen.append(stage)
        release.touch()

    ArtefactStore(tmp_path / "store").obtain("thing", IDENTITY, must_not_build, shown)
    process.join(300)
    assert seen == ["wait for the thing that another run is making"]
