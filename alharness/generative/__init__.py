"""Generators and auto-encoders of a task's images (Sec. 3.1, 3.2).

Settings are imported here; what needs torch is imported when it is first asked for, because a run's
specification names settings and ``alharness --help`` must stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from alharness.generative.settings import AutoencoderSettings, GeneratorSettings

if TYPE_CHECKING:
    from alharness.generative.autoencoder import Autoencoder, obtain_autoencoder
    from alharness.generative.generator import Generator, obtain_generator

__all__ = [
    "Autoencoder",
    "AutoencoderSettings",
    "Generator",
    "GeneratorSettings",
    "obtain_autoencoder",
    "obtain_generator",
]

_HOMES = {
    "Autoencoder": "alharness.generative.autoencoder",
    "obtain_autoencoder": "alharness.generative.autoencoder",
    "Generator": "alharness.generative.generator",
    "obtain_generator": "alharness.generative.generator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
