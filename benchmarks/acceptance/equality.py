"""Equality: the device computes what it should, and the same each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import torch

from acceptance.problems import cnn, course, digits, noise_pool, run
from acceptance.report import Found, NotMeasuredError, Place, holds
from alharness import conformance, registry
from alharness.api.running import places_of
from alharness.errors import UserError
from alharness.generative import latent_search
from alharness.generative.settings import GENERATOR_RECIPES, WRITTEN_FOR
from alharness.generative.wgan import GeneratorTraining
from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.pool import ArrayPool
from alharness.spec import RunSpec

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = REPOSITORY / "benchmarks" / "gpu_acceptance.py"
STRATEGIES_OF_A_DRY_RUN = ("max-entropy", "asal-gray")


def gpu_marked_tests(place: Place) -> Found:
    """pytest -m gpu, in a process of its own; its output lies beside the figures."""
    if place.dry:
        raise NotMeasuredError("tests marked gpu want a real one")
    if find_spec("pytest") is None:
        raise NotMeasuredError("pytest is not installed")
    # By name: collecting all tests would import what a bare machine lacks (MLflow).
    files = [
        str(path)
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=place.left_s(), check=False
    )
    (place.out / "pytest.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    passed = re.search(r"(\d+) passed", last)
    n = int(passed.group(1)) if passed else 0
    return holds(done.returncode == 0, "all pass", last, over=n)


def device_checks(place: Place) -> Found:
    """Every installed strategy asks on the device as on the CPU."""
    names = registry.names(registry.STRATEGIES)
    failed, skipped, unseen = [], [], 0
    names = list(STRATEGIES_OF_A_DRY_RUN) if place.dry else names
    for name in names:
        takes = registry.strategy_class(name).takes
        plugin = registry.find_strategy(f"{name}:20:max-entropy" if takes else name)
        if "weights" in plugin.parameters.model_fields:  # of a file that is not here
            unseen += 1
            continue
        checks = conformance.checks(plugin.cls, **plugin.keywords())
        (check,) = (check for check in checks if str(check) == "device")
        try:
            check()
        except unittest.SkipTest:
            skipped.append(name)
        except Exception as error:
            failed.append(f"{name} ({type(error).__name__}: {str(error)[:80]})")
    n = len(names) - len(skipped) - unseen
    note = "; ".join(failed) or f"{n} strategies"
    return holds(not failed and not skipped, "all agree", note, over=n)


class _Arithmetic:
    """An observer that looks at torch's settings inside a run."""

    def __init__(self) -> None:
        self.cudnn: list[tuple[bool, bool, bool]] = []

    def started(self, *_: object) -> None: ...

    def cycle(self, record: object) -> None:
        cudnn = torch.backends.cudnn
        self.cudnn.append((cudnn.enabled, cudnn.deterministic, cudnn.benchmark))

    def finished(self, *_: object) -> None: ...


def cudnn_inside_a_run(place: Place) -> Found:
    """cuDNN is on, deterministic and not autotuning where a run computes."""
    seen = _Arithmetic()
    run(digits(place, "random", "cuda"), place.scratch / "cudnn", observers=[seen])
    good = bool(seen.cudnn) and all(found == (True, True, False) for found in seen.cudnn)
    note = f"enabled, deterministic, autotuning: {seen.cudnn[:1]}"
    return holds(good, "on, deterministic", note, over=len(seen.cudnn))


def twice(place: Place) -> Found:
    """A run with a generator and convolutions, made twice from nothing."""
    wanted = digits(place, "asal-disc", "cuda", learner=cnn(place))
    one, other = (course(run(wanted, place.scratch / name)) for name in ("once", "twice"))
    return holds(one == other, "equal to the bit", over=len(one))


def stopped(place: Place) -> Found:
    """The same run, stopped after a cycle and continued."""
    wanted = digits(place, "asal-cls", "cuda", learner=cnn(place))
    whole = course(run(wanted, place.scratch / "whole"))
    run(wanted, place.scratch / "parts", max_cycles=1)
    parts = course(run(wanted, place.scratch / "parts"))
    return holds(whole == parts, "equal to the bit", over=len(whole))


def captured_search(place: Place) -> Found:
    """Latent search, replayed as a graph and step by step."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh()).to(place.device)
    network.requires_grad_(False)
    z0 = torch.randn(5, 8).to(place.device)
    replayed, eager = (
        latent_search.search(
            network, lambda x: -x.square().sum(dim=1), z0, steps=20, cuda_graph=captured
        )
        for captured in (True, False)
    )
    same = torch.equal(replayed.z.cpu(), eager.z.cpu())
    return holds(same, "equal to the bit", over=len(replayed.z))


def captured_training(place: Place) -> Found:
    """Steps of a convolutional generator's training, replayed and eager."""
    name = "conv-28"
    small = {"steps": 6, "width": place.size(16, 2), "batch_size": place.size(16, 2)}
    recipe = GENERATOR_RECIPES[name].model_copy(update=small)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *WRITTEN_FOR[name]), generator=rng, dtype=torch.uint8)
    weights = []
    for capture in (True, False):
        training = GeneratorTraining(ArrayPool(images, place.device), recipe, capture=capture)
        while training.step < recipe.steps:
            training.run_chunk()
        weights.append([value.cpu() for value in training.critic.state_dict().values()])
    good = all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    return holds(good, "equal to the bit", over=len(weights[0]))


def captured_fit(place: Place) -> Found:
    """A network's fit with dropout, full and shorter batches, replayed and eager."""
    pool = noise_pool(60, (1, 28, 28), place.device)
    labelled = LabelledSet(torch.arange(55), torch.arange(55) % 2, n_asked=55)
    settings = LearnerSettings(
        kind="mnist-cnn",
        width=place.size(128, 4),
        batch_size=place.size(50, 30),
        min_steps=place.size(200, 16),
    )
    digests = set()
    for capture in (True, False):
        learner = NetworkLearner((1, 28, 28), 2, place.device, settings, capture=capture)
        learner.fit(labelled, pool, seed=0)
        digests.add(learner.digest())
    return holds(len(digests) == 1, "equal to the bit", over=len(digests))


def linear_tasks(place: Place) -> Found:
    """CPU and GPU ask the same on tasks with the linear classifier."""
    different, n_queries = [], 0
    more = () if place.dry else ("margin", "badge")
    for strategy in ("max-entropy", "core-set", *more):
        asked = [
            [
                record.query.digest
                for record in run(digits(place, strategy, device), place.scratch / device).records()
                if record.query
            ]
            for device in ("cpu", "cuda")
        ]
        n_queries += len(asked[0])
        if asked[0] != asked[1]:
            different.append(strategy)
    return holds(not different, "the same queries", ", ".join(different), over=n_queries)


def forecast_with_the_pool_loaded(place: Place) -> Found:
    """With memory for just the pool, the record says that it lies on the device."""
    wanted = digits(place, "random", "cuda")
    data = registry.resolve_task("digits-two").load(places_of(place.scratch, None).locations)
    before = torch.cuda.memory_allocated()

    def limited(total: int) -> AbstractContextManager[object]:
        """A device with so many bytes, of which what is allocated from now on is taken."""

        def free(*_: object) -> tuple[int, int]:
            return total - torch.cuda.memory_allocated() + before, total

        return mock.patch.object(torch.cuda, "mem_get_info", free)

    too_little, enough = 0, 64 << 30
    while enough - too_little > 1:
        middle = (too_little + enough) // 2
        with limited(middle):
            try:
                fits = data.forecast(place.device, wanted.pool).residency == "device"
            except UserError:
                fits = False
        too_little, enough = (too_little, middle) if fits else (middle, enough)
    with limited(enough):
        about = run(wanted, place.scratch / "forecast", max_cycles=1).facts().task
    good = about.residency == "device" and "kept on the device" in about.forecast
    return holds(good, "kept on the device", about.forecast, over=1)


def two_workers(place: Place) -> Found:
    """Two processes on one card finish, with the courses that they have alone."""
    options = ["--dry"] if place.dry else []
    alone = [course(run(_of_worker(place.dry, seed), place.scratch / "alone")) for seed in (0, 1)]
    both = place.scratch / "both"
    started = [
        subprocess.Popen(
            [sys.executable, str(COMMAND), "--worker", str(both), str(seed), *options],
            env=os.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for seed in (0, 1)
    ]
    for process in started:
        _, errors = process.communicate(timeout=max(60.0, place.left_s()))
        if process.returncode:
            return holds(False, "both finish", errors.decode()[-200:], over=2)
    together = [course(run(_of_worker(place.dry, seed), both)) for seed in (0, 1)]
    return holds(together == alone, "both finish, as alone", over=len(alone[0]))


def _of_worker(dry: bool, seed: int) -> RunSpec:
    place = Place(torch.device("cuda"), dry, Path(), Path(), 0.0)
    return digits(place, "max-entropy", "cuda", learner=cnn(place), seed=seed)


def worker(folder: Path, seed: int) -> None:
    """The run of one of two workers; the dry option is known by the pretended device's name."""
    dry = "pretended" in torch.cuda.get_device_name()
    run(_of_worker(dry, seed), folder)


def without_mlflow(place: Place) -> Found:
    """A run without tracking imports no MLflow."""
    n = len(course(run(digits(place, "random", "cuda"), place.scratch / "bare")))
    return holds("mlflow" not in sys.modules, "not imported", over=n)
