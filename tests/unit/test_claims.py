"""Claims: the verdict follows from the interval, and only from what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from alharness.cli import call
from alharness.comparison.verdicts import Estimate, Verdict, as_junit, failed
from alharness.errors import UserError
from alharness.scaling.claims import (
    FILE,
    MEASUREMENTS,
    ClaimsFile,
    ScalingClaim,
    check,
    check_all,
    judge,
)
from alharness.scaling.study import Measurement, ScalingSpec, Study

SIZES = (1_000, 10_000, 100_000)


def study(networks: str = "trained", **exponents: float) -> Study:
    """Selections whose time and work grow as told; 'asal' prepares for 60 s."""
    found = []
    for name, exponent in exponents.items():
        for n in SIZES:
            prepared = 60.0 if name == "asal" else 0.0
            feature_bytes = 200 * n if name == "asal" else None
            found.append(
                Measurement(
                    kind="prepare", name=name, n=n, query_size=0, repeat=0,
                    seconds=prepared, feature_bytes=feature_bytes,
                )
            )  # fmt: skip
            for query_size in (10, 100):
                found += [
                    Measurement(
                        kind="select", name=name, n=n, query_size=query_size, repeat=repeat,
                        seconds=0.01 * n**exponent * (1 + 0.02 * repeat) * (query_size / 10) ** 0.1,
                        work={"seen": round(n**exponent)},
                    )
                    for repeat in range(3)
                ]  # fmt: skip
    return Study(ScalingSpec(networks=networks), {}, tuple(found))


def claim(kind: str, accept: tuple[float, float], **fields: object) -> ScalingClaim:
    return ScalingClaim.model_validate(
        {"id": "x", "where": "here", "text": "...", "kind": kind, "accept": accept, **fields}
    )


def test_a_counter_that_nobody_counts_is_not_zero() -> None:
    """A slip in its name would make "no pass over the pool" hold for everybody."""
    slip = claim("work_total", (0, 0), name="scan", counters=["pool_item_scored"])
    with pytest.raises(UserError, match=r"of the claim 'x' 'pool_item_scored'. Did you mean"):
        check(slip, {"s": study(scan=1.0)})
    assert check(slip, {}).word == "not measured"
    right = claim("work_total", (0, 0), name="scan", counters=["pool_items_scored"])
    assert check(right, {"s": study(scan=1.0)}).word == "holds"


@pytest.mark.parametrize(
    ("kind", "needed"),
    [("work_exponent", "counter"), ("share_of_pool", "counter"), ("work_total", "counters")],
)
def test_a_claim_on_work_names_the_work(tmp_path: Path, kind: str, needed: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(
        f'[[claim]]\nid = "x"\nwhere = "here"\ntext = "..."\nkind = "{kind}"\nname = "scan"\n'
        "accept = [0, 0]\n"
    )
    with pytest.raises(UserError, match=f"'x': {kind} needs '{needed}'"):
        ClaimsFile.read(path)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1.1, 1.9, "holds"), (0.5, 0.9, "fails"), (2.1, 3.0, "fails"), (0.9, 1.5, "undecided")],
)
def test_an_interval_across_the_border_decides_nothing(low: float, high: float, word: str) -> None:
    assert judge(Estimate((low + high) / 2, low, high, 5), (1.0, 2.0)) == word


@pytest.mark.parametrize(
    ("kind", "fields", "value"),
    [
        ("time_exponent", {"name": "scan"}, 1.0),
        ("time_exponent", {"name": "asal", "smallest": 1000}, 0.0),
        ("work_exponent", {"name": "scan", "counter": "seen"}, 1.0),
        ("share_of_pool", {"name": "scan", "counter": "seen"}, 1.0),
        ("work_total", {"name": "scan", "counters": ["seen", "bytes_read"]}, 100_000),
        ("time_ratio", {"name": "scan", "other": "asal", "n": 10_000}, 10_000),
        ("query_size_ratio", {"name": "scan", "n": 1000, "query_size": 100, "to_query_size": 10}, 1.26),
        ("transition", {"name": "asal", "other": "scan", "n": 10_000}, 0.588),
        ("feature_bytes", {"name": "asal"}, 200),
    ],
)  # fmt: skip
def test_every_kind_measures_what_it_says(
    kind: str, fields: dict[str, object], value: float
) -> None:
    found = check(
        claim(kind, (value - 0.1 * abs(value) - 0.1, value + 0.1 * abs(value) + 0.1), **fields),
        {"a": study(scan=1.0, asal=0.0)},
    )
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(value, rel=0.01, abs=1e-6)
    assert found.word == "holds"


def test_all_kinds_are_tested_above() -> None:
    assert set(MEASUREMENTS) == {
        "time_exponent", "work_exponent", "share_of_pool", "work_total", "time_ratio",
        "query_size_ratio", "transition", "feature_bytes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "core-set"}, "no select of 10 items by core-set"),
        ({"name": "scan", "query_size": 7}, "no select of 7 items by scan"),
        ({"name": "scan", "smallest": 5_000}, "fewer than three sizes"),
        ({"name": "scan", "study": "cnn"}, "no study cnn"),
    ],
)
def test_what_was_not_measured_has_no_verdict(fields: dict[str, object], reason: str) -> None:
    found = check(claim("time_exponent", (0, 2), **fields), {"timing/a": study(scan=1.0)})
    assert found.word == "not measured"
    assert reason in found.evidence


def test_the_cost_of_untrained_networks_decides_no_transition() -> None:
    wanted = claim("transition", (0, 1e9), name="asal", other="scan", n=1000)
    found = check(wanted, {"a": study("untrained", scan=1.0, asal=0.0)})
    assert found.word == "not measured"


def test_a_later_study_answers_what_the_first_cannot() -> None:
    wanted = claim("time_exponent", (0.9, 1.1), name="scan")
    found = check(wanted, {"a": study(asal=0.0), "b": study(scan=1.0)})
    assert found.word == "holds"
    assert "study b" in found.evidence


def test_only_broken_promises_count() -> None:
    promised = claim("time_exponent", (2, 3), name="scan", must=True)
    papers = claim("time_exponent", (2, 3), name="scan")
    verdicts = check_all([promised, papers], {"a": study(scan=1.0)})
    assert [v.word for v in verdicts] == ["fails", "fails"]
    assert failed(verdicts) == [verdicts[0]]


def test_the_checkouts_file_is_read_and_its_names_are_unique() -> None:
    content = ClaimsFile.read(FILE)
    assert len({c.id for c in content.claims}) == len(content.claims) >= 20
    named = {s.name for s in content.studies}
    assert {c.study for c in content.claims if c.study} <= named
    assert all(c.accept[0] <= c.accept[1] for c in content.claims)


GOOD = '[[claim]]\nid="a"\nwhere=""\ntext=""\nkind="time_exponent"\nname=""\naccept=[0,1]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim]\n", "not valid TOML"),
        ('[[claim]]\nid = "a"\n', "field required"),
        (
            '[[claim]]\nid="a"\nwhere=""\ntext=""\nkind="time_exponnent"\nname=""\naccept=[0,1]\n',
            "Did you mean 'time_exponent'",
        ),
        ('[[clam]]\nid="a"\n', "Unknown block 'clam'. Did you mean 'claim'"),
        (
            GOOD + 'counters=["a"]\ncountre="seen"\n',
            "key in .*'a'.*countre.*Did you mean 'counter'",
        ),
        (GOOD + GOOD, "two blocks .*claim.* are called 'a'"),
        (GOOD.replace("[0,1]", "[1,0]"), "which nothing can be"),
        ('[claim]\nid="a"\n', "two brackets each"),
        ('[[study]]\nname="s"\nrepaets=3\n', "Did you mean 'repeats'"),
    ],
)
def test_a_bad_file_is_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        ClaimsFile.read(path)
    with pytest.raises(UserError, match="No claims at"):
        ClaimsFile.read(tmp_path / "none.toml")


# --- as CI uses it ---------------------------------------------------------------------------------

MINE = """
[[claim]]
id = "scan-linear"
where = "ours"
text = "A scan takes O(n) & no <more>"
kind = "time_exponent"
name = "scan"
accept = [0.9, 1.1]
must = true

[[claim]]
id = "mine-constant"
where = "ours"
text = "My own strategy takes O(1)"
kind = "time_exponent"
name = "mine"
accept = [-0.1, 0.1]
must = true

[[claim]]
id = "scan-square"
where = "theirs"
text = "A scan takes O(n^2)"
kind = "time_exponent"
name = "scan"
accept = [1.9, 2.1]
"""


def on_disk(folder: Path, made: Study) -> Path:
    folder.mkdir()
    about = {"spec": made.spec.model_dump(mode="json"), "machine": {"cpu": "a", "threads": 1}}
    (folder / "study.json").write_text(json.dumps(about))
    lines = "".join(m.model_dump_json() + "\n" for m in made.measurements)
    (folder / "timing.jsonl").write_text(lines)
    return folder


@pytest.fixture
def check_mine(tmp_path: Path) -> Callable[..., int]:
    (tmp_path / "mine.toml").write_text(MINE)
    folder = on_disk(tmp_path / "study", study(scan=1.0))
    given = ["claims", "check", str(folder), "--claims", str(tmp_path / "mine.toml")]
    return lambda *options: call([*given, *map(str, options)])


def test_what_is_not_measured_fails_when_asked_to(
    check_mine: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_mine("--quiet") == 0
    assert check_mine("--quiet", "--strict") == 1
    assert "claims not measured: mine-constant" in capsys.readouterr().err


def test_verdicts_for_programs(check_mine: Callable[..., int], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdicts.json"
    assert check_mine("--json", path) == 0
    content = json.loads(path.read_text())
    assert content["passed"] is True
    by_id = {item["id"]: item for item in content["claims"]}
    assert {name: item["verdict"] for name, item in by_id.items()} == {
        "scan-linear": "holds",
        "mine-constant": "not measured",
        "scan-square": "fails",
    }
    assert by_id["scan-linear"]["value"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("strict", "failures"), [(False, []), (True, ["mine-constant"])])
def test_verdicts_for_ci(
    check_mine: Callable[..., int], tmp_path: Path, strict: bool, failures: list[str]
) -> None:
    path = tmp_path / "verdicts.xml"
    check_mine("--junit", path, *(["--strict"] if strict else []))
    root = ElementTree.parse(path).getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == ["scan-linear", "mine-constant", "scan-square"]
    assert [name for name, case in cases.items() if case.find("failure") is not None] == failures
    assert root.get("failures") == str(len(failures))
    assert "no <more>" in (cases["scan-linear"].findtext("system-out") or "")
    skipped = cases["scan-square"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "fails"  # theirs, which need not hold


def test_what_xml_cannot_hold_is_left_out_of_the_file_only() -> None:
    odd = claim("time_exponent", (0, 1), name="x").model_copy(update={"text": "a\x00\ud800b"})
    root = ElementTree.fromstring(as_junit([Verdict(odd, "holds", "\x1b[1mbold")]))
    assert root.findtext(".//system-out") == "ab\n[1mbold"


def test_numbers_that_json_lacks() -> None:
    odd = claim("transition", (0, 1), name="x")
    told = Verdict(odd, "undecided", "", Estimate(3.0, float("nan"), float("inf"), 3)).as_dict()
    assert (told["value"], told["low"], told["high"]) == (3.0, None, "inf")


def test_a_damaged_study_stops_no_other(
    check_mine: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = on_disk(tmp_path / "broken", study(asal=0.0))
    for damage in ("{", '{"spec": {"repaets": 1}, "machine": {}}', "[]"):
        (broken / "study.json").write_text(damage)
        assert check_mine(broken) == 1
        printed = capsys.readouterr()
        assert "holds             scan-linear" in printed.out
        (line,) = printed.err.splitlines()
        assert "left out: " in line
        assert "study.json' is damaged" in line
