"""The artefact store: what is costly and reusable, built once and shared by all strategies and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.artefacts.store import Artefact as Artefact
    from alharness.artefacts.store import ArtefactStore as ArtefactStore
    from alharness.artefacts.store import artefact_key as artefact_key
    from alharness.artefacts.store import default_store_root as default_store_root
    from alharness.artefacts.supply import Maker as Maker
    from alharness.artefacts.supply import Supply as Supply
    from alharness.artefacts.tensors import read_notes as read_notes
    from alharness.artefacts.tensors import read_tensors as read_tensors
    from alharness.artefacts.tensors import write_tensors as write_tensors
    from alharness.files import sha256_of as sha256_of

__getattr__ = from_files(__name__, homes_in(__file__))
