"""Values that are checked once and never change: the base of settings, parameters and records."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A pydantic model that is frozen and refuses names that it does not have.

    Its validator is built when it first checks something: who only asks for names, defaults and
    descriptions (``alharness show``) does not wait for it, nor for what builds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
