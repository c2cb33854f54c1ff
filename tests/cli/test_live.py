"""The live page: what it tells of runs that are made, fail or end, and whom it answers."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from alharness.errors import UserError
from alharness.live.server import LocalServer
from alharness.live.watch import Watched, page, watched
from alharness.records import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alharness.cli import call

    root = tmp_path_factory.mktemp("live")
    small = [
        "--budget",
        "40",
        "--query-size",
        "10",
        "--no-tracking",
        "--quiet",
        "--runs-dir",
        str(root),
    ]
    for strategy in ("random", "margin"):
        assert call(["run", strategy, "digits-two", *small]) == 0
    return root


def cut(folder: Path, n: int) -> bytes:
    """Leave ``n`` cycles of a run; returns its whole file."""
    path = folder / "cycles.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:n]))
    return whole


def test_every_curve_and_state_is_there(runs: Path) -> None:
    values = watched(runs).values()
    assert values["counts"] == {"finished": 2}
    margin = next(run for run in values["runs"] if run["strategy"] == "margin")
    records = RunFolder(next((runs / "digits-two" / "margin").iterdir())).records()
    assert margin["x"] == [record.n_asked for record in records]
    assert margin["y"]["accuracy"] == [round(record.test.accuracy, 6) for record in records]
    assert (margin["asked"], margin["budget"], margin["left_s"]) == (40, 40, None)
    json.dumps(values, allow_nan=False)


def test_a_run_that_is_being_made_says_how_long_it_will_take(runs: Path) -> None:
    seen = watched(runs)
    folder = next((runs / "digits-two" / "margin").iterdir())
    whole = cut(folder, 2)
    try:
        (run,) = (run for run in seen.values()["runs"] if run["strategy"] == "margin")
        assert run["state"] == "running"
        first, second = RunFolder(folder).records()
        pace = (second.ts_ms - first.ts_ms) / 1000 / (second.n_asked - first.n_asked)
        assert run["left_s"] == pytest.approx((40 - second.n_asked) * pace, abs=0.1)
    finally:
        (folder / "cycles.jsonl").write_bytes(whole)
    assert seen.values()["counts"] == {"finished": 2}  # what changed is read again


def test_a_failure_is_told_with_its_reason(runs: Path) -> None:
    folder = RunFolder(next((runs / "digits-two" / "random").iterdir()))
    whole = cut(folder.path, 1)
    folder.write_failure("the disk is full")
    try:
        (run,) = (run for run in watched(runs).values()["runs"] if run["strategy"] == "random")
        assert (run["state"], run["why"]) == ("failed", "the disk is full")
    finally:
        folder.write_failure(None)
        (folder.path / "cycles.jsonl").write_bytes(whole)


def test_what_did_not_change_is_not_read_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(runs)
    seen.values()
    monkeypatch.setattr("alharness.live.watch.read_or_mark", lambda path: pytest.fail("read again"))
    seen.values()


def test_no_two_strategies_have_one_colour(runs: Path) -> None:
    colours = Watched(runs).values()["colours"]
    assert len(set(colours.values())) == len(colours)


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs"):
        watched(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        watched(tmp_path / "absent")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    made = LocalServer({"": page, "runs.json": lambda: {"a": 1}})
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.close()
    thread.join()


def get(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_the_page_and_its_values_are_served(server: LocalServer) -> None:
    assert "<title>alharness: runs</title>" in get(server.address)[1]
    assert json.loads(get(server.address + "runs.json")[1]) == {"a": 1}


def test_nobody_else_is_answered(server: LocalServer) -> None:
    root = server.address.removesuffix(f"{server.token}/")
    for address in (
        root,
        f"{root}wrong/",
        f"{root}wrong/runs.json",
        f"{server.address}../etc/passwd",
    ):
        assert get(address)[0] == 404
    assert get(server.address, Host="evil.example")[0] == 404  # a name that points at this machine


def test_a_port_that_is_taken_is_one_line(server: LocalServer) -> None:
    port = int(server.address.split(":")[2].split("/")[0])
    with pytest.raises(UserError, match="Try another --port"):
        LocalServer({"": page}, port=port)
