"""The oldest versions that ``pyproject.toml`` allows, as constraints for pip: ``lowest.py FILE``.

What a bound says is true only while somebody runs the tests with it: ``tox -e lowest``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

#: What the tests need beside the package itself.
EXTRA = "test"

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,]+\])?\s*(?P<bounds>[^;]*)")


def lowest(requirement: str) -> tuple[str, str]:
    """Name and oldest version of a requirement.

    Raises:
        ValueError: it has not exactly one lower bound.
    """
    found = REQUIREMENT.match(requirement)
    bounds = [] if found is None else found["bounds"].split(",")
    versions = [bound.strip()[2:].strip() for bound in bounds if bound.strip().startswith(">=")]
    if found is None or len(versions) != 1:
        raise ValueError(f"expected one lower bound (NAME>=VERSION), found {requirement!r}")
    return found["name"].lower(), versions[0]


def bounds() -> dict[str, str]:
    """Oldest version by name, of all that an installation for the tests needs."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"][EXTRA]]
    return dict(map(lowest, needed))


if __name__ == "__main__":
    constraints = [f"{name}=={version}" for name, version in bounds().items()]
    Path(sys.argv[1]).write_text("\n".join(constraints) + "\n", encoding="utf-8")
