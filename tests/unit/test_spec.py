"""Specs: what a user says, layer on layer, becomes one frozen value with nothing left open."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, Field

from alharness.artefacts.keys import identity
from alharness.errors import UserError
from alharness.files import merge, read_toml
from alharness.spec import RunSpec, parse_set, protocol_fields, resolve, resolve_device

BASE = {"task": "digits-two", "strategy": "asal-auto"}


def test_defaults_come_from_the_plugins_and_the_models() -> None:
    spec = resolve(BASE)
    assert (spec.seed, spec.data_seed, spec.profile, spec.device) == (0, 0, "quick", "cpu")
    assert (spec.budget, spec.query_size, spec.initial_size) == (100, 10, 20)
    assert spec.strategy.parameters["latent_steps"] == 100  # Sec. 4.2
    assert spec.strategy.parameters["latent_lr"] == 0.02  # decisions 1.6
    assert spec.strategy.parameters["pca_dims"] == 50  # Sec. 4.2
    assert spec.n_cycles == 8


def test_table_1_in_the_paper_profile() -> None:
    rows = {
        "mnist-two": (500, 10, 50, 45),
        "cifar10-two": (1000, 10, 50, 95),
        "mnist-ten": (10_000, 50, 100, 198),
        "cifar10-ten": (30_000, 1000, 1000, 29),
        "celeba-bangs": (
            2000,
            10,
            100,
            190,
        ),  # Table 1 prints Initial 1000; its 190 cycles need 100
        "svhn": (50_000, 1000, 1000, 49),
        "lsun": (30_000, 1000, 1000, 29),
    }
    for task, expected in rows.items():
        spec = resolve({"task": task, "strategy": "random", "profile": "paper"})
        found = (spec.budget, spec.query_size, spec.initial_size, spec.n_cycles)
        assert found == expected, task


def test_the_data_seed_follows_the_seed_unless_given() -> None:
    assert resolve({**BASE, "seed": 3}).data_seed == 3
    assert resolve({**BASE, "seed": 3, "data_seed": 5}).data_seed == 5


def test_the_run_key_knows_every_setting_and_nothing_else() -> None:
    keys = {
        resolve(merge(BASE, more)).run_key
        for more in (
            {},
            {"seed": 1},
            {"data_seed": 1},
            {"learner": {"c": 0.5}},
            {"strategy": {"name": "asal-auto", "latent_lr": 0.1}},
            {"generator": {"seed": 1}},
            {"profile": "paper"},
        )
    }
    assert len(keys) == 7
    same = {"strategy": {"name": "asal-auto", "latent_lr": 0.02}, "seed": 0}
    assert resolve(merge(BASE, same)).run_key == resolve(BASE).run_key


def test_a_name_stays_where_a_setting_of_it_is_laid_over() -> None:
    """``strategy = "asal-gray"`` in a file, and ``--set strategy.latent_steps=0``: both hold."""
    for section, name, setting in (
        ("strategy", "asal-gray", "latent_steps=0"),
        ("task", "digits-ten", "positive='3'"),
        ("initial", "core-set", "features='items'"),
    ):
        laid = merge(BASE, {section: name}, parse_set(f"{section}.{setting}"))
        chosen = getattr(resolve(laid), section)
        key, _, value = setting.partition("=")
        assert (chosen.name, str(chosen.parameters[key])) == (name, value.strip("'"))
    with pytest.raises(UserError, match=r"learner\.name"):
        resolve(merge(BASE, {"learner": "mlp"}, parse_set("learner.width=16")))


def test_a_spec_survives_its_own_toml(tmp_path: Path) -> None:
    spec = resolve(merge(BASE, {"learner": {"c": 0.5}, "seed": 4}))
    path = tmp_path / "spec.toml"
    path.write_text(spec.to_toml())
    assert RunSpec.model_validate(read_toml(path)) == spec
    assert resolve(read_toml(path)) == spec
    assert tomllib.loads(spec.to_toml())["strategy"]["name"] == "asal-auto"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learner.min_steps=500", {"learner": {"min_steps": 500}}),
        ("learner.c=0.1", {"learner": {"c": 0.1}}),
        ("strategy.score=margin", {"strategy": {"score": "margin"}}),
        ('strategy.score="margin"', {"strategy": {"score": "margin"}}),
        ("strategy.keep_best=false", {"strategy": {"keep_best": False}}),
        ("seed=3", {"seed": 3}),
        ("task.path=a=b", {"task": {"path": "a=b"}}),
    ],
)
def test_set_reads_toml_values_and_bare_words(text: str, expected: object) -> None:
    assert parse_set(text) == expected


@pytest.mark.parametrize("text", ["learner.c", "=3", "learner..c=1", ""])
def test_set_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        parse_set(text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"strategy": "asal-atuo"}, "Did you mean 'asal-auto'"),
        ({"task": "minst-two"}, "Did you mean 'mnist-two'"),
        ({"learner": {"min_stepz": 5}}, r"'learner.min_stepz'. Did you mean 'learner.min_steps'"),
        ({"strategy": {"name": "asal-auto", "latent_lrr": 1}}, "strategy.latent_lrr"),
        ({"strategy": {"name": "asal-auto", "latent_lrr": 1}}, "Did you mean 'strategy.latent_lr'"),
        ({"strategy": {"name": "max-entropy", "k": 1}}, "'strategy.k': 'strategy' has none. Leave"),
        ({"task": {"name": "faces-bangs", "n_pol": 9}}, "'task.n_pol'. Did you mean 'task.n_pool'"),
        ({"learnr": {"c": 1}}, "Unknown setting 'learnr'"),
        ({"learner": 3}, "'learner' is a section"),
        ({"profile": "quik"}, "Did you mean 'quick'"),
        ({"device": "xpu:0"}, "Unknown device 'xpu:0'. Intel's GPUs have not been tried"),
        ({"device": "mps"}, "Unknown device 'mps'. Apple's GPU has no float64"),
        ({"device": "cud"}, "Unknown device 'cud'. Did you mean 'cuda'"),
        ({"seed": -1}, "'seed' is not valid"),
        ({"seed": "x"}, "'seed' is not valid.*found 'x'"),
        ({"budget": 10}, r"budget \(10\) counts the initial set.*20"),
        ({"query_size": 0}, "'query_size' is not valid"),
        ({"learner": {"c": -1}}, "'learner.c' is not valid.*greater than 0"),
        ({"task": None}, "No data set given. Use --dataset"),
        ({"strategy": None}, "No strategy given. Use --strategy"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(more: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve({**BASE, **more})


@pytest.mark.parametrize(
    ("content", "message"), [("a = = 3", "not valid TOML"), (None, "does not exist")]
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "spec.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"{path}.*{message}"):
        read_toml(path)


def test_protocol_fields_leave_out_what_may_differ() -> None:
    one = protocol_fields(resolve(BASE), "f")
    assert one == protocol_fields(
        resolve({"task": "digits-two", "strategy": "random", "seed": 9}), "f"
    )
    other = protocol_fields(resolve({**BASE, "learner": {"c": 2.0}}), "f")
    assert [key for key in one if one[key] != other[key]] == ["learner"]
    assert protocol_fields(resolve(BASE), "g")["task_fingerprint"] != one["task_fingerprint"]


def test_a_setting_that_is_added_later_renames_no_run() -> None:
    class Before(BaseModel):
        width: int = 1

    class After(Before):
        dropout: float = Field(0.0, json_schema_extra={"added": "0.2"})

    assert identity(After()) == identity(Before())
    assert identity(After(dropout=0.5)) == {"width": 1, "dropout": 0.5}


@pytest.mark.parametrize(
    ("built_for", "visible", "reason"),
    [
        (None, None, "a build for CPUs alone"),
        ("13.0", "", "CUDA_VISIBLE_DEVICES='' hides"),
        ("13.0", None, r"built for CUDA 13\.0 and finds no card, or no driver"),
    ],
    ids=["cpu-build", "hidden", "no-driver"],
)
def test_where_there_is_no_gpu_the_reason_is_said(
    built_for: str | None,
    visible: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UserError, match=f"No CUDA device is available here: .*{reason}"):
        resolve_device("cuda")
    monkeypatch.setattr("alharness.spec.devices._CARDS", [str(tmp_path / "none")])
    assert resolve_device("auto") == "cpu"  # without a word where there is no card
    monkeypatch.setattr("alharness.spec.devices._CARDS", [str(tmp_path)])
    with pytest.warns(
        UserWarning, match=f"torch cannot use, and device=auto takes the CPU.*{reason}"
    ):
        assert resolve_device("auto") == "cpu"


def test_a_run_with_packed_fits_is_read_and_not_begun() -> None:
    """Version 0.2.0 trained networks of several runs side by side; their keys stay."""
    learner = {"kind": "mlp", "pack": 3}
    with pytest.raises(UserError, match=r"learner.pack=3: .* by version 0\.2\.0 alone"):
        resolve({**BASE, "learner": learner})
    alone = resolve({**BASE, "learner": {"kind": "mlp"}})
    written = alone.model_dump(mode="json")
    written["learner"]["pack"] = 3
    packed = RunSpec.model_validate(written)
    assert packed.learner.pack == 3
    assert packed.run_key != alone.run_key
