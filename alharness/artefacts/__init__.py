"""The artefact store: what is costly and reusable, built once and shared by all strategies and seeds."""

from __future__ import annotations

from alharness.artefacts.store import (
    Artefact,
    ArtefactStore,
    artefact_key,
    default_store_root,
)
from alharness.artefacts.supply import Maker, Supply
from alharness.artefacts.tensors import read_notes, read_tensors, write_tensors
from alharness.files import sha256_of

__all__ = [
    "Artefact",
    "ArtefactStore",
    "Maker",
    "Supply",
    "artefact_key",
    "default_store_root",
    "read_notes",
    "read_tensors",
    "sha256_of",
    "write_tensors",
]
