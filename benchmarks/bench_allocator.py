"""What it is worth that freed memory stays with the process (``numerics.keep_freed_memory``).

Each piece of work is done in processes of its own, with and without in turns, and told as the ratio of
CPU seconds (user and system) and the page faults of both.

    pytest benchmarks/bench_allocator.py -m regress -s
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys

import pytest

#: One warm-up and one counted piece of work; prints CPU seconds and page faults of the second.
CHILD = """
import json, resource, sys
import torch
from alharness import numerics
from alharness.generative.settings import GENERATOR_RECIPES
from alharness.generative.wgan import GeneratorTraining
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings
from alharness.pool import ArrayPool

torch.set_num_threads(1)
what, name, shape, amount = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
rng = torch.Generator().manual_seed(0)
pool = ArrayPool(torch.randint(0, 256, (1000, *shape), dtype=torch.uint8, generator=rng))
with numerics.exact():
    if what == "generator":
        training = GeneratorTraining(pool, GENERATOR_RECIPES[name])
        inputs = training.draw(1)[0]
        def work():
            for _ in range(amount):
                training._critic_step(inputs.reals[0], inputs.critic_z[0], inputs.mix[0])
    else:
        settings = LearnerSettings(kind=name, width=32, min_steps=amount, epochs=1)
        learner = learner_factory(settings)(tuple(shape), 10, torch.device("cpu"))
        labelled = LabelledSet(torch.arange(200), torch.arange(200) % 10, n_asked=200)
        learner.fit(labelled, pool, seed=0)
        def work():
            if what == "fit":
                learner.fit(labelled, pool, seed=0)
            else:
                with torch.no_grad():
                    for _ in range(amount):
                        for _, items in pool.blocks():
                            learner.log_probs(items)
    work()
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps([cpu, after.ru_minflt - before.ru_minflt, numerics.keep_freed_memory()]))
"""

WORK = {
    "fit, MNIST's CNN": ("fit", "mnist-cnn", [1, 28, 28], 40),
    "fit, CIFAR's All-CNN": ("fit", "all-cnn", [3, 32, 32], 10),
    "scan, CIFAR's All-CNN": ("scan", "all-cnn", [3, 32, 32], 1),
    "scan, linear on MNIST": ("scan", "linear", [1, 28, 28], 40),
    "critic, 28x28": ("generator", "conv-narrow", [1, 28, 28], 30),
    "critic, 64x64": ("generator", "conv-narrow-64", [3, 64, 64], 15),
}


def own_environment() -> dict[str, str]:
    """Without what its user chose of the allocator."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_"))
    }


def child(arguments: list[str], *, kept: bool) -> tuple[float, int]:
    """CPU seconds and page faults of one process's counted work."""
    # A tunable that changes nothing says that the user has chosen.
    environment = own_environment() | {
        "OMP_NUM_THREADS": "1",
        "GLIBC_TUNABLES": "" if kept else "glibc.malloc.perturb=0",
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu_s, faults, told = json.loads(done.stdout)
    assert told == kept
    return cpu_s, faults


#: With less to do than for the ratio of times: page faults are counted, and few pieces tell them apart.
COUNTED = ("fit", "mnist-cnn", [1, 28, 28], 5)

#: One process imports all, and two copies of it do the same work: the allocator is set after the copying.
COPIES = f"""
import os, sys
import torch._dynamo
from alharness.generative import wgan
from alharness.learners import factory
for chosen in ("", "glibc.malloc.perturb=0"):
    copy = os.fork()
    if copy == 0:
        os.environ["GLIBC_TUNABLES"] = chosen
        exec({CHILD!r})
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(copy, 0)
"""

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library's allocator"
)


@glibc
@pytest.mark.regress
def test_kept_memory_saves_most_page_faults() -> None:
    what, kind, shape, amount = COUNTED
    done = subprocess.run(
        [sys.executable, "-c", COPIES, what, kind, json.dumps(shape), str(amount)],
        env=own_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (_, kept, is_kept), (_, given_back, is_kept_too) = map(json.loads, done.stdout.splitlines())
    print(f"\npage faults {kept:,} instead of {given_back:,}")
    assert (is_kept, is_kept_too) == (True, False)
    assert kept < 0.5 * given_back


@glibc
@pytest.mark.slow
@pytest.mark.regress
@pytest.mark.parametrize("name", WORK)
def test_kept_memory_saves_page_faults_and_costs_no_time(name: str) -> None:
    what, kind, shape, amount = WORK[name]
    arguments = [what, kind, json.dumps(shape), str(amount)]
    pairs = [(child(arguments, kept=True), child(arguments, kept=False)) for _ in range(3)]
    ratio = statistics.median(kept[0] / given_back[0] for kept, given_back in pairs)
    kept, given_back = pairs[-1][0][1], pairs[-1][1][1]
    print(f"\n{name}: {ratio:.2f} of the CPU time, page faults {kept:,} instead of {given_back:,}")
    assert kept <= given_back
    assert ratio < 1.1
