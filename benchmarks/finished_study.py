"""A finished study of thousands of runs, asked again: what reading it costs.

    python benchmarks/finished_study.py 2000

Two real runs are made and cloned, each clone with its own seed, other figures, right checksums and
the key of its settings, so that readers and sweeps take them for what they look like. Then
``compare``, ``sweep`` and ``load_runs`` are asked in processes of their own, first and again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import alharness
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Choices, Job, expand
from alharness.files import sealed_text
from alharness.records import CycleRecord, RunFolder

#: Strategies of the study; the first two are run, the others are clones of the second.
STRATEGIES = ("random", "margin", "max-entropy", "least-confidence")

#: Cycles of a run.
CYCLES = 21


def sweep_of(n: int) -> Sweep:
    """So many runs of ``STRATEGIES`` on digits, seeds from 0."""
    seeds = f"0-{max(1, n // len(STRATEGIES)) - 1}"
    base = {
        "task": "digits-two",
        "budget": 20 + 10 * (CYCLES - 1),
        "initial_size": 20,
        "query_size": 10,
        "device": "cpu",
    }
    return Sweep(name="study", base=base, runs=[{"strategy": list(STRATEGIES), "seed": seeds}])


def make_study(folder: Path, n: int) -> list[Job]:
    """Fill a folder of runs with the runs of ``sweep_of(n)``.

    Args:
        folder: root of all runs, which need not exist.
    """
    jobs = expand(sweep_of(n), Choices(), folder)
    with tempfile.TemporaryDirectory() as place:
        patterns = {}
        for name in STRATEGIES[:2]:
            spec = next(job.spec for job in jobs if job.spec.strategy.name == name)
            settings = {"budget": spec.budget, "initial_size": spec.initial_size}
            made = alharness.run(
                name,
                "digits-two",
                **settings,
                query_size=10,
                device="cpu",
                runs_dir=place,
                tracking=False,
            )
            patterns[name] = RunFolder(made.run.folder)
        for job in jobs:
            name = job.spec.strategy.name
            _clone(patterns.get(name, patterns[STRATEGIES[1]]), job)
    return jobs


def _clone(pattern: RunFolder, job: Job) -> None:
    """One run after the pattern of another: seeds, figures and digests are its own."""
    rng = np.random.default_rng([job.index, job.spec.seed])
    folder = job.folder
    folder.path.mkdir(parents=True)
    folder.spec.write_text(job.spec.to_toml(), encoding="utf-8")
    facts = json.loads(pattern.env.read_text(encoding="utf-8"))
    for key in ("sealed", "sha256"):
        facts.pop(key, None)
    # Without the wait for the disk of each file: it is no measurement.
    text = sealed_text({**facts, "run_key": job.spec.run_key})
    folder.env.write_text(text, encoding="utf-8")
    shutil.copyfile(pattern.queries, folder.queries)
    lines, chain = [], ""
    for record in pattern.records():
        values = record.model_dump(mode="json")
        values["test"]["accuracy"] += float(rng.normal(0, 0.01))
        values["test"]["log_loss"] *= float(rng.lognormal(0, 0.05))
        own = f"{job.spec.seed}" if record.cycle == 0 else f"{job.index}"
        for name in ("labelled_digest", "learner_digest"):
            values[name] = hashlib.sha256(f"{own}{values[name]}".encode()).hexdigest()[:16]
        if record.files:
            values["files"] = folder.seal()
        body = CycleRecord.model_validate(values).model_dump_json()
        chain = hashlib.sha256(chain.encode() + body.encode()).hexdigest()[:16]
        lines.append(f'{body[:-1]},"chain":"{chain}"}}\n')
    folder.cycles.write_text("".join(lines), encoding="utf-8")


#: What is asked, by its name; ``{runs}`` is the folder, ``{spec}`` the sweep's file.
QUESTIONS = {
    "compare": "import alharness; alharness.compare(r'{runs}').text()",
    "load_runs": "import alharness; alharness.load_runs(r'{runs}')",
    "sweep": "import alharness; alharness.sweep(spec=r'{spec}', runs_dir=r'{runs}', tracking=False)",
}

#: Before a question, so that libraries count for none; and after it.
BEFORE = """
import resource, time, numpy, pandas, scipy.stats, torch
import alharness.api.comparing, alharness.api.frames, alharness.comparison.report
import alharness.comparison.formats, alharness.executors.sweeps, alharness.executors.local
import alharness.executors.driver, alharness.executors.targets, alharness.tracking
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.process_time()
"""
AFTER = "\nprint(time.process_time() - start, peak() - before)"


def asked(question: str, runs: Path, spec: Path) -> tuple[float, float]:
    """CPU seconds, and growth of the peak of memory in MB, of one question in a process of its own."""
    text = BEFORE + QUESTIONS[question].format(runs=runs, spec=spec) + AFTER
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def floor(runs: Path) -> float:
    """CPU seconds of ``json.loads`` over all lines of all records: what any reader of them pays."""
    text = (
        "import json, time, pathlib; start = time.process_time()\n"
        f"for path in pathlib.Path(r'{runs}').glob('*/*/*/cycles.jsonl'):\n"
        "    [json.loads(line) for line in path.read_bytes().splitlines()]\n"
        "print(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return float(done.stdout)


def write_spec(path: Path, n: int) -> None:
    """The sweep as a file."""
    import tomli_w

    found = sweep_of(n)
    path.write_text(tomli_w.dumps({"base": found.base, "runs": found.runs}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=2000)
    parser.add_argument("--keep", type=Path, help="make the study there and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = options.keep or Path(place)
        runs, spec = folder / "runs", folder / "study.toml"
        if not runs.exists():
            make_study(runs, options.n)
        write_spec(spec, options.n)
        print(
            f"{options.n} runs of {CYCLES} cycles; json.loads of all lines {floor(runs):.2f} s CPU"
        )
        for question in QUESTIONS:
            for times in ("first", "again"):
                seconds, megabytes = asked(question, runs, spec)
                print(f"{question:<10} {times}: {seconds:.2f} s CPU, {megabytes:+.0f} MB")


if __name__ == "__main__":
    main()
