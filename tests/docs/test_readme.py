"""What README.md, CONTRIBUTING.md and docs/ show works as it is shown.

A page runs from top to bottom in one folder: blocks of Python run, and the strategies that they define ask;
every line of a shell block either runs, or is named below with the reason why it does not.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from alharness import registry
from alharness.cli import call, cli
from alharness.records import run_folders
from alharness.strategy import Strategy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Beginnings of shell lines that do not run here, and why.
NOT_RUN = {
    "python3 -m venv": "makes an environment of 6 GB; .ci/run does it",
    ".venv/bin/pip install": "needs the network; .ci/run does it",
    ".venv/bin/tox": "would run this test again; .ci/run does it",
    ".venv/bin/pytest": "would run this test again",
    ".venv/bin/pre-commit": "writes into .git of the checkout",
    "ALHARNESS_GOLDEN=write": "would write the golden records anew",
    "alharness run --strategy asal-auto --dataset mnist-two --download": "fetches 12 MB; minutes",
}
#: Commands that take more than seconds: run as they stand by the slow tests.
SLOW = {"alharness run --strategy asal-auto --dataset digits-ten"}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            name, line = str(page.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1
            found.append(Block(name, line, match.group(2), match.group(3)))
    return found


def commands_of(block: Block) -> list[str]:
    """Commands of a shell block, without comments; ``.venv/bin/alharness`` is ``alharness``."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        parts = re.sub(r"(^|\s+)#.*", "", line).split("&&")
        found += [part.strip().replace(".venv/bin/alharness", "alharness") for part in parts]
    return [part for part in found if part]


def commands() -> list[str]:
    """Every command of every shell block, once."""
    return list(dict.fromkeys(part for block in of("sh") for part in commands_of(block)))


def of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def is_left_out(command: str) -> bool:
    return any(command.startswith(beginning) for beginning in NOT_RUN)


def test_there_is_something_to_run() -> None:
    assert of("python")
    assert set(commands()) >= SLOW
    assert all(any(c.startswith(start) for c in commands()) for start in NOT_RUN), "a stale reason"


def test_the_commands_beside_a_block_are_found() -> None:
    found = on_own_files((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "alharness check ./mine.py:LowestIndex" in found
    assert any(command.startswith("alharness run --strategy ./mine.py") for command in found)


def test_every_block_says_what_it_is() -> None:
    known = {"python", "sh", "toml", "text", ""}
    assert [str(block) for block in blocks() if block.language not in known] == []


@pytest.fixture
def _forgotten(tmp_path: Path) -> Iterator[None]:
    """Modules that a page wrote and imported are not there for the next test."""
    yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.usefixtures("_forgotten", "sweeps_here", "visits_here", "copied_stores")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one folder: a block that begins with ``# NAME.py`` or ``# NAME.toml`` is that file from there on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks():
        if block.page != str(page.relative_to(ROOT)):
            continue
        named = re.match(r"# (\w+\.(?:py|toml))\b", block.text)
        if named:
            Path(named.group(1)).write_text(block.text)
        if block.language == "python":
            run_python(Path(named.group(1) if named else "block.py"), block.text)
        if block.language == "sh":
            for command in commands_of(block):
                if not is_left_out(command) and command not in SLOW:
                    assert call(shlex.split(command)[1:]) == 0, f"{block}: {command}"
    for command in on_own_files(page.read_text(encoding="utf-8")):
        assert call(shlex.split(command)[1:]) == 0, f"{page.name}, beside its block: {command}"


def on_own_files(text: str) -> list[str]:
    """Commands in sentences and in comments of blocks on a file that the page itself shows."""
    own = set(re.findall(r"^# (\w+\.py)\b", text, re.MULTILINE))
    inline = re.findall(r"`(alharness (?:check|run) [^`]*)`", text)
    commented = re.findall(r"^# \w+\.py +(alharness .*)$", text, re.MULTILINE)
    return [
        c for c in dict.fromkeys([*inline, *commented]) if any(f"./{file}:" in c for file in own)
    ]


def run_python(file: Path, text: str) -> None:
    """Run a block; a strategy that it defines asks its questions on the embedded digits."""
    file.write_text(text)
    for name, value in runpy.run_path(str(file)).items():
        own = isinstance(value, type) and value.__module__ == "<run_path>"
        if own and issubclass(value, Strategy):
            arguments = ["--strategy", f"./{file}:{name}", "--dataset", "digits-two"]
            arguments += ["--budget", "40", "--quiet", "--no-tracking", "--runs-dir", "of-blocks"]
            assert call(["run", *arguments]) == 0
            assert all(folder.is_finished() for folder in run_folders(Path("of-blocks")))


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_read_and_its_entry_points_have_our_groups(block: Block) -> None:
    found = tomllib.loads(block.text)
    for group in found.get("project", {}).get("entry-points", {}):
        assert registry.names(group), f"nothing of ours is found in the group {group}"


@pytest.mark.parametrize("command", commands())
def test_a_shown_command_is_one_that_exists(command: str) -> None:
    if is_left_out(command) and not command.startswith("alharness"):
        return
    assert command.startswith("alharness "), f"neither run nor left out with a reason: {command}"
    found, arguments = find(shlex.split(command)[1:])
    context = found.make_context(found.name, arguments)
    if found.name == "run":
        for name, resolved in (
            ("strategy", registry.strategy_class),
            ("dataset", registry.resolve_task),
        ):
            given = context.params[name]  # none where both are told by their places
            if given is not None and not given.startswith(
                "./"
            ):  # a block's own file: the page runs it
                resolved(context.params[name])


def not_run() -> list[str]:
    """Commands of the blocks that need a stranger's data or packages: lines of ``text`` blocks."""
    own = [block for block in of("text") if block.page != "docs/commands.md"]
    found = dict.fromkeys(part for block in own for part in commands_of(block))
    return [part for part in found if re.match(r"alharness (run|label) ", part)]


@pytest.mark.parametrize("command", not_run())
def test_a_command_that_does_not_run_here_names_a_strategy_that_exists(command: str) -> None:
    found, arguments = find(shlex.split(command)[1:])
    words = found.make_context(found.name, arguments).params
    placed = [value for value in (words["strategy"], *words["names"]) if value]
    assert placed, command
    registry.strategy_class(placed[0])


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(SLOW))
def test_a_slow_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(shlex.split(command)[1:]) == 0


def mentioned() -> list[str]:
    """Commands inside sentences and tables, ``alharness data list``; what stands in capitals is a word."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found.update(dict.fromkeys(re.findall(r"`(alharness [a-z-][^`]*)`", text)))
    return list(found)


@pytest.mark.parametrize("command", mentioned())
def test_a_command_in_a_sentence_has_its_options(command: str) -> None:
    found, arguments = find(shlex.split(command)[1:])
    known = {option for parameter in found.params for option in parameter.opts} | {"--help"}
    assert {word for word in arguments if word.startswith("--")} <= known


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words call, and what is left of them for it."""
    found: click.Command = cli
    context = click.Context(cli)
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        inner = found.get_command(context, words[0])
        if inner is None and "start" in found.commands:  # "alharness sweep FILE" starts one
            return found.commands["start"], words
        assert inner is not None, f"there is no command {words[0]}"
        found, words = inner, words[1:]
    return found, words
