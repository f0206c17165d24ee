"""Print constraints that hold each direct dependency at the lowest version that pyproject.toml admits.

    python tools/lowest_versions.py > lowest.txt && pip install -c lowest.txt -e '.[model,test]'

A bound of 2.1 is tried with the last 2.1.x, which is what is left of it on a package index. What these depend on in
turn is left to pip: their own bounds are their authors' matter.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LOWEST = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9][0-9a-z.]*)[^;]*(;.*)?$")


def lowest(project: dict) -> list[str]:
    """`name==version.*` of every dependency with a lower bound, extras included, each once."""
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = {}
    for text in wanted:
        match = LOWEST.match(text.replace(" ", ""))
        if match:
            name, version, marker = match.groups()
            found[name.lower()] = f"{name}=={version}.*{marker or ''}"
    return [found[name] for name in sorted(found)]


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(lowest(tomllib.loads(text)["project"])))
