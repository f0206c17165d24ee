"""The workflows are what their names say: valid, and each of their commands is one that a developer runs here too."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.release.wheel_factory import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_asks_for_no_more_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        assert set(job.get("permissions", {})) <= {"id-token"}, name
        assert job["runs-on"] in ("ubuntu-latest", "${{ matrix.os }}")
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"(actions|pypa)/[\w-]+@[0-9a-f]{40}", step["uses"])


def made(workflow: dict[Any, Any]) -> set[str]:
    """Make targets that a workflow runs, its matrix filled in."""
    targets = set()
    for job in workflow["jobs"].values():
        choices = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            for target in re.findall(r"\bmake ([^\s\"]+|\$\{\{ matrix\.\w+ \}\})", step.get("run", "")):
                targets |= {target} if "$" not in target else set(choices["target"])
    return targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_exists(path: Path) -> None:
    for target in made(read(path)):
        done = subprocess.run(["make", "-n", target, "TAG=v0"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{target}: {done.stderr}"


def test_ci_covers_what_the_project_promises() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "ci.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {text.rpartition(" ")[2] for text in project["classifiers"] if "Python :: 3." in text}
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert set(matrix["python"]) == promised == {"3.11", "3.12", "3.13", "3.14"}
    assert set(matrix["os"]) == {"ubuntu-latest", "macos-latest"}
    suites = {"lint", "test", "test-oldest", "test-newest", "test-slow", "test-wheel", "test-processors", "test-mmpose"}
    assert made(workflow) == suites


def test_a_release_is_published_by_trust_alone() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "release"
    assert "password" not in yaml.safe_dump(workflow)
    assert "secrets." not in yaml.safe_dump(workflow)
    assert made(workflow) == {"check-version", "test-wheel", "dist"}


def test_a_tag_that_is_not_the_version_ends_with_a_sentence() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / "Makefile").read_text()
    [line] = re.findall(r"^check-version: env\n\t@(.*)$", text, re.MULTILINE)
    shell = line.replace("$(BIN)/tiktok-dm --version", f"echo {version}").replace("$$(", "$(")
    for tag, code in ((f"v{version}", 0), (version, 1), ("v9.9", 1)):
        done = subprocess.run(["sh", "-c", shell.replace("$(TAG)", tag)], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stdout == ("" if code == 0 else f"The tag {tag} is not v{version}.\n")
