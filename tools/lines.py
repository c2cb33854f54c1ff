"""Code lines by room, held against the table in docs/architecture.md: ``lines.py [--write]``.

A code line has something on it that is neither comment nor docstring. A room may shrink unnoticed; it grows
only by a line changed in the table, so that growth is somebody's decision.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "alharness"
PAGE = ROOT / "docs" / "architecture.md"

#: A row of the table of weights: room, code lines at most.
ROW = re.compile(r"^\| `(\w+)/?` \| (\d+) \|$", re.MULTILINE)

#: Tokens that are no code.
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Lines of a module with code on them."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                lines -= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    return len(lines)


def weights() -> dict[str, int]:
    """Code lines of every room: folders and loose modules of the harness."""
    found: dict[str, int] = {}
    for path in sorted(HARNESS.rglob("*.py")):
        room = path.relative_to(HARNESS).parts[0].removesuffix(".py")
        found[room] = found.get(room, 0) + code_lines(path.read_text(encoding="utf-8"))
    return found


def limits() -> dict[str, int]:
    """Code lines that the page allows every room."""
    return {room: int(n) for room, n in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def write() -> None:
    """Put today's weights into the page."""
    now = weights()
    rows = "\n".join(f"| `{room}` | {n} |" for room, n in sorted(now.items()))
    table = f"| room | code lines |\n|---|---|\n{rows}\n\nTogether {sum(now.values()):,}."
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- weights -->\n", "\n<!-- end of weights -->"
    before, _, rest = text.partition(start)
    PAGE.write_text(before + start + table + end + rest.partition(end)[2], encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    for room, n in weights().items():
        print(f"{room:20} {n:6} of {limits().get(room, 0):6}")
