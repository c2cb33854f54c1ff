"""The sole holder of the hidden targets, the annotators of synthetic items, and a person's desk."""

from __future__ import annotations

from alharness.border.vault import Vault
from alharness.oracle.oracle import (
    Annotator,
    Oracle,
    OracleSettings,
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
