"""A labelling session that dies at its writes, again and again: no answer that was taken is ever lost."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from alharness.oracle.answers import AnswerFile, standing
from alharness.records import run_folders

COMMAND = "label max-entropy digits-two --initial-size 20 --query-size 4 --budget 28 --device cpu"
COMMAND += " --quiet --set learner.kind=linear --who ada"


def class_of(name: str) -> str:
    """What the person answers: always the same to the same item."""
    return "5" if int(name) % 3 else "7"


class GoneError(Exception):
    """The process is not there any more."""


def ask(address: str, path: str, values: Any = None) -> dict[str, Any]:
    body = None if values is None else json.dumps(values).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(address + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except (OSError, HTTPException, ValueError) as error:
        raise GoneError from error


def address_of(child: Any) -> str:
    """Where its page is, once it has said so."""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+/", child.printed)):
        if child.wait(0.02) is not None:
            raise GoneError
    return found[0]


def answer_all(child: Any, taken: dict[tuple[str, int], str]) -> None:
    """Answer whatever the page asks until it says that it has finished; keep what it said it took."""
    address = address_of(child)
    while True:
        state = ask(address, "state.json")
        if state["state"] == "finished":
            return
        if state["state"] == "working":
            time.sleep(0.02)
            continue
        question = ask(address, "question.json")
        for number, item in enumerate(question["items"], start=1):
            if state["told"][number - 1] is None:
                label = class_of(item["name"])
                told = {"query": question["query"], "item": number, "label": label}
                ask(address, "tell", told)
                taken[question["query"], number] = label
        ask(address, "next", {"query": question["query"]})


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_page_that_dies_at_its_writes_loses_no_answer(
    nursery: Any, step: int, tmp_path: Path
) -> None:
    """Each life of the command lives for more writes; what the page said that it took is always there."""

    def life(root: Path, deadly: bool) -> list[dict[str, Any]]:
        command = [*COMMAND.split(), "--runs-dir", str(root), "--out", str(root / "labels.csv")]
        taken: dict[tuple[str, int], str] = {}
        death = 1 if deadly else 0
        while True:
            child = nursery.start(command, root, death=death)
            while (code := child.wait(0.02)) is None:
                with suppress(GoneError):  # or a request that a busy page refused: asked again
                    answer_all(child, taken)
            answers = [a for folder in root.rglob("annotations") for a in AnswerFile(folder).read()]
            for (query, item), label in taken.items():
                assert standing(answers, query)[item].label == label
            if code == 0:
                break
            assert code == -signal.SIGKILL, child.printed
            death += step
        assert len((root / "labels.csv").read_text().splitlines()) == 1 + len(taken) == 9
        (folder,) = run_folders(root)
        return [record.without_times() for record in folder.records()]

    assert life(tmp_path / "deadly", True) == life(tmp_path / "calm", False)
