"""The project's own files agree with each other: versions, dependencies and their locks."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
GROUPS: dict[str, list[str]] = PYPROJECT["dependency-groups"]
LOCKS = ["requirements.lock", "bench/requirements.lock", "deploy/requirements.lock", "deploy/build.lock"]
NPM_LOCKS = [
    "bench/package-lock.json",
    "tests/interop/sdk/package-lock.json",
    "tests/support/chromium/package-lock.json",
    "tests/support/postgres_versions/package-lock.json",
]


def pinned(lock: str) -> dict[str, Version]:
    """The lock's packages by canonical name."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def declared(lock: str) -> list[str]:
    """The requirements in pyproject.toml that the lock must satisfy."""
    if lock == "bench/requirements.lock":
        return [*PROJECT["dependencies"], *GROUPS["bench"]]
    if lock == "deploy/build.lock":
        return [*PYPROJECT["build-system"]["requires"]]
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return [*PROJECT["dependencies"], *extras, *([] if lock.startswith("deploy/") else GROUPS["dev"])]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_satisfies_what_is_declared(lock: str) -> None:
    pins = pinned(lock)
    wanted = [Requirement(line) for line in declared(lock)]
    others = [requirement for requirement in wanted if requirement.name != "perdure"]
    unmet = [str(r) for r in others if not r.specifier.contains(pins.get(canonicalize_name(r.name), "0"))]
    assert unmet == [], f"{lock} is out of date: run `make lock`"


@pytest.mark.parametrize("lock", [*LOCKS, *NPM_LOCKS])
def test_a_lock_names_no_address_and_no_path(lock: str) -> None:
    assert (
        re.findall(r"\w+://\S+|--index-url.*|--find-links.*|/(?:root|home|tmp|opt)/\S+", (ROOT / lock).read_text())
        == []
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)
    assert [entry.splitlines()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


def test_what_is_deployed_is_what_was_tested_and_no_more() -> None:
    tested, deployed = pinned("requirements.lock"), pinned("deploy/requirements.lock") | pinned("deploy/build.lock")
    assert {name: version for name, version in deployed.items() if tested.get(name) != version} == {}
    assert not pinned("deploy/requirements.lock").keys() & {
        "pytest",
        "hypothesis",
        "mypy",
        "ruff",
        "inngest",
        "fastapi",
    }


def test_every_npm_package_of_the_bench_has_an_integrity_hash() -> None:
    packages = json.loads((ROOT / "bench/package-lock.json").read_text())["packages"]
    assert all("integrity" in entry for path, entry in packages.items() if path)


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"]


def test_the_extra_all_is_every_other_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all"}
