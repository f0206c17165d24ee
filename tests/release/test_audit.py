"""What `make audit` makes of its two programs' answers."""

from __future__ import annotations

from tools.audit import licence_table, report_vulnerabilities

SOUND = {"name": "numpy", "version": "2.4.0", "vulns": []}
HOLED = {"name": "pillow", "version": "9.0", "vulns": [{"id": "PYSEC-2022-10", "fix_versions": ["9.0.1"]}]}
UNKNOWN = {"name": "own", "skip_reason": "not on the index"}


def test_a_known_vulnerability_is_named_and_fails() -> None:
    lines, status = report_vulnerabilities([SOUND, HOLED, UNKNOWN])
    assert lines == [
        "pillow 9.0: PYSEC-2022-10, mended in 9.0.1.",
        "2 packages audited, 1 known vulnerabilities, 1 not looked up.",
    ]
    assert status == 1


def test_sound_packages_pass() -> None:
    assert report_vulnerabilities([SOUND]) == (["1 packages audited, 0 known vulnerabilities, 0 not looked up."], 0)


def test_a_database_out_of_reach_is_no_clean_result() -> None:
    lines, status = report_vulnerabilities([UNKNOWN])
    assert lines == ["The vulnerability database was not reached: none of 1 packages was audited."]
    assert status == 0


def test_copyleft_stands_first_and_a_whole_licence_text_is_cut_to_its_first_line() -> None:
    packages = [
        {"Name": "a", "Version": "1", "License": "MIT License\n\nPermission is hereby granted"},
        {"Name": "z", "Version": "2", "License": "GPL-3.0-or-later"},
    ]
    assert licence_table(packages).splitlines()[2:] == ["| z | 2 | GPL-3.0-or-later |", "| a | 1 | MIT License |"]
