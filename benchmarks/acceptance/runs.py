"""Whole trainings, runs and claims, as a user starts them."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from acceptance.problems import digits, mnist, run
from acceptance.report import Found, NotMeasuredError, Place, holds
from alharness import cli
from alharness.spec import resolve

REPOSITORY = Path(__file__).resolve().parents[2]


def conv_28(place: Place) -> Found:
    """The paper's MNIST generator from the first step to the last."""
    task = mnist(place)
    command = [
        *("generator", "train", task, "--only", "generator", "--device", "cuda", "--quiet"),
        *("--runs-dir", str(place.scratch / "runs")),
    ]
    if place.dry:
        settings = ("steps=3", "width=2", "batch_size=4")
        command += [part for one in settings for part in ("--set", f"generator.{one}")]
    else:
        command += ["--profile", "paper", "--set", "generator.recipe=conv-28"]
    start = time.monotonic()
    code = cli.call(command)
    return holds(code == 0, "trains to its end", f"{time.monotonic() - start:.0f} s", over=1)


def grid(task: str, strategies: Sequence[str], seeds: Sequence[int], place: Place) -> Found:
    """Runs one after the other; their mean final accuracies."""
    accuracy: dict[str, list[float]] = {name: [] for name in strategies}
    start, done, wanted = time.monotonic(), 0, len(strategies) * len(seeds)
    for seed in seeds:
        for strategy in strategies:
            if place.left_s() < 0 and not place.dry:
                raise NotMeasuredError(f"{done} of {wanted} runs were done when the time was over")
            spec = (
                digits(place, strategy, "cuda", seed=seed)
                if place.dry
                else resolve({"task": task, "strategy": strategy, "seed": seed, "device": "cuda"})
            )
            records = run(spec, place.scratch / "runs").records()
            accuracy[strategy].append(records[-1].test.accuracy)
            done += 1
    means = ", ".join(f"{name} {statistics.mean(found):.3f}" for name, found in accuracy.items())
    note = f"{time.monotonic() - start:.0f} s; accuracy {means}"
    return holds(True, "all finish", note, over=done)


def mnist_two(place: Place) -> Found:
    """Three seeds of four strategies."""
    strategies = ("random", "max-entropy", "asal-gray", "asal-disc")
    return grid(mnist(place), strategies, range(place.size(3, 1)), place)


#: What mnist-ten is run with.
MANY = ("random", "max-entropy", "margin", "core-set", "badge", "typiclust")


def mnist_ten(place: Place) -> Found:
    """Five seeds of six strategies, one run after the other."""
    mnist(place)
    return grid("mnist-ten", MANY, range(place.size(5, 1)), place)


def claims(place: Place) -> Found:
    """``alharness claims check``, its own studies measured on the device."""
    if place.dry:
        raise NotMeasuredError("the claims' studies have no tiny size")
    mnist(place)
    command = [
        *(sys.executable, "-m", "alharness", "claims", "check", "--measure", "--device", "cuda"),
        *("--out", str(place.scratch / "claims"), "--runs-dir", str(place.scratch / "runs")),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=max(1.0, place.left_s()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(
            "the claims' studies did not end within the stage: run 'alharness claims check "
            "--measure --device cuda' by itself"
        ) from None
    (place.out / "claims.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    verdicts = re.findall(r"\b(holds|fails|inconclusive|not measured)\b", done.stdout)
    note = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    good, note = done.returncode == 0, note or done.stderr[-200:]
    return holds(good, "no claim fails", note, over=len(verdicts))
