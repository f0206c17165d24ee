"""Write constraints.txt: the versions that environments of several Pythons hold, one line a package where they agree.

    python tools/hold_versions.py .venv/bin/python OTHER/bin/python ...  > constraints.txt

Give one environment a Python version, oldest first. PyTorch's local version (+cpu, +cu130) is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys

HEAD = """\
# The versions that the tests ran with, by tools/hold_versions.py. PyTorch and torchcodec are held together, so that
# whatever comes after PyTorch pulls no other build of it."""
# Of the machine or of one build of PyTorch alone, or put beside by hand.
LEFT_OUT = ("nvidia-", "cuda-", "triton", "pip", "tiktok-dm", "tiktok_dm", "cupy", "torchvision")


def versions(python: str) -> tuple[str, dict[str, str]]:
    """(Python's version, package to version) of an environment."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    number = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {entry["name"]: entry["version"].partition("+")[0] for entry in json.loads(listed)}
    return number, {name: version for name, version in found.items() if not name.lower().startswith(LEFT_OUT)}


def lines(environments: list[tuple[str, dict[str, str]]]) -> list[str]:
    """A line a package where all hold one version; else a line a run of Python versions, with a marker."""
    out = []
    names = sorted({name for _, held in environments for name in held}, key=str.lower)
    for name in names:
        having = [(number, held[name]) for number, held in environments if name in held]
        if len({version for _, version in having}) == 1:
            out.append(f"{name}=={having[0][1]}")
            continue
        for version in dict.fromkeys(version for _, version in having):
            numbers = [number for number, other in having if other == version]
            bounds = [f'python_version >= "{numbers[0]}"'] if numbers[0] != environments[0][0] else []
            if numbers[-1] != environments[-1][0]:
                bounds.append(f'python_version <= "{numbers[-1]}"')
            out.append(f"{name}=={version}; {' and '.join(bounds)}")
    return out


if __name__ == "__main__":
    print("\n".join([HEAD, *lines([versions(python) for python in sys.argv[1:]])]))
