"""Generators and auto-encoders of a task's images (Sec. 3.1, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.generative.autoencoder import Autoencoder as Autoencoder
    from alharness.generative.autoencoder import obtain_autoencoder as obtain_autoencoder
    from alharness.generative.generator import Generator as Generator
    from alharness.generative.generator import obtain_generator as obtain_generator
    from alharness.generative.settings import AutoencoderSettings as AutoencoderSettings
    from alharness.generative.settings import GeneratorSettings as GeneratorSettings

__getattr__ = from_files(__name__, homes_in(__file__))
