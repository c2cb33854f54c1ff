"""What calls must say wherever they stand: that lengths agree, and that nothing is unpickled."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Where the longer one of two is cut on purpose; everywhere else lengths that differ are a mistake.
CUT = {
    "alharness/api/frames.py": 1,
    "alharness/cli/options.py": 1,
    "alharness/pictures/grids.py": 1,
    "alharness/records/facts.py": 1,
    "alharness/scaling/figures.py": 1,
    "alharness/tasks/texts.py": 1,
}

Call = tuple[str, str, ast.Call, dict[str, ast.expr]]


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """(file, name that is called, call, keywords) of all our code."""
    return list(_calls())


def _calls() -> Iterator[Call]:
    for folder in ("alharness", "strategies/alharness_strategies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    given = {word.arg: word.value for word in node.keywords if word.arg}
                    yield path.relative_to(ROOT).as_posix(), ast.unparse(node.func), node, given


def is_literal(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_things_that_go_together_are_as_many(calls: list[Call]) -> None:
    loose = Counter(
        file
        for file, name, node, given in calls
        if name == "zip"
        and (len(node.args) > 1 or isinstance(node.args[0], ast.Starred))
        and not is_literal(given.get("strict"), True)
    )
    assert loose == CUT


def test_nothing_that_is_read_is_unpickled(calls: list[Call]) -> None:
    safe = {"np.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}
    found = [call for call in calls if call[1] in safe]
    assert len(found) > 3
    for file, name, node, given in found:
        setting, value = safe[name]
        # The default of numpy is the safe one, that of older versions of torch is not.
        unsaid = name == "np.load" and setting not in given
        assert unsaid or is_literal(given.get(setting), value), f"{file}:{node.lineno}"
