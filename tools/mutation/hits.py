"""Which tests pass which block of code: a counter at the head of every block, in memory that forks share.

A tracer would see each line of each test for minutes, and nothing of what a forked run does."""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import json
import mmap
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

MARKS = "__mutation_hits__"
#: How pytest is called. Its plug-ins are imported before any fork, and so not rewritten, which it says as an
#: error here.
PYTEST = (
    "-q", "--no-header", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


def blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    """Every list of statements inside functions, in the order of the text; the module's own comes first."""
    found, known = [tree.body], {id(tree.body)}
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                for name in ("body", "orelse", "finalbody"):
                    part = getattr(node, name, None)
                    inside = not isinstance(node, ast.ClassDef)
                    if inside and isinstance(part, list) and part and id(part) not in known:
                        known.add(id(part))
                        found.append(part)
    return found


def block_of(source: str, line: int) -> int:
    """The number of the smallest block that holds a line."""
    found = blocks(ast.parse(source))
    sizes = {
        number: last - first
        for number, block in enumerate(found)
        if (first := block[0].lineno) <= line <= (last := block[-1].end_lineno or 0)
    }
    return min(sizes, key=lambda number: (sizes[number], number), default=0)


def counted(source: bytes | str, path: str, start: int) -> CodeType:
    """A module's code that marks each block it enters."""
    tree = ast.parse(source)
    for number, block in enumerate(blocks(tree)):
        mark = ast.parse(f"{MARKS}[{start + number}] = 1").body[0]
        for node in ast.walk(mark):
            if hasattr(node, "lineno"):
                ast.copy_location(node, block[0])
        after = 0
        while after < len(block) and _stands_first(block[after]):
            after += 1
        block.insert(after, mark)
    code: CodeType = compile(tree, path, "exec")
    return code


def _stands_first(statement: ast.stmt) -> bool:
    docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return docstring or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")


class Counting(importlib.abc.MetaPathFinder):
    """Compiles the files below ``root`` with marks; their numbers are fixed before anything runs."""

    def __init__(self, root: Path, folders: Sequence[str]) -> None:
        self.starts: dict[str, int] = {}
        taken = 0
        for folder in folders:
            for path in sorted((root / folder).rglob("*.py")):
                self.starts[str(path)] = taken
                taken += len(blocks(ast.parse(path.read_text(encoding="utf-8"))))
        self.taken = taken
        self.marks = mmap.mmap(-1, max(taken, 1))
        setattr(builtins, MARKS, self.marks)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin in self.starts:
            spec.loader = _Loader(name, spec.origin, self.starts[spec.origin])
        return spec

    def take(self) -> list[int]:
        """Numbers of the blocks that were entered since the last call."""
        seen = [number for number, hit in enumerate(self.marks[:]) if hit]
        self.marks[:] = bytes(len(self.marks))
        return seen


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, start: int) -> None:
        super().__init__(name, path)
        self.start = start

    def get_code(self, fullname: str) -> CodeType:
        return counted(self.get_data(self.path), self.path, self.start)


class Recorder:
    """A plug-in of pytest: a line for each test that passed, with its CPU seconds and its blocks."""

    def __init__(self, counting: Counting, out: Path) -> None:
        self.counting, self.out = counting, out
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.counting.take()
        before = _cpu()
        result = yield
        line = {
            "test": item.nodeid,
            "cpu": round(_cpu() - before, 3),
            "passed": item.nodeid not in self.failed,
            "blocks": self.counting.take(),
        }
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:  # skipped tests notice nothing, either
            self.failed.add(report.nodeid)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def record(root: Path, folders: Sequence[str], out: Path, arguments: Sequence[str]) -> int:
    """Run pytest below ``root`` with marks and write what each test passes."""
    counting = Counting(root, folders)
    sys.meta_path.insert(0, counting)
    plugins: list[object] = [Recorder(counting, out)]
    return int(pytest.main([*PYTEST, *arguments], plugins=plugins))
