"""What stands twice, because tools want it in files of their own, says the same in both."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path

import yaml

import alharness

ROOT = Path(__file__).parents[2]


def tox_settings() -> configparser.ConfigParser:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    return tox


def test_the_site_is_built_with_the_extra_of_that_name() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    deps = tox_settings()["testenv:docs"]["deps"].split("\n")
    assert [dep for dep in deps if dep] == extras["optional-dependencies"]["docs"]


def test_pre_commit_runs_what_tox_runs() -> None:
    tox = tox_settings()
    wanted = [
        command.removesuffix(" .")
        for name in ("testenv:lint", "testenv:type")
        for command in tox[name]["commands"].split("\n")
        if command
    ]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in hooks] == wanted


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == alharness.__version__
    assert "Adversarial Sampling" in citation["references"][0]["title"]
