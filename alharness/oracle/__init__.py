"""The sole holder of the hidden targets, the annotators of synthetic items, and a person's desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.border.vault import Vault as Vault
    from alharness.oracle.oracle import Annotator as Annotator
    from alharness.oracle.oracle import Oracle as Oracle
    from alharness.oracle.oracle import Person as Person
    from alharness.oracle.oracle import as_stored as as_stored
    from alharness.oracle.oracle import first_change as first_change
    from alharness.oracle.oracle import hidden as hidden
    from alharness.oracle.oracle import open_oracle as open_oracle
    from alharness.oracle.settings import OracleSettings as OracleSettings

__getattr__ = from_files(__name__, homes_in(__file__))
