"""Prints what the counts say of the promised figures on a card: see ``acceptance/roofline.py``.

python benchmarks/roofline.py            the table, as Markdown
python benchmarks/roofline.py --write    the golden lists of kernels, tests/device/kernels.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "device" / "kernels.json"


def main(arguments: list[str]) -> None:
    """The table, or the golden file."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "device")]
    from acceptance import roofline

    with roofline.weightless():
        if arguments != ["--write"]:
            print(roofline.table(roofline.forecasts()))
            return
        lists = {name: roofline.listed(kernels) for name, kernels in roofline.steps().items()}
    version = ".".join(torch.__version__.split(".")[:2])
    GOLDEN.write_text(json.dumps({"torch": version, "steps": lists}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
