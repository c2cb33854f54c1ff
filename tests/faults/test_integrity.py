"""Files of a run that are not what was written are refused by name; none changes a figure unseen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from alharness.engine.places import Places
from alharness.engine.proof import proved_log
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.files import read_sealed, write_sealed
from alharness.records import QueryLog, RunFolder, read_records
from alharness.spec import RunSpec, resolve
from alharness.tasks.base import DataLocations

#: How many bits are turned: ``ALHARNESS_FLIPS=3000 pytest tests/faults/test_integrity.py`` for all.
N_FLIPS = int(os.environ.get("ALHARNESS_FLIPS", "150"))


def spec_of(seed: int = 0) -> RunSpec:
    return resolve(
        {
            "task": "digits-two",
            "strategy": "max-entropy",
            "device": "cpu",
            "seed": seed,
            "budget": 30,
            "query_size": 5,
            "initial_size": 15,
        }
    )


def places(root: Path) -> Places:
    return Places(root, DataLocations.resolve(), None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, a stopped one, and a finished one of another seed."""
    root = tmp_path_factory.mktemp("integrity")
    execute(spec_of(), places(root / "finished"))
    execute(spec_of(), places(root / "stopped"), max_cycles=2)
    execute(spec_of(seed=1), places(root / "other"))
    return {
        name: spec_of(seed=int(name == "other")).folder(root / name)
        for name in ("finished", "stopped", "other")
    }


def copied(folder: Path, root: Path) -> RunFolder:
    """The same run, to be damaged."""
    target = root / Path(*folder.parts[-3:])
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    return RunFolder(target)


def flips(content: bytes, seed: int) -> list[bytes]:
    """Copies with one bit turned each."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(N_FLIPS):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        found.append(bytes(changed))
    return found


def silent(read: Callable[[], object], expected: object) -> bool:
    """Whether other content came back without a word."""
    try:
        return read() != expected
    except UserError:
        return False


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_no_turned_bit_in_the_records_goes_unseen(
    made: dict[str, Path], name: str, tmp_path: Path
) -> None:
    folder = copied(made[name], tmp_path)
    content, expected = folder.cycles.read_bytes(), folder.records()
    for changed in flips(content, 1):
        folder.cycles.write_bytes(changed)
        with pytest.raises(UserError, match=r"cycles\.jsonl' line \d+ .*damaged"):
            folder.records()
    folder.cycles.write_bytes(content)
    assert folder.records() == expected


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_no_turned_bit_in_what_was_asked_changes_anything(
    made: dict[str, Path], name: str, tmp_path: Path
) -> None:
    folder = copied(made[name], tmp_path)
    records = read_records(folder.cycles)
    content = folder.queries.read_bytes()

    def rows() -> str:
        return proved_log(folder, folder.records()).digest(*range(-1, len(records)))

    expected = rows()
    seen = 0
    for changed in flips(content, 2):
        folder.queries.write_bytes(changed)
        assert not silent(rows, expected)
        with suppress(UserError):
            rows()
            continue
        seen += 1
    if name == "finished":
        assert seen == N_FLIPS  # the last record proves the whole file


def test_no_turned_bit_in_the_environment_goes_unseen(
    made: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(made["stopped"], tmp_path)
    expected = folder.facts()
    for changed in flips(folder.env.read_bytes(), 3):
        folder.env.write_bytes(changed)
        assert not silent(folder.facts, expected)


def _empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path, other: Path) -> None:
    path.write_bytes((other / path.name).read_bytes())


def _shortened(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\n", 0, len(content) * 2 // 3) + 1])


def _gone(path: Path, other: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("name", ["spec.toml", "env.json", "queries.npz"])
@pytest.mark.parametrize("harm", [_empty, _foreign, _shortened, _gone])
def test_a_finished_run_with_a_wrong_file_is_no_result(
    made: dict[str, Path], tmp_path: Path, name: str, harm: Callable[[Path, Path], None]
) -> None:
    folder = copied(made["finished"], tmp_path)
    harm(folder.path / name, made["other"])
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        folder.records()
    # A sound spec of another run is told as what it is, before the file's checksum is asked.
    another = harm is _foreign and name == "spec.toml"
    told = "holds another run than its name says" if another else name.replace(".", r"\.")
    with pytest.raises(UserError, match=told):
        execute(spec_of(), places(tmp_path))


def test_foreign_records_do_not_pass_for_a_runs_own(made: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(made["finished"], tmp_path)
    _foreign(folder.cycles, made["other"])
    with pytest.raises(UserError, match="is not what it was when the run ended"):
        folder.records()


def test_lines_that_are_missing_at_the_end_are_missed(
    made: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(made["finished"], tmp_path)
    lines = folder.cycles.read_bytes().splitlines(keepends=True)
    folder.cycles.write_bytes(b"".join(lines[:1]))
    with pytest.raises(UserError, match=r"lines of cycles\.jsonl are missing"):
        execute(spec_of(), places(tmp_path))


def _of_another_seed(log: QueryLog, other: QueryLog) -> QueryLog:
    return other


def _one_target(log: QueryLog, other: QueryLog) -> QueryLog:
    log._rows["targets"][0][3] = 1 - log._rows["targets"][0][3]
    return log


def _exchanged(log: QueryLog, other: QueryLog) -> QueryLog:
    indices = log._rows["indices"][0]
    indices[[2, 17]] = indices[[17, 2]]
    return log


@pytest.mark.parametrize("old", [False, True], ids=["with checksums", "from 0.1.0"])
@pytest.mark.parametrize("change", [_of_another_seed, _one_target, _exchanged])
def test_a_stopped_run_does_not_go_on_from_other_rows(
    made: dict[str, Path], tmp_path: Path, change: Callable[..., QueryLog], old: bool
) -> None:
    folder = copied(made["stopped"], tmp_path)
    if old:
        _without_checksums(folder)
    other = QueryLog.read(made["other"] / "queries.npz").before(2)
    before = folder.cycles.read_bytes()
    change(QueryLog.read(folder.queries), other).write(folder.queries)
    with pytest.raises(UserError, match=r"queries\.npz"):
        execute(spec_of(), places(tmp_path))
    assert folder.cycles.read_bytes() == before


def _without_checksums(folder: RunFolder) -> None:
    """As version 0.1.0 wrote it."""
    lines = []
    for line in folder.cycles.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        for name in ("chain", "rows", "files"):
            values.pop(name, None)
        lines.append(json.dumps(values, separators=(",", ":")) + "\n")
    folder.cycles.write_text("".join(lines), encoding="utf-8")
    values = folder.facts().as_written()
    folder.env.write_text(json.dumps(values, indent=2), encoding="utf-8")


def test_a_run_from_before_checksums_is_read_told_apart_and_continued(
    made: dict[str, Path], tmp_path: Path
) -> None:
    whole = RunFolder(made["finished"]).records()
    folder = copied(made["stopped"], tmp_path)
    _without_checksums(folder)
    assert not folder.is_proven(folder.records())
    execute(spec_of(), places(tmp_path))
    records = folder.records()

    def figures(record: object) -> dict[str, object]:
        values = record.without_times()  # type: ignore[attr-defined]
        values.pop("rows")
        return values

    assert [figures(record) for record in records] == [figures(record) for record in whole]
    assert not folder.is_proven(records)
    assert RunFolder(made["finished"]).is_proven(whole)
    # The chain covers the old lines from the first new one on.
    content = folder.cycles.read_bytes()
    folder.cycles.write_bytes(content.replace(b'"n_labelled":15', b'"n_labelled":14', 1))
    with pytest.raises(UserError, match="does not agree with its checksum"):
        folder.records()


def test_a_sealed_file_says_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    value = {"a": 1, "text": 'ü, "sha256": 3', "nested": {"b": [1, 2.5, None]}}
    write_sealed(path, value)
    assert read_sealed(path, "") == value
    content = path.read_bytes()
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            path.write_bytes(bytes(changed))
            with pytest.raises(UserError, match="damaged"):
                read_sealed(path, "Restore it.")
