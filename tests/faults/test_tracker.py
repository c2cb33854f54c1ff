"""A tracking server that is absent, refuses, dawdles or dies: the run goes on and says so once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from alharness.cli import call
from alharness.records import run_folders
from alharness.tracking import open_tracking, visits

RUN = ["run", "--dataset", "digits-two", "--strategy", "random", "--device", "cpu"]
RUN += ["--budget", "60", "--query-size", "10", "--initial-size", "20", "--quiet"]


class Stub(ThreadingHTTPServer):
    """As much of an MLflow server as a run asks for.

    Args:
        answer_s: how long every answer takes.
        dies_after: answers, after which only errors come; None for never.
    """

    daemon_threads = True

    def __init__(
        self, artefacts: Path, answer_s: float = 0.0, dies_after: int | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.artefacts, self.answer_s, self.dies_after = artefacts, answer_s, dies_after
        self.asked: Counter[str] = Counter()
        self.points: list[tuple[str, int]] = []
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, sent: bytes) -> None:
        call = self.path.split("?")[0].removeprefix("/api/2.0/mlflow/")
        self.server.asked[call] += 1
        time.sleep(self.server.answer_s)
        asked = sum(self.server.asked.values())
        if self.server.dies_after is not None and asked > self.server.dies_after:
            return self._send(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "gone"})
        info = {"run_id": "r" * 32, "experiment_id": "7", "status": "RUNNING"}
        info |= {"artifact_uri": str(self.server.artefacts), "lifecycle_stage": "active"}
        experiment = {"experiment_id": "7", "name": "alharness", "lifecycle_stage": "active"}
        for metric in json.loads(sent or b"{}").get("metrics", []):
            self.server.points.append((metric["key"], metric["step"]))
        return self._send(
            200,
            {
                "experiments/get-by-name": {"experiment": experiment},
                "runs/create": {"run": {"info": info, "data": {}}},
                "runs/get": {"run": {"info": info, "data": {}}},
                "runs/update": {"run_info": info},
            }.get(call, {}),
        )

    def _send(self, code: int, value: Any) -> None:
        with suppress(BrokenPipeError):  # who asked has given up
            self._write(code, json.dumps(value).encode())

    def _write(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    thread = threading.Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers has answered, however busy this machine is."""
    monkeypatch.setattr(visits, "PATIENCE_S", 120.0)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a visit may wait for its store, made short for the test."""
    monkeypatch.setattr(visits, "PATIENCE_S", 2.0)
    monkeypatch.setattr(visits, "PER_RUN_S", 0.0)


def run(uri: str, capfd: pytest.CaptureFixture[str], runs: Path) -> list[str]:
    """What a run said on standard error; whatever the server does, it is finished and whole."""
    assert call([*RUN, "--runs-dir", str(runs), "--tracking-uri", uri]) == 0
    (folder,) = run_folders(runs)
    assert folder.is_finished()
    assert len(folder.records()) == 5
    return capfd.readouterr().err.splitlines()


def test_a_server_that_answers_gets_every_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(Stub(tmp_path / "artefacts")) as stub:
        assert call([*RUN, "--runs-dir", str(tmp_path / "runs"), "--tracking-uri", stub.uri]) == 0
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", ""), "MLflow would print the run's address"
    steps = sorted(step for key, step in stub.points if key == "accuracy")
    assert steps == [20, 30, 40, 50, 60]


@pytest.mark.usefixtures("visits_here")  # the visit's own process is told of above and below
def test_an_absent_server_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    (line,) = run(uri, capfd, tmp_path / "runs")
    assert "does not answer (refused)" in line
    assert "The run goes on without MLflow" in line
    assert "'alharness sync' rebuilds the view" in line


@pytest.mark.usefixtures("hurried")
def test_a_server_too_slow_for_a_visit_is_given_up_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each answer comes, and all together take too long; whoever waits for them is ended."""
    of_others = set(children())  # of tests before this one
    with serving(Stub(tmp_path / "artefacts", answer_s=0.6)) as stub:
        (line,) = run(stub.uri, capfd, tmp_path / "runs")
    assert "took too long: no answer within 2 s" in line
    assert eventually(
        lambda: (
            not any("-m alharness.tracking" in told(child) for child in {*children()} - of_others)
        )
    )


def told(process: psutil.Process) -> str:
    """Its command; nothing of one that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something holds, now or soon: a process that was ended is there for a moment more."""
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def children() -> list[psutil.Process]:
    """What this process started and has not ended."""
    return psutil.Process().children(recursive=True)


@pytest.mark.usefixtures("visits_here")  # the visit's own process is told of above and below
def test_a_server_that_dies_in_the_middle_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(Stub(tmp_path / "artefacts", dies_after=4)) as stub:
        (line,) = run(stub.uri, capfd, tmp_path / "runs")
    assert "The run goes on without MLflow" in line


def test_without_an_mlflow_that_imports_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('another SQLAlchemy')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the process that makes the visit
    assert call([*RUN, "--runs-dir", str(tmp_path / "runs")]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert "MLflow cannot be imported" in line
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert call(["sync", "--runs-dir", str(tmp_path / "runs")]) == 2
    assert "pip install -U mlflow" in capfd.readouterr().err


SLOW_PLUGIN = '''
import time
from alharness.strategy import PoolQuery, Strategy


class Slow(Strategy):
    """Asks for the first items, with time for a server to be killed in."""

    def select(self, view, query_size):
        time.sleep(1.0)
        return PoolQuery(view.unlabelled[:query_size])
'''


@pytest.mark.slow
def test_a_real_server_killed_in_the_middle_is_told_once_and_sync_catches_up(
    place_store: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", place_store(tmp_path / "served")]
    store += ["--default-artifact-root", str(tmp_path / "served" / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    uri = f"http://127.0.0.1:{port}"

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*command, "--port", str(port), *store],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return process
            time.sleep(0.2)
        raise AssertionError("mlflow server does not start")

    (tmp_path / "slow.py").write_text(SLOW_PLUGIN)
    arguments = [*RUN, "--strategy", f"{tmp_path}/slow.py:Slow", "--runs-dir", str(tmp_path / "r")]
    monkeypatch.setattr(visits, "FIRST_S", 0.0)  # a visit after each cycle
    server = start()
    killer = threading.Timer(3.0, lambda: os.killpg(server.pid, signal.SIGKILL))
    killer.start()
    assert call([*arguments, "--tracking-uri", uri]) == 0
    server.wait()
    (line,) = capfd.readouterr().err.splitlines()
    assert "The run goes on without MLflow" in line
    (folder,) = run_folders(tmp_path / "r")
    assert folder.is_finished()

    server = start()
    try:
        assert call(["sync", "--runs-dir", str(tmp_path / "r"), "--tracking-uri", uri]) == 0
        tracking = open_tracking(uri)
        (shown,) = tracking.client.search_runs([tracking.experiment_id])
        points = tracking.client.get_metric_history(shown.info.run_id, "accuracy")
        assert [point.step for point in points] == [20, 30, 40, 50, 60]
        assert shown.info.status == "FINISHED"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
