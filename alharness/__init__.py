"""alharness: a benchmark harness for pool-based deep active learning.

Importing the package is cheap on purpose: nothing here imports torch, mlflow or a plug-in.
"""

from __future__ import annotations

__version__ = "0.2.0"
