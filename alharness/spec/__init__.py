"""Specifications of runs: from what a user said to a spec in which nothing is left open."""

from __future__ import annotations

from alharness.spec.binding import (
    STARTS,
    Bound,
    as_called,
    bind,
    parse_set,
    rebind,
    resolve,
    sections_with,
)
from alharness.spec.devices import current_device, device_kind, resolve_device
from alharness.spec.model import (
    PROTOCOL,
    SECTIONS,
    SETTINGS,
    TOP_LEVEL,
    RunSpec,
    protocol_fields,
)

__all__ = [
    "PROTOCOL",
    "SECTIONS",
    "SETTINGS",
    "STARTS",
    "TOP_LEVEL",
    "Bound",
    "RunSpec",
    "as_called",
    "bind",
    "current_device",
    "device_kind",
    "parse_set",
    "protocol_fields",
    "rebind",
    "resolve",
    "resolve_device",
    "sections_with",
]
