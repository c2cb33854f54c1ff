"""Matplotlib as every figure takes it: nothing that a user set for figures of their own has a say.

The only importer of matplotlib. A figure has the harness's style over matplotlib's defaults, whatever
``matplotlibrc`` says (``text.usetex`` would need LaTeX), and a canvas of its own, whatever ``MPLBACKEND``
says; no global state is left behind.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

try:
    importlib.import_module("matplotlib")
except ValueError:  # it knows no backend of the name in MPLBACKEND, which nothing here needs
    named = os.environ.pop("MPLBACKEND")
    for half_made in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[half_made]
    try:
        importlib.import_module("matplotlib")
    finally:
        os.environ["MPLBACKEND"] = named

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes as Axes
from matplotlib.axis import Axis as Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure
from matplotlib.ticker import FuncFormatter as FuncFormatter
from matplotlib.ticker import LogLocator as LogLocator
from matplotlib.ticker import NullFormatter as NullFormatter


@contextmanager
def style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's defaults with some settings, while a figure is made, drawn and written."""
    with rc_context():
        rcdefaults()
        # Its newer annotations list every key as a literal, which its older ones do not know.
        rcParams.update(cast(Any, settings or {}))
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, without pyplot: no window system, and nobody else holds it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
