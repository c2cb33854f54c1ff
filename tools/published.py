"""Tables of published studies, judged from their records: ``published.py [NAME ...]``.

Every ``benchmarks/results/records/NAME.tar.xz``, or folder ``NAME`` with an archive for each data set, has a
page ``benchmarks/results/NAME.md``; what stands between its marks is what ``alharness compare`` says of the
records today. A test holds all pages.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import alharness

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

#: Name of a study -> its archive, or its folder of archives.
STUDIES = {
    path.name.removesuffix(".tar.xz"): path for path in sorted((RESULTS / "records").iterdir())
}

#: Around what is made; a page may hold the strategies against another one than ``random``, too.
MARKED = re.compile(
    r"(?P<start><!-- made from the records(?:, against (?P<against>[^ ]+))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def tables(name: str, against: str | None = None) -> str:
    """What is said of a study, in Markdown, without the line that names the file."""
    found = alharness.compare(published=STUDIES[name], against=against)
    return found.text("md").partition("\n")[2].strip() + "\n"


def made(name: str) -> str:
    """The page with the tables that its records give."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise ValueError(
            f"{name}.md lacks its marks: <!-- made from the records --> and <!-- end -->"
        )
    return MARKED.sub(
        lambda found: f"{found['start']}\n{tables(name, found['against'])}\n{found['end']}", text
    )


if __name__ == "__main__":
    for study in sys.argv[1:] or STUDIES:
        page = made(study)
        (RESULTS / f"{study}.md").write_text(page, encoding="utf-8")
