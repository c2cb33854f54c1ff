"""What a person sees of long work."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from alharness.cli import display

NOTES = {"wasserstein": 1.234567, "penalty": 0.00689, "consistency": 0.0, "generator_loss": -13.25}


def test_time_left_is_that_of_this_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    shown = display.Plain()
    shown.progress("train generator", 500, 1000)  # goes on where another session stopped
    now += 60.0
    shown.progress("train generator", 560, 1000, {"wasserstein": 1.5})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "train generator  500/1000"  # nothing is known of the speed yet
    assert second == "train generator  560/1000  7:20 min left  wasserstein 1.5"


@pytest.mark.parametrize("width", [40, 52, 60, 80, 100, 160])
@pytest.mark.parametrize(
    "name", ["cycles", "train auto-encoder", "images of the pool of 1,000,000 " * 3]
)
def test_a_bar_its_count_and_the_time_left_are_whole_at_any_width(name: str, width: int) -> None:
    told = ["12:05 min left", *display.figures(NOTES)]
    line = display.bar_line(name, 12_345, 100_000, told, width).plain
    assert len(line) <= width
    assert "  12345/100000  12:05 min left" in line
    assert line.count("━") >= display.SHORT_BAR
    shown = line.partition("left")[2].split("  ")[1:]  # notes are whole or not there
    assert shown == display.figures(NOTES)[: len(shown)]
    if width == 160 and len(name) < 40:
        assert len(shown) == len(NOTES)


def test_notes_give_way_before_the_bar_and_the_bar_before_the_name() -> None:
    told = ["8.9 s left", "wasserstein 0.5273"]
    wide = display.bar_line("train generator", 550, 700, told, 90).plain
    assert wide.endswith("550/700  8.9 s left  wasserstein 0.5273")
    close = display.bar_line("train generator", 550, 700, told, 64).plain
    assert close == f"train generator  {'━' * 24}  550/700  8.9 s left"
    narrow = display.bar_line("train generator", 550, 700, told, 48).plain
    assert narrow == f"train generator  {'━' * 10}  550/700  8.9 s left"
    tiny = display.bar_line("train generator", 550, 700, told, 40).plain
    assert tiny == f"train…tor  {'━' * 8}  550/700  8.9 s left"


def on_a_terminal(folder: Path, columns: int, *words: str) -> str:
    """What a command writes to a terminal of so many columns, with its control sequences."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "alharness", *words],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**kept, "TERM": "xterm-256color"},
        cwd=folder,
    )
    os.close(child)
    seen = bytearray()
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # the other side is closed: Linux's way to say so
            break
        if not part:
            break
        seen += part
    os.close(parent)
    assert process.wait() == 0, seen.decode()
    return seen.decode()


def kept_lines(seen: str) -> list[str]:
    """Lines that stay in the scrollback: without those that were drawn over (cleared, or gone up from)."""
    screen: list[str] = []
    row = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", seen):
        if len(screen) <= row:
            screen.append("")
        if token == "\n":
            row += 1
        elif token.startswith("\x1b[") and token.endswith("A"):
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            screen[row] = ""
        elif not token.startswith("\x1b") and token != "\r":
            screen[row] += token
    return [line.rstrip() for line in screen if line.strip()]


def test_a_terminal_of_80_columns_keeps_every_cycle_of_a_run(tmp_path: Path) -> None:
    command = ["run", "--strategy", "random", "--dataset", "digits-two", "--no-tracking"]
    command += ["--budget", "60", "--query-size", "2"]
    seen = on_a_terminal(tmp_path, 80, *command)
    lines = kept_lines(seen)
    cycles = [int(line.split()[0]) for line in lines if re.match(r"\s{4,8}\d+\s", line)]
    assert cycles == list(range(21))  # more than a screen of 24 lines holds beside the rest
    assert not any("━" in line for line in lines)  # the bar has gone
    bars = re.findall(r"cycles  [^\n\r]*", re.sub(r"\x1b\[[0-9;?]*m", "", seen))
    assert any(re.fullmatch(r"cycles  ━{24}  \d+/21(  [\d.:]+ \w+ left)?", bar) for bar in bars)
    assert all(len(bar) <= 80 for bar in bars)


def test_a_sweep_says_what_it_does_before_its_first_run(tmp_path: Path) -> None:
    command = ["sweep", "--strategies", "random", "--datasets", "digits-two", "--seeds", "0"]
    seen = on_a_terminal(tmp_path, 80, *command, "--set", "budget=40", "--no-tracking")
    lines = kept_lines(seen)
    assert lines[0] == "looking up the runs of these options ..."
    ended = next(number for number, line in enumerate(lines) if "finished  digits-two" in line)
    assert "starting 1 at once; each loads its libraries first ..." in lines[:ended]
    drawn = re.sub(r"\x1b\[[0-9;?]*m", "", seen)
    assert re.search(r"runs  ━{24}  0/1  ", drawn)
    assert re.search(r"digits-two / random / seed 0 +\d/3 ", drawn)
