"""What can be changed: places in the rooms where figures are made, and a sample of them."""

from __future__ import annotations

import ast
import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[2]

#: Room -> its files. A mistake in any of these changes a figure that somebody publishes.
ROOMS = {
    **{name: f"alharness/{name}" for name in ("engine", "matching", "comparison", "scaling")},
    **{name: f"alharness/{name}" for name in ("tasks", "records", "oracle")},
    "strategies": "strategies/alharness_strategies",
}

#: Names whose opposite is as well-formed and wrong.
OPPOSITES = {
    one: other
    for pair in (
        "min max",
        "argmin argmax",
        "amin amax",
        "any all",
        "floor ceil",
        "minimum maximum",
    )
    for one, other in (pair.split(), reversed(pair.split()))
}


class Opposite(Operator):  # type: ignore[misc]
    """``min`` for ``max`` and the like."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "name" and node.value in OPPOSITES and node.parent.type != "argument":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = OPPOSITES[node.value]
        return node

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return ()


class ForgottenSetting(Operator):  # type: ignore[misc]
    """A call without one of its keywords: its default is used, whatever was asked for."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        # All at once: the visitor of cosmic-ray changes the node while it still asks.
        found = [node.children[place] for place in self._keywords(node)]
        return iter([(argument.start_pos, argument.end_pos) for argument in found])

    def mutate(self, node: Any, index: int) -> Any:
        place = self._keywords(node)[index]
        end = place + 2 if node.type == "arglist" else place + 1  # its comma goes with it
        del node.children[place:end]
        return node

    @staticmethod
    def _keywords(node: Any) -> list[int]:
        call = node.type == "arglist" or (node.type == "trailer" and node.children[0] == "(")
        return [
            place
            for place, child in enumerate(getattr(node, "children", ()) if call else ())
            if child.type == "argument" and child.children[1] == "="
        ]

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return ()


def _swapped(kind: str, *pairs: str) -> list[str]:
    return [f"core/Replace{kind}Operator_{pair}" for pair in pairs]


#: Family -> operators. One wrong neighbour each: a shift of a float is noticed by any test and says nothing.
FAMILIES: dict[str, tuple[str | type[Operator], ...]] = {
    "arithmetic": (
        *_swapped(
            "Binary", "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv",
            "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd",
        ),
        "core/ReplaceUnaryOperator_Delete_USub", "core/ReplaceUnaryOperator_Delete_Invert",
    ),
    "border": tuple(
        _swapped(
            "Comparison", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq", "Lt_Gt", "Gt_Lt",
        )
    ),
    "logic": (
        "core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/ReplaceAndWithOr",
        "core/ReplaceOrWithAnd", "core/ReplaceUnaryOperator_Delete_Not", "core/ZeroIterationForLoop",
        "core/ReplaceContinueWithBreak",
    ),
    "number": ("core/NumberReplacer",),
    "opposite": (Opposite,),
    "setting": (ForgottenSetting,),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One mutation: ``occurrence`` of an operator in a file, and how its line reads before and after."""

    room: str
    file: str
    line: int
    family: str
    operator: str
    occurrence: int
    before: str = ""
    after: str = ""

    @functools.cache  # noqa: B019  - a script's places live as long as it does
    def changed(self) -> str | None:
        """The file with this one change; None where it changes nothing or is no Python."""
        source = (ROOT / self.file).read_text(encoding="utf-8")
        text = mutate_code(source, operator_of(self.operator), self.occurrence)
        try:
            same = text is None or ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))
        except SyntaxError:
            return None
        return None if same else text

    def told(self) -> Place:
        """With the line before and after."""
        old = (ROOT / self.file).read_text(encoding="utf-8").splitlines()
        new = (self.changed() or "").splitlines()
        row = next(
            (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(new) - 1
        )
        fields = {**asdict(self), "before": old[row].strip(), "after": new[row].strip()}
        return Place(**fields)


def operator_of(name: str) -> Operator:
    own = {cls.__name__: cls for cls in (Opposite, ForgottenSetting)}
    return own[name]() if name in own else get_operator(name)()


def _silent(tree: ast.Module) -> set[int]:
    """Lines that make no figure: imports, and what an error says."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _types(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where types are declared, which nothing is computed with: from and to, (line, column)."""
    return [
        ((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0))
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
        # What pydantic reads from a type is a limit, and no mere type.
        and not any(isinstance(inner, ast.Call) for inner in ast.walk(part))
    ]


def _operators(tree: ast.Module) -> set[tuple[int, int]]:
    """Where arithmetic may stand; ``*`` of arguments is none."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.UnaryOp):
            found.add((node.lineno, node.col_offset))
        elif isinstance(node, (ast.BinOp, ast.AugAssign)):
            left, right = (
                (node.left, node.right)
                if isinstance(node, ast.BinOp)
                else (node.target, node.value)
            )
            first = (left.end_lineno or 0, left.end_col_offset or 0)
            last = (right.lineno, right.col_offset)
            # Bytes and characters differ right of a letter beyond ASCII: such a line is passed over.
            found.update(
                (line, column)
                for line in range(first[0], last[0] + 1)
                for column in range(
                    first[1] if line == first[0] else 0, last[1] if line == last[0] else 120
                )
            )
    return found


def places(room: str) -> list[Place]:
    """All mutations of a room, file by file."""
    found = []
    for path in sorted((ROOT / ROOMS[room]).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        silent, types, arithmetic = _silent(tree), _types(tree), _operators(tree)
        nodes = list(ast_nodes(get_ast(source)))
        for family, operators in FAMILIES.items():
            for operator in operators:
                name = operator if isinstance(operator, str) else operator.__name__
                made = operator_of(name)
                positions = [at for node in nodes for at in made.mutation_positions(node)]
                file = path.relative_to(ROOT).as_posix()
                found += [
                    Place(room, file, start[0], family, name, occurrence)
                    for occurrence, (start, _) in enumerate(positions)
                    if start[0] not in silent
                    and not any(first <= start < last for first, last in types)
                    and (family != "arithmetic" or start in arithmetic)
                ]
    return found


def sample(size: int, seed: int, rooms: Sequence[str] = tuple(ROOMS)) -> list[Place]:
    """As many of each room, families in turn: numbers would be half of all otherwise.

    The order is the rooms' in turn, so that a run that is stopped has seen each."""
    drawn: dict[str, list[Place]] = {}
    for room in rooms:
        rng = random.Random(f"{seed}:{room}")
        by_family: dict[str, list[Place]] = {}
        for place in places(room):
            by_family.setdefault(place.family, []).append(place)
        for members in by_family.values():
            rng.shuffle(members)
        taken: list[Place] = []
        share = -(-size // len(rooms))
        while len(taken) < share and any(by_family.values()):
            for members in by_family.values():
                while members and len(taken) < share:
                    candidate = members.pop()
                    if candidate.changed() is not None:
                        taken.append(candidate.told())
                        break
        drawn[room] = taken
    turns = max(map(len, drawn.values()), default=0)
    return [drawn[room][i] for i in range(turns) for room in rooms if i < len(drawn[room])][:size]
