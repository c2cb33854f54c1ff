"""What a person sees of long work."""

from __future__ import annotations

import pytest

from alharness.cli import display


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
