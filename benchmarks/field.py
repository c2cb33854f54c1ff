"""The field's studies by one command: ``field.py [SPEC ...] [-- OPTIONS OF alharness sweep]``.

Writes the tables that scikit-learn brings with it to ``tables/`` below the working folder, and carries out
the specs of ``benchmarks/specs/field`` one after another. The same command again goes on where it was
stopped: finished runs are not run again. A study whose embeddings are not there is left out and named.
``--tables`` writes the tables and stops.

    python benchmarks/field.py -- --jobs 2
    python benchmarks/field.py tables-linear -- --runs-dir runs-field --executor ray
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sklearn import datasets

SPECS = Path(__file__).parent / "specs" / "field"

#: Tables that come with scikit-learn: nothing is downloaded.
TABLES = ("iris", "wine", "breast_cancer")


def write_tables(folder: Path) -> None:
    """One CSV file a table, with the names of the classes in the column ``target``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        loaded = getattr(datasets, f"load_{name}")(as_frame=True)
        table = loaded.data.assign(target=[str(loaded.target_names[t]) for t in loaded.target])
        table.to_csv(folder / f"{name.replace('_', '-')}.csv", index=False)


def files_of(spec: Path) -> list[str]:
    """Files of one's own that a study reads, relative to the working folder."""
    return sorted(set(re.findall(r'"(?:npz|table):([^"]+)"', spec.read_text(encoding="utf-8"))))


def main(arguments: list[str]) -> int:
    """0 where every study was carried out; else the exit code of the first that failed, after all of them."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    named, options = arguments[:at], arguments[at + 1 :]
    write_tables(Path("tables"))
    if named == ["--tables"]:
        return 0
    known = {path.stem: path for path in sorted(SPECS.glob("*.toml"))}
    unknown = [name for name in named if name not in known]
    if unknown:
        print(f"No study '{unknown[0]}'. There are: {', '.join(known)}.")
        return 2
    failed = 0
    for name in named or known:
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
