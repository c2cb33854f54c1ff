"""Names become objects once: a run is bound, and what is bound is handed on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.learners import kinds
from alharness.tasks.digits import DigitsTwo
from alharness_strategies.random_sampling import RandomSampling


def count(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], home: Any, name: str) -> None:
    """Count the calls of a function, or the instances of a class by its ``__init__``."""
    plain = getattr(home, name)

    def counted(*args: Any, **options: Any) -> Any:
        counts[getattr(home, "__name__", str(home))] += 1
        return plain(*args, **options)

    monkeypatch.setattr(home, name, counted)


def test_one_run_makes_its_task_its_strategy_and_its_classifier_kind_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts: Counter[str] = Counter()
    count(monkeypatch, counts, DigitsTwo, "__init__")
    count(monkeypatch, counts, RandomSampling, "__init__")
    count(monkeypatch, counts, kinds, "form_of")
    run = ["run", "--strategy", "random", "--dataset", "digits-two", "--budget", "60", "--quiet"]
    assert call([*run, "--no-tracking", "--runs-dir", str(tmp_path)]) == 0
    assert counts == {"DigitsTwo": 1, "RandomSampling": 1, "alharness.learners.kinds": 1}


LIGHT = """
import sys
heavy = {"torch", "mlflow", "sklearn", "scipy", "pandas", "sympy", "matplotlib"}

def check(what):
    assert not heavy & set(sys.modules), (what, sorted(heavy & set(sys.modules)))
"""


def imports_nothing_heavy(code: str) -> None:
    """One process for all: what one of them imports is named at once."""
    done = subprocess.run([sys.executable, "-c", LIGHT + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_names_and_settings_are_made_of_imports_no_torch() -> None:
    names = ["spec", "registry", "records.facts", "learners.settings", "generative.settings"]
    names += ["oracle.settings", "tasks.settings"]
    imports_nothing_heavy(
        "import importlib\n"
        f"for name in {names}:\n"
        "    importlib.import_module(f'alharness.{name}')\n"
        "    check(name)\n"
    )


def test_what_is_only_described_or_mistyped_imports_nothing_heavy() -> None:
    commands = [
        "show random",
        "show max-entropy",
        "show asal-auto",
        "show digits-ten",
        "show mnist-two",
        "show settings",
        "show kappa",
        "run --strategy random --dataset digits-two --stop kapa",
        "data list",
        "sweep --explain",
        "run --strategy entropyy --dataset digits-two",
        "run --strategy random --dataset digit-two",
        "run --strategy random --dataset digits-two --set learner.widht=3",
        "run --strategy random --dataset digits-two --budget 3",
        "run --strategy random --dataset digits-two --device cdua",
    ]
    imports_nothing_heavy(
        "from alharness.cli import call\n"
        f"for command in {commands}:\n"
        "    call(command.split())\n"
        "    check(command)\n"
    )


def test_a_run_on_digits_imports_no_library_that_it_does_not_use(tmp_path: Path) -> None:
    command = ["run", "--strategy", "max-entropy", "--dataset", "digits-two", "--budget", "40"]
    code = (
        "import sys\n"
        "from alharness.cli import call\n"
        f"code = call({[*command, '--no-tracking', '--quiet', '--runs-dir', str(tmp_path)]!r})\n"
        "heavy = {'mlflow', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'torchvision'}\n"
        "heavy.add('torch._dynamo')  # of the first optimiser, and here nobody makes one\n"
        "print('IMPORTED', code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "IMPORTED 0 []" in done.stdout
