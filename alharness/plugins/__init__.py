"""Names -> objects, through entry points; nothing is imported before it is chosen.

A name is one of

* an entry point of the group ``alharness.strategies``, ``alharness.tasks``, ``alharness.learners`` or
  ``alharness.stopping`` (ours like anyone's),
* ``package.module:Class``, for a class that is importable but not installed as a plug-in,
* ``./file.py:Class``, for a class in a file,
* any of these with ``:ARGUMENT`` behind it, for plug-ins that take one (``folder:PATH``,
  ``augmented:mnist-two:1000000``, ``subset:500:max-entropy``, ``./mine.py:Task:ARGUMENT``).
"""

from __future__ import annotations

from alharness.plugins.loading import describe, forget_files, load, require_name
from alharness.plugins.names import (
    LEARNERS,
    MODELS,
    STOPPING,
    STRATEGIES,
    TASKS,
    InstalledPlugin,
    attribute_of,
    distribution_of,
    find,
    listings,
    names,
    provider,
    split,
)
from alharness.plugins.source import INSTALLED, identity_of, libraries_of

__all__ = [
    "INSTALLED",
    "LEARNERS",
    "MODELS",
    "STOPPING",
    "STRATEGIES",
    "TASKS",
    "InstalledPlugin",
    "attribute_of",
    "describe",
    "distribution_of",
    "find",
    "forget_files",
    "identity_of",
    "libraries_of",
    "listings",
    "load",
    "names",
    "provider",
    "require_name",
    "split",
]
