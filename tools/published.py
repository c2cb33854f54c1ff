"""Tables of published studies, judged from their records: ``published.py [NAME ...]``.

Every ``benchmarks/results/records/NAME.tar.xz`` has a page ``benchmarks/results/NAME.md``; what stands
between its marks is what ``alharness compare`` says of the records today. A test holds all pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import alharness

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

START, END = "<!-- made from the records -->\n", "<!-- end -->"


def studies() -> list[str]:
    """Names of all published studies."""
    return sorted(path.name.removesuffix(".tar.xz") for path in RESULTS.glob("records/*.tar.xz"))


def tables(name: str) -> str:
    """What is said of a study, in Markdown, without the line that names the file."""
    text = alharness.compare(RESULTS / "records" / f"{name}.tar.xz").text("md")
    return text.partition("\n")[2].strip() + "\n"


def made(name: str) -> str:
    """The page with the tables that its records give."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    if not start or END not in rest:
        raise ValueError(f"{name}.md lacks its marks: {START!r} and {END!r}")
    return before + start + "\n" + tables(name) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    for study in sys.argv[1:] or studies():
        page = made(study)
        (RESULTS / f"{study}.md").write_text(page, encoding="utf-8")
