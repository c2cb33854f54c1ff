"""Generators and auto-encoders of a task's images (Sec. 3.1, 3.2).

Settings are imported here; what needs torch is imported when it is first asked for, because a run's
specification names settings and ``alharness --help`` must stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.generative.settings import AutoencoderSettings, GeneratorSettings
from alharness.lazily import from_files

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

__getattr__ = from_files(__name__, _HOMES)
