"""The direction of imports, the single homes of mlflow and print, and a loop that knows no strategy."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from alharness.lazily import homes_in

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "alharness"
PLUGINS = ROOT / "strategies" / "alharness_strategies"

#: The rooms of the house from the ground up: each imports from itself and from those before it.
FLOORS = [
    ["errors", "lazily", "frozen", "seeds", "progress", "files", "timing", "numerics", "plugins"],
    ["acquisition", "pool", "queries", "labelled", "availability", "border"],
    ["artefacts", "records", "stopping", "pictures", "learners", "tasks", "matching"],
    ["strategy", "generative", "oracle", "registry", "spec"],
    ["engine", "conformance", "tracking", "comparison", "scaling", "executors", "live"],
    ["api", "pytest", "cli"],
]
ROOMS = [room for floor in FLOORS for room in floor]
FLOOR = {room: number for number, room in enumerate(ROOMS)}
#: All that a query strategy may import: not the targets, nor what runs it.
OPEN_TO_PLUGINS = set(ROOMS[: FLOOR["oracle"]]) - {"tasks", "border"}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "alharness":
                found.update(f"alharness.{alias.name}" for alias in node.names)
    return found


def part(path: Path) -> str:
    return path.relative_to(HARNESS).parts[0].removesuffix(".py")


FILES = sorted(path for path in HARNESS.rglob("*.py") if part(path) not in ("__init__", "__main__"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(HARNESS.rglob("*.py"))}


def edges(name: str) -> set[str]:
    """Files of the harness that a file imports, in functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return {module for module in found if module in MODULES} - {name, "alharness"}


def test_every_room_has_a_floor() -> None:
    assert {part(path) for path in FILES} - set(FLOOR) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    for name in imports(path):
        if name.startswith("alharness_strategies"):
            pytest.fail(f"the harness imports the plug-in {name}")
        if name.startswith("alharness."):
            target = name.split(".")[1]
            if target in FLOOR:
                assert FLOOR[target] <= FLOOR[part(path)], f"{part(path)} imports {target}"


def test_no_two_files_import_each_other_over_any_way_round() -> None:
    graph = {name: edges(name) for name in MODULES if name != "alharness"}
    while graph:
        free = {name for name, needs in graph.items() if not needs & set(graph)}
        assert free, f"a circle of files: {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_the_top_level_is_a_table_of_words() -> None:
    loose = [path for path in HARNESS.glob("*.py") if not path.name.startswith("__")]
    assert len(loose) <= 14, "another loose module: which room does it belong to?"
    assert depth() <= 11, "the longest chain of rooms that import each other grew"


def depth() -> int:
    """Rooms in the longest chain of imports from room to room."""
    needs: dict[str, set[str]] = {}
    for name in MODULES:
        room = name.split(".")[1] if "." in name else ""
        needs.setdefault(room, set()).update(edge.split(".")[1] for edge in edges(name))
    longest: dict[str, int] = {}
    for room in ROOMS:  # from the ground up
        others = needs.get(room, set()) - {room}
        longest[room] = 1 + max((longest[other] for other in others), default=0)
    return max(longest.values())


@pytest.mark.parametrize("path", sorted(PLUGINS.glob("*.py")), ids=lambda path: path.name)
def test_plugins_see_the_contract_and_no_targets(path: Path) -> None:
    for name in imports(path):
        if name.startswith("alharness."):
            assert name.split(".")[1] in OPEN_TO_PLUGINS, f"a strategy imports {name}"


def test_one_importer_of_mlflow_and_one_place_that_prints() -> None:
    for path in FILES:
        names = {name.split(".")[0] for name in imports(path)}
        assert "mlflow" not in names or part(path) == "tracking", path
        assert "matplotlib" not in names or path.name == "canvas.py", path
        if part(path) != "cli":
            calls = [
                node
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "print"
            ]
            assert not calls, path


#: Constants that are a strategy's name and may be: a report's baseline, Python's module, and a drawn start.
NAMED = {
    ("comparison/comparison.py", "random"),
    ("conformance/checks.py", "random"),
    ("records/facts.py", "random"),
}


def test_the_harness_names_no_strategy() -> None:
    """No code of the harness knows a strategy by its name; texts for people may give examples."""
    names = {point.name for point in entry_points(group="alharness.strategies")}
    names -= {"full", "margin", "least-confidence"}  # words of other things: profiles, scores
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names:
                found.add((str(path.relative_to(HARNESS)), node.value))
    assert found <= NAMED


#: What takes a tenth of a second and more to import.
HEAVY = {"torch", "mlflow", "numpy", "sklearn", "scipy", "pandas", "PIL", "matplotlib", "ray"}


def imported_by(*commands: str, heavy: set[str]) -> dict[str, tuple[int, list[str]]]:
    """For each command, one after the other in a fresh process: exit code, and which of these it imported."""
    code = (
        "import sys\n"
        "from alharness.cli import call\n"
        "told = {}\n"
        f"for command in {commands!r}:\n"
        "    code = call(command.split())\n"
        f"    told[command] = code, sorted({heavy!r} & set(sys.modules))\n"
        "print('IMPORTED', told)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told: dict[str, tuple[int, list[str]]] = ast.literal_eval(done.stdout.split("IMPORTED ")[-1])
    return told


def test_help_and_list_import_nothing_heavy() -> None:
    commands = ("--help", "--version", "list", "list datasets", "list learners", "list stopping")
    heavy = HEAVY | {"pydantic", "alharness_strategies"}
    assert imported_by(*commands, heavy=heavy) == dict.fromkeys(commands, (0, []))


def test_a_misspelt_name_is_told_before_anything_is_imported_for_it() -> None:
    commands = ("show margn", "run margn digits-two", "run margin digitss", "label margn", "runn")
    heavy = HEAVY | {"pydantic", "alharness_strategies"}
    assert imported_by(*commands, heavy=heavy) == dict.fromkeys(commands, (2, []))


def test_what_describes_computes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names, defaults and descriptions take neither arrays nor what reads pictures or watches memory."""
    monkeypatch.setenv(
        "ALHARNESS_CACHE", str(tmp_path)
    )  # of a cache that is there labels are looked at
    kinds = ("margin", "digits-two", "folder", "linear", "mlp", "resnet18", "kappa", "settings")
    commands = (*(f"show {name}" for name in kinds), "sweep --explain", "data list")
    heavy = HEAVY | {"psutil"}
    assert imported_by(*commands, heavy=heavy) == dict.fromkeys(commands, (0, []))


def test_no_late_name_is_that_of_a_file_beside_it() -> None:
    """Importing the file would put the module in the name's place."""
    for package in HARNESS.rglob("__init__.py"):
        beside = {path.stem for path in package.parent.glob("*.py")}
        assert not homes_in(str(package)).keys() & beside, package


def test_what_a_run_was_is_read_without_torch() -> None:
    """Reports, the view in MLflow and the list of runs take facts; none of them trains a network."""
    code = (
        "import sys\n"
        "import alharness.records\n"
        "print('IMPORTED', sorted({'torch', 'mlflow', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "IMPORTED []" in done.stdout


def test_a_python_that_is_started_takes_no_library_from_the_working_folder() -> None:
    """A clone's folder 'alharness' or a file 'random.py' there would be imported in its place."""
    started = [
        (module_of(path), [ast.unparse(item) for item in node.elts])
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List | ast.Tuple)
        and node.elts
        and ast.unparse(node.elts[0]) == "sys.executable"
    ]
    assert len(started) >= 5
    for where, words in started:
        assert words[1] in ("'-P'", "'-I'"), where
