"""Whatever comments and documents point to exists: sections, rules, files, tests and dotted names.

The paper's own sections, equations and figures ("Sec. 3.2", "Eq. 1", "Fig. 6b") are left alone, and so is
CHANGELOG.md, which tells of what was. Nothing of the harness is imported: names are read off the source.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("alharness", "strategies", "tests", "benchmarks", "examples", "docs", ".ci", ".github")
SUFFIXES = {".py", ".md", ".toml", ".ini", ".yml", ".yaml", ".cff", ".jinja", ".css"}

#: Files that belong to others, or to a user: a bare name of these is not one of ours.
FOREIGN = {
    "gan_mnist.py": "improved_wgan_training (decisions 7)",
    "gan_cifar.py": "improved_wgan_training (decisions 7)",
    "gan_cifar_resnet.py": "improved_wgan_training (decisions 7)",
    "gan_64x64.py": "improved_wgan_training (decisions 7)",
    "CT_gan_cifar_resnet.py": "CT-GAN (decisions 7)",
    "tflib/mnist.py": "improved_wgan_training (decisions T2)",
    "mine.py": "the user's own file",
    "net.py": "the user's own file",
    "test_mine.py": "the user's own file",
    "spots.py": "the user's own file",
    "test_speed.py": "the user's own file",
    "random.py": "the user's own file, of a library's name",
    "NAME.py": "any name",
}
#: One section or trap of docs/decisions.md.
SECTION = r"(?:T\d+|\d+(?:\.\d+)?)"
DECISIONS = re.compile(
    rf"\bdecisions (?:section )?({SECTION}(?:(?:, | and | or ){SECTION})*)(?![\w])"
)
#: Inside docs/decisions.md itself.
SECTIONS = re.compile(rf"\bsections? ({SECTION}(?:(?:, | and | to ){SECTION})*)")
RULE = re.compile(r"(?<![\w.-])R(\d{1,2})(?:-R(\d{1,2}))?(?![\w.-]|\.\d)")
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"``([^`\n]+)``|`([^`\n]+)`")
PATH = re.compile(
    r"(?<![\w./<{*~:\]-])(\.{0,2}/?(?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|ini|yaml|yml|cff|jinja))"
    r"(?:::(\w+))?(?![\w/*{<])"
)
FOLDER = re.compile(r"^((?:alharness|strategies|tests|benchmarks|docs|examples)(?:/[\w.-]+)*)/?$")
DOTTED = re.compile(
    r"(?<![\w./-])((?:alharness|alharness_strategies)(?:\.[A-Za-z_]\w*)+)(?![\w/-]|\.\w)"
)


def documents() -> list[Path]:
    """All files that hold comments or documentation of ours; this one cites on purpose what is not."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in SUFFIXES]
    for folder in FOLDERS:
        found += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix in SUFFIXES
        ]
    return sorted(path for path in found if path.name != "CHANGELOG.md" and path != Path(__file__))


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs with their first line: of Python its docstrings and comments, else the whole text."""
    if path.suffix == ".py":
        yield from _docstrings(text)
        if path.relative_to(ROOT).parts[0] in ("alharness", "strategies"):
            yield from _messages(text)
        yield from _comments(text)
        return
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", text):
        yield line, " ".join(part.lstrip("# ") if path.suffix != ".md" else part.strip()
                             for part in paragraph.splitlines())  # fmt: skip
        line += paragraph.count("\n")


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Docstrings, and the descriptions that settings carry."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node, clean=False)
            if found is not None:
                yield node.body[0].lineno, " ".join(found.split())
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "description"
            and isinstance(node.value, ast.Constant)
        ):
            yield node.value.lineno, str(node.value.value)


def _messages(text: str) -> Iterator[tuple[int, str]]:
    """What errors and notes say to a user."""
    for node in ast.walk(ast.parse(text)):
        for value in node.args if isinstance(node, ast.Call) else ():
            for part in ast.walk(value) if _is_text(value) else ():
                if isinstance(part, ast.Constant) and " " in str(part.value):
                    yield part.lineno, str(part.value)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.Constant)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Comments; those on lines that follow each other are one text."""
    first, last, words = 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, said = token.start[0], token.string.lstrip("#: ")
        if line != last + 1:
            if words:
                yield first, words
            first, words = line, ""
        words, last = f"{words} {said}".strip(), line
    if words:
        yield first, words


@cache
def sections() -> frozenset[str]:
    """Numbers of the sections of docs/decisions.md, and its traps T1, T2, ..."""
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    found = re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", text, re.MULTILINE)
    return frozenset([*found, *re.findall(r"^\| (T\d+) \|", text, re.MULTILINE)])


@cache
def rules() -> frozenset[int]:
    """Numbers of the rows of docs/protocol.md."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    return frozenset(map(int, re.findall(r"^\| R(\d+) \|", text, re.MULTILINE)))


@cache
def groups() -> frozenset[str]:
    """Entry-point groups: ``alharness.strategies`` and the like."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return frozenset(tomllib.load(file)["project"]["entry-points"])


@cache
def basenames() -> frozenset[str]:
    """Names of all files of the repository that a comment may name without its folder."""
    return frozenset(path.name for path in documents()) | {Path(__file__).name, "CHANGELOG.md"}


def faults(path: Path, text: str) -> list[str]:
    """All references of a text, as if it stood in ``path``, that lead nowhere."""
    found: list[str] = []
    # Files that the page's own blocks make, and Markdown's way to write an underscore in a table.
    own = {
        f"no file '{name}'" for name in re.findall(r"^# (\w+\.(?:py|toml))\b", text, re.MULTILINE)
    }
    for line, words in prose(path, text):
        for fault in _faults(path, words.replace("\\_", "_")):
            if fault not in own:
                found.append(f"{path.relative_to(ROOT)}:{line}: {fault}")
    return found


def _faults(path: Path, words: str) -> Iterator[str]:
    numbered = [*DECISIONS.findall(words)]
    if path.name == "decisions.md":
        numbered += SECTIONS.findall(words)
    for group in numbered:
        for number in re.findall(SECTION, group):
            if number not in sections():
                yield f"no section {number} in docs/decisions.md"
    if "decision list" in words and "10" not in sections():
        yield "no decision list"
    for first, last in RULE.findall(words):
        for number in range(int(first), int(last or first) + 1):
            if number not in rules():
                yield f"no R{number} in docs/protocol.md"
    if path.suffix == ".md":
        for target in LINK.findall(words):
            yield from _link(path, target)
    for name, test in PATH.findall(words):
        if name not in FOREIGN and not name.startswith("./"):  # ./file.py: the user's own
            yield from _file(path, name, test)
    for double, single in CODE.findall(words):
        matched = FOLDER.match(double or single)
        if matched and not (ROOT / matched.group(1)).exists():
            yield f"no '{matched.group(1)}'"
    for name in DOTTED.findall(words):
        if not exists(name):
            yield f"no '{name}'"


def _link(path: Path, target: str) -> Iterator[str]:
    """Relative links, and anchors of headings."""
    if re.match(r"[a-z]+:", target):
        return
    name, _, anchor = target.partition("#")
    place = (path.parent / name).resolve() if name else path
    if not place.exists():
        yield f"no '{target}'"
    elif anchor and place.suffix == ".md" and not exists(anchor):  # the site's anchors of the API
        headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in {_slug(heading) for heading in headings}:
            yield f"no heading for '{target}'"


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", heading.lower().strip())
    return re.sub(r"\s", "-", kept)


def _file(path: Path, name: str, test: str) -> Iterator[str]:
    """A file by its path from the root or from the citing file's room, or by its name alone."""
    rooms = (ROOT, ROOT / "alharness", ROOT / "docs", path.parent, path.parent.parent)
    places = [folder / name for folder in rooms]
    there = [place for place in places if place.is_file()]
    if "/" in name:
        if not there:
            yield f"no file '{name}'"
        elif test and test not in {*_defined(there[0]), *chain(*_defined(there[0]).values())}:
            yield f"no {test} in '{name}'"
    elif name.endswith((".py", ".md")) and name not in basenames():
        yield f"no file '{name}'"


def exists(name: str) -> bool:
    """Whether a dotted name is an entry-point group, a module, or something that a module defines."""
    if name in groups():
        return True
    first, *parts = name.split(".")
    place = (ROOT if first == "alharness" else ROOT / "strategies") / first
    while parts and (place / parts[0]).is_dir():
        place = place / parts.pop(0)
    module = place / "__init__.py"
    if parts and (place / f"{parts[0]}.py").is_file():
        module = place / f"{parts.pop(0)}.py"
    if not parts:
        return module.is_file()
    known = _defined(module)
    return parts[0] in known and (len(parts) == 1 or parts[1] in known[parts[0]])


@cache
def _defined(path: Path) -> dict[str, set[str]]:
    """What a module defines or imports at its top, for types too, with the members of its classes."""
    found: dict[str, set[str]] = {}
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in chain(body, *(node.body for node in body if isinstance(node, ast.If))):
        if isinstance(node, ast.ClassDef):
            found[node.name] = set().union(*(_names(inner) for inner in node.body))
        else:
            found.update({name: set() for name in _names(node)})
    return found


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_reference_resolves(path: Path) -> None:
    assert faults(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("alharness/x.py", "# as decisions\n# 1.99 has it", "no section 1.99"),
        ("alharness/x.py", "A = 1  # decisions 1.6 and T99", "no section T99"),
        ("alharness/x.py", 'B = Field(0, description="(decisions 77)")', "no section 77"),
        ("docs/decisions.md", "as in section 1.77", "no section 1.77"),
        ("alharness/x.py", '"""Refused (R99)."""', "no R99"),
        ("tests/x.toml", 'where = "protocol R98"', "no R98"),
        (
            "alharness/x.py",
            'raise UserError(f"Derive {name} from alharness.no.Such")',
            "alharness.no",
        ),
        ("docs/x.md", "R1-R98 hold", "no R98"),
        ("docs/x.md", "[page](nowhere.md)", "no 'nowhere.md'"),
        ("docs/x.md", "[page](decisions.md#no-such-heading)", "no heading"),
        ("tests/x.py", '"""The curve below (design/protocol.md)."""', "design/protocol.md"),
        ("alharness/x.py", '"""A network of ``models.py``."""', "no file 'models.py'"),
        ("docs/x.md", "`alharness/models.py` holds it", "alharness/models.py"),
        ("docs/x.md", "in `alharness/analysis`", "no 'alharness/analysis'"),
        ("docs/x.md", "`tests/unit/test_loop.py::test_nothing`", "no test_nothing"),
        ("docs/x.md", "from alharness.models import X", "no 'alharness.models'"),
        ("alharness/x.py", "# see alharness.strategy.NoSuchThing", "NoSuchThing"),
        ("alharness/x.py", "# alharness.strategy.Strategy.no_such_method", "no_such_method"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(name: str, text: str, fault: str) -> None:
    assert any(fault in found for found in faults(ROOT / name, text)), faults(ROOT / name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alharness/x.py", "# decisions 1.3, 7 and T2; see the decision list (Sec. 9, Eq. 2, Fig. 6b)"),
        ("alharness/x.py", "# MLflow's tag ``alharness.name.query/recall``"),
        ("docs/x.md", "[why](decisions.md#16-latent-search-eq-1), R1-R3, `alharness.strategies`"),
        ("alharness/x.py", '"""``alharness.strategy.Strategy.select``, `gan_mnist.py`, ./new.py:Net."""'),
    ],
)  # fmt: skip
def test_a_reference_that_leads_somewhere_is_not_reported(name: str, text: str) -> None:
    assert faults(ROOT / name, text) == []
