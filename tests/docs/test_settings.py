"""docs/decisions.md, section 12: every setting that may be made has a reason there, and none has gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from alharness import registry
from alharness.registry import STRATEGIES
from alharness.spec import SECTIONS, TOP_LEVEL, RunSpec

PAGE = Path(__file__).parents[2] / "docs" / "decisions.md"


def reasons() -> dict[str, str]:
    section = PAGE.read_text(encoding="utf-8").partition("## 12. ")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z0-9_.-]+)` \| (.*) \|$", section, flags=re.M))


def settings() -> Iterator[str]:
    yield from TOP_LEVEL
    for section in SECTIONS[2:]:
        model = RunSpec.model_fields[section].annotation
        assert model is not None
        yield from (f"{section}.{name}" for name in model.model_fields)  # type: ignore[attr-defined]


def parameters() -> Iterator[tuple[str, str]]:
    """Strategies of this distribution and their parameters."""
    for name in registry.names(STRATEGIES):
        if registry.provider(STRATEGIES, name).startswith("alharness "):
            yield from (
                (name, field) for field in registry.strategy_class(name).Parameters.model_fields
            )


def home(strategy: str, field: str, told: dict[str, str]) -> str | None:
    """The row of a parameter: that of the strategy, or of the one whose name it continues."""
    parts = strategy.split("-")
    names = ["-".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((f"{name}.{field}" for name in names if f"{name}.{field}" in told), None)


def test_every_setting_has_its_reason() -> None:
    told = reasons()
    assert [name for name in settings() if len(told.get(name, "")) < 15] == []


def test_every_parameter_of_our_strategies_has_its_reason() -> None:
    told = reasons()
    without = {f"{name}.{field}" for name, field in parameters() if not home(name, field, told)}
    # A synthetic baseline beside GAAL takes no parameter of its own name.
    assert without == set()


def test_no_row_tells_of_a_setting_that_is_gone() -> None:
    told = reasons()
    known = {*settings(), *filter(None, (home(name, field, told) for name, field in parameters()))}
    assert set(told) - known == set()
