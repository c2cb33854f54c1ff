"""Figures depend on nothing that a user set for their own: backend, style, LaTeX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DRAW = """
import os, sys
from pathlib import Path
before = dict(os.environ)
from alharness.pictures.charts import Chart
from alharness.pictures.grids import save_curve
chart = Chart("c", "A $chart", ("x",), ((1,),), lambda figure: figure.subplots().plot([1, 2]), (4, 3))
sys.stdout.write(chart.svg)
save_curve(Path(sys.argv[1]), ("step", "loss"), [(0, 1.0), (1, 0.5)])
import matplotlib
assert matplotlib.rcParams["lines.linewidth"] == float(sys.argv[2]), "theirs is theirs afterwards"
assert os.environ["MPLBACKEND"] == before["MPLBACKEND"], "and so is the variable"
"""


def drawn(tmp_path: Path, backend: str, linewidth: float = 1.5, **more: str) -> tuple[str, bytes]:
    """A chart and a curve, drawn by a process with these variables."""
    picture = tmp_path / "curve.png"
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(picture), str(linewidth)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": backend, **more},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, picture.read_bytes()


def test_neither_backend_nor_style_of_the_user_has_a_say(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "text.usetex: True\nlines.linewidth: 9\nfont.family: monospace\nfigure.dpi: 500\n"
    )
    plain = drawn(tmp_path, "module://matplotlib_inline.backend_inline")  # as in a notebook
    assert drawn(tmp_path, "no-such-backend", linewidth=9, MATPLOTLIBRC=str(tmp_path)) == plain
