"""Known vulnerabilities and licences of what is installed beside the project (`make audit`).

Two kept programs do the work, in an environment of their own: pip-audit asks the public database, pip-licenses reads
what the packages say of themselves. The licences go into docs/licences.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COPYLEFT = ("GPL", "AGPL", "General Public License")
"""Licences whose packages are listed first, since whoever passes them on with this project has to know."""


def report_vulnerabilities(dependencies: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """pip-audit's dependencies -> lines to print, exit status (1 where there is a known vulnerability).

    A package that could not be looked up is counted, never taken for a sound one.
    """
    skipped = [d["name"] for d in dependencies if "skip_reason" in d]
    audited = [d for d in dependencies if "skip_reason" not in d]
    lines = [
        f"{d['name']} {d['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no version'}."
        for d in audited
        for v in d["vulns"]
    ]
    status = 1 if lines else 0
    if not audited:
        lines.append(f"The vulnerability database was not reached: none of {len(skipped)} packages was audited.")
    else:
        lines.append(
            f"{len(audited)} packages audited, {len(lines)} known vulnerabilities, {len(skipped)} not looked up."
        )
    return lines, status


def licence_table(packages: Sequence[dict[str, str]]) -> str:
    """pip-licenses' packages -> a Markdown table, copyleft licences first, then by name."""
    rows = []
    for package in packages:
        licence = package["License"].strip().splitlines()[0][:80].replace("|", "/")
        copyleft = any(word in licence for word in COPYLEFT)
        rows.append(
            (not copyleft, package["Name"].lower(), f"| {package['Name']} | {package['Version']} | {licence} |")
        )
    head = "| package | version | licence |\n|---|---|---|\n"
    return head + "\n".join(line for _, _, line in sorted(rows)) + "\n"


def main() -> None:
    """Run both programs on an environment: `audit.py TOOLS PYTHON OUT`, each a path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tools", type=Path, help="folder of the programs pip-audit and pip-licenses")
    parser.add_argument("python", type=Path, help="the environment's python")
    parser.add_argument("out", type=Path, help="Markdown file of the licences")
    arguments = parser.parse_args()
    paths = subprocess.run(
        [arguments.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    licences = subprocess.run(
        [arguments.tools / "pip-licenses", f"--python={arguments.python}", "--format=json", "--from=mixed"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    packages = [p for p in json.loads(licences) if p["Name"] != "tiktok-dm"]
    arguments.out.write_text(
        "# Licences of what is installed beside the project\n\nMade by `make audit` from what the packages say of "
        f"themselves: {len(packages)} packages of the development environment.\n"
        "PyAV's wheel carries an FFmpeg that was built with x264, which is under the GPL.\n\n"
        f"{licence_table(packages)}",
        encoding="utf-8",
    )
    audit = subprocess.run(
        [arguments.tools / "pip-audit", "--path", paths, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        dependencies = json.loads(audit.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print(
            "The vulnerability database was not reached: pip-audit gave no result. "
            "Run `make audit` where there is a network."
        )
        return
    lines, status = report_vulnerabilities([d for d in dependencies if d["name"] != "tiktok-dm"])
    print("\n".join(lines))
    sys.exit(status)


if __name__ == "__main__":
    main()
