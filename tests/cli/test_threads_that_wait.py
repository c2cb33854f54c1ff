"""Threads that wait for each other leave the processor to whoever computes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: The command's entry, with one that says what OpenMP will read, and whether torch has read it already.
ENTRY = """
import os, sys
import alharness.cli as cli
cli.call = lambda arguments: print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules) or 0
cli.main([])
"""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "PASSIVE False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE False"),
        ({"GOMP_SPINCOUNT": "100"}, "None False"),
    ],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    given: dict[str, str], told: str
) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_WAIT", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", ENTRY], env={**inherited, **given}, capture_output=True, text=True
    )
    assert done.stdout.strip() == told, done.stderr
