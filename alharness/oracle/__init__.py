"""The sole holder of the hidden targets, the annotators of synthetic items, and a person's desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files
from alharness.oracle.settings import OracleSettings

if TYPE_CHECKING:
    from alharness.border.vault import Vault
    from alharness.oracle.oracle import (
        Annotator,
        Oracle,
        Person,
        as_stored,
        first_change,
        hidden,
        open_oracle,
    )

__all__ = [
    "Annotator",
    "Oracle",
    "OracleSettings",
    "Person",
    "Vault",
    "as_stored",
    "first_change",
    "hidden",
    "open_oracle",
]

_HOMES = dict.fromkeys(__all__, "alharness.oracle.oracle") | {"Vault": "alharness.border.vault"}
__getattr__ = from_files(__name__, _HOMES)
