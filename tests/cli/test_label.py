"""``alharness label`` from the first command to the file of labels: on the page, with a sheet, in and out."""

from __future__ import annotations

import csv
import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alharness
from alharness import UserError
from alharness.api.labelling import export_labels, import_labels
from alharness.cli import call
from alharness.engine.labelling import LabelSession
from alharness.live.labelling import LabelPage
from alharness.oracle.answers import AnswerFile
from alharness.stopping import named

SMALL = ["--budget", "14", "--query-size", "4", "--initial-size", "6", "--device", "cpu"]
SMALL += ["--set", "learner.kind=linear"]
TINY: dict[str, Any] = {
    "budget": 14,
    "query_size": 4,
    "initial_size": 6,
    "device": "cpu",
    "learner": {"kind": "linear"},
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Thirty pictures without a class: dark ones and light ones, in a folder of their own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        light = 200 if number % 3 == 0 else 40
        values = rng.integers(light - 30, light + 30, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"photo_{number:02d}.png")
    return folder


def class_of(name: str) -> str:
    return "light" if int(re.sub(r"\D", "", name)) % 3 == 0 else "dark"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty rows without a column of classes; one column has commas in it, one the name of ours."""
    path = tmp_path / "rows.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "colour", "label"])
        for size in rng.normal(10, 3, 40):
            writer.writerow([f"{size:.2f}", "red, mostly" if size > 10 else "blue", f"n{size:.0f}"])
    return path


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# with a sheet ----------------------------------------------------------------------------------


def fill(table: Path, answer: Callable[[list[str]], str]) -> None:
    """As a person does it in an editor."""
    lines = table.read_text(encoding="utf-8").splitlines()
    head, body = lines[:3], [next(csv.reader([line])) for line in lines[3:]]
    with table.open("w", encoding="utf-8", newline="") as file:
        file.write("\n".join(head) + "\n")
        csv.writer(file, lineterminator="\n").writerows(
            [cells[0], answer(cells), *cells[2:]] for cells in body
        )


def test_pictures_are_labelled_with_a_sheet_from_first_to_last(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.csv"
    command = ["label", "margin", f"folder:{pictures}", "--classes", "dark,light", "--sheet"]
    command += [*SMALL, "--out", str(out), "--who", "ada", "--runs-dir", str(tmp_path / "runs")]
    for stem in ("initial", "cycle_0000", "cycle_0001"):
        assert call(command) == 0
        told = capsys.readouterr().out
        (table,) = (tmp_path / "runs").rglob(f"{stem}.csv")
        assert str(table) in told
        assert table.with_suffix(".png").is_file()
        fill(table, lambda cells: class_of(cells[2]))
    assert call(command) == 0
    assert "finished: 14 answers" in capsys.readouterr().out
    written = table_of(out)
    assert len({row["file"] for row in written}) == 14
    assert {row["class"] for row in written} == {"dark", "light"}
    assert all(row["class"] == class_of(row["file"]) for row in written)
    assert {(row["who"], row["via"]) for row in written} == {("ada", "sheet")}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]+\+00:00", row["when"]) for row in written)


def test_rows_are_labelled_by_their_cells_and_come_out_by_their_numbers(
    tmp_path: Path, rows: Path
) -> None:
    out = tmp_path / "labels.csv"
    dataset = f"table:{rows}"
    command = ["label", "random", dataset, "--classes", "small,large", "--sheet", *SMALL]
    command += ["--set", "task.target=", "--out", str(out), "--runs-dir", str(tmp_path / "runs")]
    command[command.index("task.target=")] = "task.drop=label"
    texts = table_of(rows)
    for stem in ("initial", "cycle_0000", "cycle_0001"):
        assert call(command) == 0
        (table,) = (tmp_path / "runs").rglob(f"{stem}.csv")
        head = table.read_text(encoding="utf-8").splitlines()[2]
        assert head == "image,label,row,size,colour,label (data)"
        fill(table, lambda cells: "large" if float(cells[3]) > 10 else "small")
    assert call(command) == 0
    written = table_of(out)
    assert len(written) == 14
    for row in written:
        size = float(texts[int(row["row"]) - 1]["size"])
        assert row["class"] == ("large" if size > 10 else "small")


# on the page -----------------------------------------------------------------------------------


class Browser:
    """What a page does, without one."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **headers: str) -> bytes:
        request = urllib.request.Request(self.address + path, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def json(self, path: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.get(path))
        return values

    def post(self, path: str, values: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        given = {"Content-Type": "application/json", **headers}
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        request = urllib.request.Request(self.address + path, data=body, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else {}

    def wait(self, *states: str, other_than: str = "") -> dict[str, Any]:
        """The state, once it is one of these, with another query."""
        for _ in range(1200):
            state = self.json("state.json")
            if state["state"] in states and state["query"] != other_than:
                return state
            time.sleep(0.05)
        pytest.fail(f"the page never came to {states}: {state}")


@pytest.fixture
def opened(tmp_path: Path, pictures: Path) -> Iterator[tuple[Browser, LabelSession]]:
    """A page that asks its first query; the session runs in a thread of the test's."""
    session = alharness.ask(
        "margin", f"folder:{pictures}", classes=["dark", "light"], who="ada",
        runs_dir=tmp_path / "runs", **TINY,
    )  # fmt: skip
    page = LabelPage(session, rules=[named("kappa")])
    running = threading.Thread(target=_ended, args=(page, session), daemon=True)
    running.start()
    browser = Browser(page.server.address)
    browser.wait("asking")
    yield browser, session
    page.stop()
    running.join(30)
    assert not running.is_alive()


def _ended(page: LabelPage, session: LabelSession) -> None:
    try:
        page.run()
    finally:
        session.close()


def test_a_page_asks_until_the_budget_is_spent(
    opened: tuple[Browser, LabelSession], tmp_path: Path
) -> None:
    browser, session = opened
    assert b"<title>alharness: label</title>" in browser.get("")
    state, cycles = browser.json("state.json"), []
    while state["state"] == "asking":
        question = browser.json("question.json")
        cycles.append(question["cycle"])
        assert (question["unit"], question["classes"]) == ("file", ["dark", "light"])
        for number, item in enumerate(question["items"], start=1):
            told = {"query": state["query"], "item": number, "label": class_of(item["name"])}
            status, state = browser.post("tell", told)
            assert status == 200
        assert None not in state["told"]
        assert browser.post("next", {"query": state["query"]})[0] == 200
        state = browser.wait("asking", "finished", other_than=state["query"])
    assert cycles == [-1, 0, 1]
    assert (state["state"], state["asked"], state["curve"]) == ("finished", 14, [])
    assert "kappa" in state["stopping"][0]
    labels = [line.split(",")[:3] for line in export_labels(session.folder.path).splitlines()]
    assert labels[0] == ["file", "class", "who"]
    assert all(name == class_of(file) and who == "ada" for file, name, who in labels[1:])
    assert len(labels) == 15


def test_pictures_are_the_owners_files(
    opened: tuple[Browser, LabelSession], pictures: Path
) -> None:
    browser, _ = opened
    question = browser.json("question.json")
    name = question["items"][2]["name"]
    assert browser.get(f"picture/{question['query']}/3") == (pictures / name).read_bytes()


def test_nothing_is_taken_but_a_class_for_an_item_that_is_asked(
    opened: tuple[Browser, LabelSession],
) -> None:
    browser, session = opened
    query = browser.json("state.json")["query"]
    wrong: list[tuple[Any, str]] = [
        ({"query": query, "item": 7, "label": "dark"}, "from 1 to 6; found 7"),
        ({"query": query, "item": 0, "label": "dark"}, "found 0"),
        ({"query": query, "item": "1", "label": "dark"}, "found '1'"),
        ({"query": query, "item": True, "label": "dark"}, "found True"),
        ({"query": query, "item": 1, "label": "grey"}, "found 'grey'"),
        ({"query": query, "item": 1, "label": "0"}, "found '0'"),
        ({"query": query, "item": 1, "label": ["dark"]}, "found ['dark']"),
        ({"query": "another", "item": 1, "label": "dark"}, "not open any more"),
        ({"item": 1, "label": "dark"}, "not open any more"),
        ([1, "dark"], "Expected an object"),
        (b"{", "Expecting"),
        (b"[" * 100_000, "nested"),
    ]
    for values, message in wrong:
        status, told = browser.post("tell", values)
        assert (status, message in told["error"]) == (400, True), (values, told)
    assert browser.post("next", {"query": query})[0] == 400  # 6 are open
    assert browser.post("undo", {"query": query})[0] == 400
    assert AnswerFile(session.answers).read() == []


def test_an_answer_is_taken_back_and_given_again(opened: tuple[Browser, LabelSession]) -> None:
    browser, session = opened
    query = browser.json("state.json")["query"]
    browser.post("tell", {"query": query, "item": 2, "label": "dark"})
    browser.post("tell", {"query": query, "item": 1, "label": None})
    assert browser.post("undo", {"query": query})[1]["told"][:2] == [None, "dark"]
    browser.post("tell", {"query": query, "item": 2, "label": "light"})
    assert browser.json("state.json")["told"] == [None, "light", None, None, None, None]
    assert len(AnswerFile(session.answers).read()) == 4  # each a line that stays


def refused(browser: Browser, path: str, **headers: str) -> int:
    try:
        browser.get(path, **headers)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def test_nobody_else_is_answered(opened: tuple[Browser, LabelSession]) -> None:
    browser, session = opened
    query = browser.json("state.json")["query"]
    root = re.sub(r"[^/]+/$", "", browser.address)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", root)
    for path in ("", "state.json", f"picture/{query}/1"):
        assert refused(Browser(root), path) == 404
        assert refused(Browser(f"{root}guessed/"), path) == 404
        assert refused(browser, path, Host="evil.example") == 404
    told = {"query": query, "item": 1, "label": "dark"}
    assert Browser(f"{root}guessed/").post("tell", told)[0] == 404
    assert browser.post("tell", told, Host="evil.example")[0] == 404
    assert browser.post("tell", told, Origin="http://evil.example")[0] == 404
    assert (
        browser.post("tell", told, **{"Content-Type": "text/plain"})[0] == 400
    )  # as a form sends it
    assert browser.post("state.json", told)[0] == 404
    host, path = browser.address.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.putrequest("POST", f"/{path}tell")
    connection.putheader("Content-Length", str(1 << 30))  # not read, and no memory for it taken
    connection.endheaders()
    assert connection.getresponse().status == 413
    assert AnswerFile(session.answers).read() == []


@pytest.mark.parametrize(
    "path",
    [
        "../spec.toml",
        "picture/../../spec.toml",
        "picture/QUERY/../../annotations/initial.json",
        "picture/QUERY/0",
        "picture/QUERY/7",
        "picture/QUERY/-1",
        "picture/QUERY/1/..",
        "picture/QUERY/%31",
        "picture/QUERY/\u0661",
        "picture/other/1",
        "label.html",
    ],
)
def test_no_path_leads_to_a_file(opened: tuple[Browser, LabelSession], path: str) -> None:
    browser, _ = opened
    query = browser.json("state.json")["query"]
    assert refused(browser, urllib.parse.quote(path.replace("QUERY", query), safe="/%.")) == 404


# out of a run and into it -----------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path, pictures: Path) -> Iterator[LabelSession]:
    """A session with six items asked and two of them told."""
    session = alharness.ask(
        "margin", f"folder:{pictures}", classes=["dark", "light"], who="ada",
        runs_dir=tmp_path / "runs", **TINY,
    )  # fmt: skip
    with session:
        query = session.next()
        assert query is not None
        session.tell({query.names[0]: class_of(query.names[0]), query.names[1]: None})
        yield session


@pytest.mark.parametrize("form", ["csv", "label-studio"])
def test_what_comes_out_goes_in_again_in_the_same_form(
    tmp_path: Path, asked: LabelSession, form: str
) -> None:
    """Asked here, answered elsewhere: the open items go out, come back answered, and the run goes on."""
    query = asked.asked()
    asked.close()
    run = asked.folder.path
    out = tmp_path / ("tasks.json" if form == "label-studio" else "tasks.csv")
    export_labels(run, out, also_open=True)
    if form == "csv":
        written = table_of(out)
        assert [row["class"] for row in written[:2]] == [class_of(query.names[0]), "skip"]
        for row in written[2:]:
            row |= {
                "class": class_of(row["file"]),
                "who": "bob",
                "when": "2026-11-30T12:00:00+01:00",
            }
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, written[0].keys())
            writer.writeheader()
            writer.writerows(written)
    else:
        tasks = json.loads(out.read_text())
        assert tasks[0]["data"]["image"] == query.names[0]
        assert "annotations" not in tasks[2]
        for task in tasks[2:]:  # as Label Studio exports it
            choices = {"choices": [class_of(task["data"]["file"])]}
            result = {"from_name": "label", "to_name": "image", "type": "choices", "value": choices}
            task["annotations"] = [
                {"result": [result], "completed_by": {"id": 1, "email": "bob"},
                 "created_at": "2026-11-30T11:00:00.000000Z"}
            ]  # fmt: skip
        out.write_text(json.dumps(tasks))
    taken = import_labels(run, out)
    assert (taken.new, taken.known, taken.empty) == (4, 2, 0)
    again = import_labels(run, out)
    assert (again.new, again.known) == (0, 6)
    rows = [line.split(",") for line in export_labels(run).splitlines()[1:]]
    assert [row[2] for row in rows] == ["ada", "ada", "bob", "bob", "bob", "bob"]
    assert {row[3] for row in rows[2:]} == {"2026-11-30T11:00:00+00:00"}
    after = asked.next()
    assert after is not None
    assert after.cycle == 0


def test_json_min_of_label_studio_is_taken(tmp_path: Path, asked: LabelSession) -> None:
    names = asked.asked().names
    asked.close()
    path = tmp_path / "min.json"
    path.write_text(
        json.dumps(
            [{"image": names[3], "file": names[3], "label": "dark", "annotator": 1, "id": 4}]
        )
    )
    assert import_labels(asked.folder.path, path).new == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stranger.png,dark", r"line 3: file stranger.png was not asked about"),
        ("{3},grey", r"line 3: expected dark \(0\), light \(1\) or skip; found 'grey'"),
        ("{2},light", r"line 3: .* has the class 'light' here and another one in .* line 2"),
        ("{3},dark,today", r"expected a date and time"),
        ("{3},dark,,,,5,6,7,8", r"more cells than there are columns"),
    ],
)
def test_one_bad_row_and_nothing_of_the_file_is_taken(
    tmp_path: Path, asked: LabelSession, line: str, message: str
) -> None:
    names = asked.asked().names
    before = AnswerFile(asked.answers).read()
    asked.close()
    path = tmp_path / "labels.csv"
    path.write_text(f"file,class,when\n{names[2]},dark,\n{line.format(*names)}\n")
    with pytest.raises(UserError, match=message):
        import_labels(asked.folder.path, path)
    assert AnswerFile(asked.answers).read() == before


def test_the_answers_of_a_cycle_that_is_over_stand(tmp_path: Path, asked: LabelSession) -> None:
    first = asked.asked().names
    asked.tell(["dark", "light"] * 3)
    second = asked.next()
    assert second is not None
    asked.tell([class_of(name) for name in second.names])
    asked.next()
    assert len(asked.records) == 1
    asked.close()
    path = tmp_path / "labels.csv"
    path.write_text(f"file,class\n{first[0]},light\n")
    with pytest.raises(UserError, match=r"answered otherwise in cycle -1, which is over"):
        import_labels(asked.folder.path, path)
    path.write_text(f"file,class\n{first[0]},dark\n")
    assert import_labels(asked.folder.path, path).known == 1


def test_a_file_is_not_taken_while_a_page_is_open(tmp_path: Path, asked: LabelSession) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"file,class\n{asked.asked().names[0]},dark\n")
    with pytest.raises(UserError, match="Another process is writing this run"):
        import_labels(asked.folder.path, path)


def test_a_run_is_found_by_the_beginning_of_its_key(
    tmp_path: Path, asked: LabelSession, capsys: pytest.CaptureFixture[str]
) -> None:
    key, where = asked.folder.path.name[:6], ["--runs-dir", str(tmp_path / "runs")]
    assert call(["labels", "export", key, *where]) == 0
    assert capsys.readouterr().out.startswith("file,class,who,when,item,cycle,via\n")
    assert call(["labels", "export", "zzz", *where]) == 2
    assert "no run 'zzz' that a person answered" in capsys.readouterr().err
