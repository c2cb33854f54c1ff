"""``python -m mutation [--seed 1] [--sample 200] [--rooms engine,tasks] [--budget 60] [--out FOLDER]``

Draws the map of tests once, tries each mutant of the sample, and writes a page: rates and survivors.
What was tried before in the same folder, of the same text, is not tried again; Ctrl-C loses one mutant."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from mutation.places import ROOMS, ROOT, sample
from mutation.report import Outcome, accepted, page
from mutation.trials import draw_map, enter, mapped, settle, shadow, trials, warm


def main() -> None:
    asked = argparse.ArgumentParser(prog="mutation", description=__doc__)
    asked.add_argument("--seed", type=int, default=1, help="which mutants are drawn")
    asked.add_argument(
        "--sample", type=int, default=200, help="mutants in all, as many of each room"
    )
    asked.add_argument("--rooms", default=",".join(ROOMS), help="rooms, with commas")
    asked.add_argument(
        "--budget", type=float, default=60, help="CPU seconds of tests for one mutant"
    )
    asked.add_argument("--tests", help="folders of tests, with commas; without it all of them")
    asked.add_argument("--again", action="store_true", help="try what survived before once more")
    asked.add_argument("--out", type=Path, default=ROOT / "build" / "mutation")
    asked.add_argument("--list", action="store_true", help="only say what would be tried")
    given = asked.parse_args()

    drawn = sample(given.sample, given.seed, given.rooms.split(","))
    if given.list:
        for place in drawn:
            print(f"{place.file}:{place.line}  {place.before}  ->  {place.after}")
        return
    every = sorted(path.parent.name for path in (ROOT / "tests").glob("*/test_*.py"))
    folders = given.tests.split(",") if given.tests else list(dict.fromkeys(every))
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = out / "outcomes.jsonl"
    before = Outcome.read(results)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        root = shadow(Path(folder).resolve() / "tree")
        warm()
        enter(root)
        draw_map(root, out / "map", folders)
        settle(root)
        known = {one.key for one in before if one.noticed or not given.again}
        left = [place for place in drawn if (place.file, place.before, place.after) not in known]
        print(f"{len(drawn)} mutants, {len(drawn) - len(left)} tried before")
        for entry in trials(root, left, mapped(root, out / "map", folders), given.budget):
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(
                f"{entry['outcome']:<12} {entry['file']}:{entry['line']}  {entry['seconds']} s",
                flush=True,
            )
    wanted = {(place.file, place.before, place.after) for place in drawn}
    seen = [outcome for outcome in Outcome.read(results) if outcome.key in wanted]
    text = page(seen, accepted(), seed=given.seed, asked=given.sample, budget=given.budget)
    (out / "mutation.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
