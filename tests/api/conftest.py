"""The fixtures that ``alharness.pytest`` gives; a user's conftest names the plug-in instead."""

from __future__ import annotations

from alharness.pytest import selection as selection
