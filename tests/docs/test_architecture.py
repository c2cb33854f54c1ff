"""docs/architecture.md tells the rooms as they are: each has a row, and imports point up the table."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "alharness"
#: A row of the table of rooms: name, what lives there, whether strategies may import it.
ROW = re.compile(r"^\| `(\w+)/?` \| (.+) \| (yes|no) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    return ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))


def rooms() -> set[str]:
    """Folders and loose modules at the top of the harness."""
    return {
        path.stem
        for path in HARNESS.iterdir()
        if (path.is_dir() and any(path.glob("*.py"))) or path.suffix == ".py"
    } - {"__init__", "__main__", "__pycache__"}


def imported(path: Path) -> set[str]:
    """Rooms that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "alharness":
            found.update(f"alharness.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.split(".")[1] for name in found if name.startswith("alharness.")} & rooms()


def test_every_room_has_one_row() -> None:
    assert sorted(name for name, _, _ in rows()) == sorted(rooms())


def test_a_room_imports_those_above_it_only() -> None:
    order = [name for name, _, _ in rows()]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(HARNESS.rglob("*.py"))
        if (room := path.relative_to(HARNESS).parts[0].removesuffix(".py")) in order
        for name in imported(path)
        if order.index(name) > order.index(room)
    ]
    assert wrong == []


def test_strategies_import_what_the_table_lets_them() -> None:
    closed = {name for name, _, allowed in rows() if allowed == "no"}
    for path in sorted((ROOT / "strategies" / "alharness_strategies").glob("*.py")):
        assert imported(path) & closed == set(), path.name


def test_the_files_that_a_row_names_lie_in_its_room() -> None:
    for room, text, _ in rows():
        for name in re.findall(r"`(\w+)`", text):
            if (HARNESS / room).is_dir():
                assert (HARNESS / room / f"{name}.py").is_file(), f"{room}/{name}.py"


def test_no_room_grows_unnoticed() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "lines.py"))
    now, limits = tool["weights"](), tool["limits"]()
    assert sorted(limits) == sorted(now)
    grown = {room: (n, limits[room]) for room, n in now.items() if n > limits[room]}
    assert grown == {}, "code lines now and allowed: see 'Weight' in docs/architecture.md"
