"""The `d2m` command as a user types it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from d2m_model.cli import main as cli


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["d2m", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    output = capsys.readouterr()
    return int(caught.value.code or 0), output.out, output.err


def test_info_prints_shapes_and_counts(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "info", "--preset", "released", "--level", "high")
    assert code == 0
    assert "motion encoder    31,154,305 parameters   1 x 60 x 75 -> 1 x 1 x 1024" in out
    assert "generator         21,780,970 parameters   1 x 1 x 3072 -> 1 x 64 x 344" in out
    assert "codec decoder        176,481 parameters   1 x 64 x 344 -> 1 x 1 x 44032" in out
    assert "paper" not in out


def test_info_without_visual_features(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "info", "--preset", "paper", "--level", "low", "--no-visual")
    assert code == 0
    assert "1 x 1 x 1024 -> 1 x 64 x 1378" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("info", "--preset", "papr"), "Unknown preset 'papr' (did you mean 'paper'?); choose one of paper, released."),
        (("parity", "no/such/folder"), "The parity pack lacks the file no/such/folder/state_dicts.json."),
        (("convert", "a.pt", "b.pt", "--out", "c"), "There is no checkpoint file a.pt."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(monkeypatch, capsys, words: tuple[str, ...], sentence: str):
    assert run(monkeypatch, capsys, *words) == (1, "", sentence + "\n")


def test_parity_prints_a_verdict_per_array_and_exits_by_it(monkeypatch, capsys, parity_pack: Path, tmp_path: Path):
    import numpy as np

    code, out, err = run(monkeypatch, capsys, "parity", parity_pack, "--only", "mel")
    assert (code, err) == (0, "")
    assert "2 of 2 within tolerance" in out
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["mel.basis", "mel.gt"]
    with np.load(parity_pack / "expected_seed0.npz") as archive:
        arrays = {name: archive[name] for name in ("meta", "mel.basis", "mel.gt")}
    arrays["mel.gt"] = arrays["mel.gt"] + 0.01
    np.savez(tmp_path / "off.npz", **arrays)
    code, out, err = run(
        monkeypatch, capsys, "parity", parity_pack, "--expected", tmp_path / "off.npz", "--only", "mel"
    )
    assert (code, err) == (1, "Over the tolerance: mel.gt.\n")
    assert "1 of 2 within tolerance" in out


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    code, _, err = run(monkeypatch, capsys, "info")
    assert code == 1
    assert err == "The model needs torch: install the extra with pip install 'tiktok-dm[model]'.\n"


def test_the_command_starts_without_torch():
    import subprocess

    script = "import sys, d2m_model.cli.main; sys.exit('torch' in sys.modules or 'librosa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
