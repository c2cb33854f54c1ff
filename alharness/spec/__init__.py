"""Specifications of runs: from what a user said to a spec in which nothing is left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness.lazily import from_files, homes_in

if TYPE_CHECKING:
    from alharness.spec.binding import STARTS as STARTS
    from alharness.spec.binding import Bound as Bound
    from alharness.spec.binding import as_called as as_called
    from alharness.spec.binding import bind as bind
    from alharness.spec.binding import parse_set as parse_set
    from alharness.spec.binding import rebind as rebind
    from alharness.spec.binding import resolve as resolve
    from alharness.spec.binding import sections_with as sections_with
    from alharness.spec.devices import current_device as current_device
    from alharness.spec.devices import device_kind as device_kind
    from alharness.spec.devices import resolve_device as resolve_device
    from alharness.spec.model import PROTOCOL as PROTOCOL
    from alharness.spec.model import SECTIONS as SECTIONS
    from alharness.spec.model import SETTINGS as SETTINGS
    from alharness.spec.model import TOP_LEVEL as TOP_LEVEL
    from alharness.spec.model import RunSpec as RunSpec
    from alharness.spec.model import protocol_fields as protocol_fields

__getattr__ = from_files(__name__, homes_in(__file__))
