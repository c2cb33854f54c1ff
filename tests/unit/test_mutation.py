"""``tox -e mutate``: what it changes, which tests it asks, and what it says of them."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="the mutation run needs cosmic-ray: the extra 'dev'")
ROOT = Path(__file__).parents[2]

TOY = '''
"""A module."""

from typing import Literal

def clipped(value: int, most: int = 3, kind: Literal[7] = 7) -> int | None:
    """At most so much."""
    if value > most:
        return min(value, most)
    if value < 0:
        raise ValueError(value + 1)
    return value


def called() -> int | None:
    return clipped(5, most=4)
'''


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of the tool, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    names = ("places", "hits", "trials", "report")
    found: dict[str, ModuleType] = {
        name: importlib.import_module(f"mutation.{name}") for name in names
    }
    return SimpleNamespace(**found)


@pytest.fixture
def toy(tool: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one room of one module, and its tests."""
    root = tmp_path / "tree"
    (root / "toy").mkdir(parents=True)
    (root / "toy" / "clips.py").write_text(TOY)
    monkeypatch.setattr(tool.places, "ROOT", root)
    monkeypatch.setattr(tool.report, "ROOT", root)
    monkeypatch.setattr(tool.places, "ROOMS", {"toy": "toy"})
    monkeypatch.setattr(tool.report, "ROOMS", {"toy": "toy"})
    monkeypatch.syspath_prepend(str(root / "toy"))
    return root


def changes(tool: SimpleNamespace) -> set[tuple[str, str]]:
    drawn = tool.places.sample(100, 0, ["toy"])
    return {(place.before, place.after) for place in drawn}


def test_each_kind_of_mistake_is_made_and_none_in_texts_and_types(
    tool: SimpleNamespace, toy: Path
) -> None:
    found = {
        (before, after.replace("  ", " ").replace("= ", "=")) for before, after in changes(tool)
    }
    assert ("if value > most:", "if value >=most:") in found
    assert ("return min(value, most)", "return max(value, most)") in found
    assert ("return clipped(5, most=4)", "return clipped(5,)") in found
    assert ("return clipped(5, most=4)", "return clipped( 6, most=4)") in found
    assert ("if value < 0:", "if not value < 0:") in found
    assert not [before for before, _ in found if before.startswith("raise")]
    declared = "def clipped(value: int, most: int = {}, kind: Literal[7] = {}) -> int | None:"
    changed = {
        after.replace(" ", "") for before, after in found if before.startswith("def clipped")
    }
    wanted = [(2, 7), (4, 7), (3, 6), (3, 8)]
    assert changed == {declared.format(*numbers).replace(" ", "") for numbers in wanted}


def test_a_seed_draws_the_same_of_every_room(
    tool: SimpleNamespace, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = {"toy": "toy", "other": "toy"}
    monkeypatch.setattr(tool.places, "ROOMS", rooms)
    one, again, two = (tool.places.sample(6, seed, list(rooms)) for seed in (1, 1, 2))
    assert one == again
    assert one != two
    assert [place.room for place in one] == ["toy", "other"] * 3
    assert len({place.family for place in one[::2]}) == 3


def test_every_room_is_a_folder_of_code(tool: SimpleNamespace) -> None:
    assert all(any((ROOT / folder).rglob("*.py")) for folder in tool.places.ROOMS.values())


def test_blocks_are_found_by_their_lines(tool: SimpleNamespace) -> None:
    lines = TOY.splitlines()
    inside = {
        text: tool.hits.block_of(TOY, lines.index(text) + 1)
        for text in ("    if value > most:", "        return min(value, most)", "    return value")
    }
    assert inside["    if value > most:"] == inside["    return value"]
    assert inside["        return min(value, most)"] != inside["    return value"]
    assert tool.hits.block_of(TOY, 2) == 0


def test_a_test_is_told_by_the_blocks_it_passes_in_a_fork_too(
    tool: SimpleNamespace, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = tool.hits.Counting(toy, ["toy"])
    path = str(toy / "toy" / "clips.py")
    names: dict[str, Any] = {}
    exec(tool.hits.counted(TOY, path, counting.starts[path]), names)
    counting.take()
    assert names["clipped"](5) == 3
    above = counting.take()
    child = os.fork()
    if child == 0:
        names["clipped"](2)
        os._exit(0)
    os.waitpid(child, 0)
    below = counting.take()
    assert set(above) & set(below)
    at = TOY.splitlines().index("        return min(value, most)") + 1
    assert set(above) - set(below) == {tool.hits.block_of(TOY, at)}


def place(tool: SimpleNamespace, before: str, after: str) -> Any:
    found = tool.places.sample(100, 0, ["toy"])
    return next(p for p in found if p.before == before and p.after.replace(" ", "") == after)


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("assert clipped(5) == 3", "noticed"),
        ("while clipped(5) == 5: pass", "did not end"),
    ],
)
def test_a_mutant_is_noticed_by_a_test_that_fails(
    tool: SimpleNamespace, toy: Path, monkeypatch: pytest.MonkeyPatch, test: str, outcome: str
) -> None:
    write_tests(toy, test)
    monkeypatch.chdir(toy)
    wrong = place(tool, "return min(value, most)", "returnmax(value,most)")
    passing = [tool.trials.Passing("test_clips.py::test_0", 0.1)]
    monkeypatch.setattr(tool.trials, "SHORTEST_S", 3)
    by = "test_clips.py::test_0" if outcome == "noticed" else ""
    assert tool.trials.trial(toy, wrong, passing) == (outcome, by)
    assert (toy / "toy" / "clips.py").read_text() == TOY


def write_tests(toy: Path, *tests: str) -> None:
    lines = [
        f"def test_{i}():\n    from clips import clipped\n    {test}\n"
        for i, test in enumerate(tests)
    ]
    (toy / "test_clips.py").write_text("\n".join(lines))


def test_tests_are_collected_once_and_each_mutant_meets_its_own(
    tool: SimpleNamespace, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One survives between two that are noticed, and the function is as before for each."""
    write_tests(toy, "assert clipped(5) == 3", "assert clipped(3) == 3")
    monkeypatch.chdir(toy)
    monkeypatch.setattr(tool.trials, "import_all", lambda: importlib.import_module("clips"))
    tests = [tool.trials.Passing(f"test_clips.py::test_{i}", 0.1) for i in range(2)]
    drawn = [
        place(tool, "return min(value, most)", "returnmax(value,most)"),
        place(tool, "if value < 0:", "ifvalue<1:"),
        place(tool, "if value > most:", "ifvalue>=most:"),
        place(tool, "if value > most:", "ifnotvalue>most:"),
    ]
    known = {(each.file, tool.hits.block_of(TOY, each.line)): tests for each in drawn}
    found = list(tool.trials.trials(toy, drawn, known, 10))
    assert [(entry["outcome"], entry["by"]) for entry in found] == [
        ("noticed", "test_clips.py::test_0"),
        ("survived", ""),
        ("survived", ""),
        ("noticed", "test_clips.py::test_0"),
    ]
    assert "clips" not in sys.modules
    known = {key: [tool.trials.Passing("test_clips.py::test_9", 0.1)] for key in known}
    with pytest.raises(RuntimeError):
        list(tool.trials.trials(toy, drawn[:1], known, 10))


def test_what_runs_at_the_import_is_not_changed_in_place(tool: SimpleNamespace, toy: Path) -> None:
    def changed(before: str, after: str) -> set[str] | None:
        text = TOY.replace(before, after)
        assert text != TOY
        found = tool.trials.changed_functions(TOY, text, "clips.py")
        return None if found is None else {code.co_name for code in found}

    assert changed("value > most", "value >= most") == {"clipped"}
    assert changed("clipped(5, most=4)", "clipped(5)") == {"called"}
    assert changed("most: int = 3", "most: int = 2") is None
    assert changed("A module", "Some module") is None


def test_tests_named_after_the_module_are_asked_first_and_no_more_than_the_budget(
    tool: SimpleNamespace,
) -> None:
    quick, slow, dear = (
        tool.trials.Passing(name, cpu)
        for name, cpu in [("a.py::t", 1.0), ("test_clips.py::t", 5.0), ("b.py::t", 90.0)]
    )
    assert tool.trials.chosen([dear, quick, slow], 6.0, first="toy/clips.py") == [quick, slow]
    assert tool.trials.chosen([dear, quick, slow], 5.5, first="toy/clips.py") == [slow]


def outcome(tool: SimpleNamespace, **values: Any) -> Any:
    usual = {
        "room": "toy", "file": "toy/clips.py", "line": 7, "family": "border", "before": "if value > most:",
        "after": "x", "outcome": "survived", "tests": 3, "of": 4, "seconds": 1.0,
    }  # fmt: skip
    return tool.report.Outcome(**usual | values)


def test_the_page_has_rates_and_every_survivor_with_its_reason(
    tool: SimpleNamespace, toy: Path
) -> None:
    found = [
        outcome(tool, after="a", outcome="noticed"),
        outcome(tool, after="b", outcome="did not end"),
        outcome(tool, after="c | d", family="number"),
        outcome(tool, after="e", outcome="no test"),
    ]
    reasons = {("toy/clips.py", "if value > most:", "e"): "nobody sees it"}
    page = tool.report.page(found, reasons, seed=3, asked=200, budget=60)
    assert "4 of 200 mutants were tried (seed 3" in page
    assert "| toy | 4 | 2 | 50% | 1 | 1 |" in page
    assert "| number | 1 | 0 | 0% | 0 | 1 |" in page
    assert "| `c \\| d` | 3 of 4 | **not accepted** |" in page
    assert "| `e` | 3 of 4 | nobody sees it |" in page


def test_a_reason_for_a_line_that_is_gone_excuses_nothing(tool: SimpleNamespace, toy: Path) -> None:
    path = toy / "accepted.toml"
    entry = '[[mutant]]\nfile = "toy/clips.py"\nbefore = "{}"\nafter = "x"\nreason = "{}"\n'
    path.write_text(entry.format("if value > most:", "why"))
    assert tool.report.accepted(path) == {("toy/clips.py", "if value > most:", "x"): "why"}
    path.write_text(entry.format("if value > least:", "why"))
    with pytest.raises(ValueError, match="has no line 'if value > least:' any more"):
        tool.report.accepted(path)
    path.write_text(entry.format("if value > most:", " "))
    with pytest.raises(ValueError, match="has no reason"):
        tool.report.accepted(path)


def test_the_last_outcome_of_a_mutant_counts(tool: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    assert tool.report.Outcome.read(path) == []
    both = [outcome(tool), outcome(tool, outcome="noticed")]
    path.write_text("".join(json.dumps(one.__dict__) + "\n" for one in both))
    assert tool.report.Outcome.read(path) == [both[1]]


def test_the_accepted_mutants_are_lines_of_the_code(tool: SimpleNamespace) -> None:
    assert isinstance(tool.report.accepted(), dict)


def test_only_tests_that_are_new_or_edited_are_drawn_again(
    tool: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "tree", tmp_path / "map"
    for name in ("tests/unit/test_a.py", "tests/unit/test_b.py", "tests/unit/test_mutation.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "alharness").mkdir()
    (root / "alharness" / "code.py").write_text("x = 1\n")
    drawn: list[list[str]] = []

    def record(_: Path, folders: Any, new: Path, arguments: list[str]) -> int:
        drawn.append([name for name in arguments if name.endswith(".py")])
        entry = {"cpu": 0.1, "passed": True, "blocks": [0]}
        new.write_text("".join(json.dumps({"test": f"{n}::t", **entry}) + "\n" for n in drawn[-1]))
        return 0

    monkeypatch.setattr(tool.trials, "record", record)
    monkeypatch.setattr(tool.trials, "_forked", lambda work, log, seconds: work())

    def draw() -> list[list[str]]:
        drawn.clear()
        tool.trials.draw_map(root, out, ["unit"])
        return list(drawn)

    both = ["tests/unit/test_a.py", "tests/unit/test_b.py"]
    assert draw() == [both]
    assert draw() == []
    (root / both[1]).write_text("# edited\n")
    assert draw() == [both[1:]]
    (passing,) = tool.trials.mapped(root, out, ["unit"]).values()
    assert [one.test for one in passing] == [f"{name}::t" for name in both]
    all_over = tool.trials.ALL_OVER[0]
    (root / all_over).parent.mkdir(parents=True)
    (root / all_over).write_text("")
    tool.trials.draw_map(root, out, ["golden"])
    (passing,) = tool.trials.mapped(root, out, ["golden"]).values()
    assert [one.test for one in passing] == [f"{all_over}::t"]
    (root / both[0]).unlink()
    draw()
    (root / "alharness" / "code.py").write_text("x = 2\n")
    assert draw() == [both[1:]]
