"""What `tiktok_dm` and `d2m_model` name themselves: loaded when asked for, and each with an example that runs."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

# In this order: the first makes the dataset, the clip and the run that later ones open.
TIKTOK_DM = [
    "read_annotations",
    "assign_splits",
    "BuildOptions",
    "build",
    "open_dataset",
    "decode_video",
    "decode_audio",
    "verify",
    "evaluate",
    "SongIndex",
    "estimate_poses",
    "detect_shots",
]
D2M_MODEL = ["D2MGAN", "JukeboxVQVAE", "train", "DanceToMusic"]


@pytest.mark.parametrize(("package", "names"), [("tiktok_dm", TIKTOK_DM), ("d2m_model", D2M_MODEL)])
def test_the_names_are_there_and_documented(package: str, names: list[str]) -> None:
    face = importlib.import_module(package)
    assert set(face.__all__) == set(names)
    for name in names:
        assert name in dir(face)
        assert "Example:" in (getattr(face, name).__doc__ or ""), f"{package}.{name} has no example"
    with pytest.raises(AttributeError, match="has no attribute 'bild'"):
        _ = face.bild


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    heavy = "torch", "numpy", "pandas", "av", "librosa", "datasets", "scipy", "PIL"
    code = f"import sys, tiktok_dm, d2m_model; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2m_model.codec.files import write_codec
    from tests.d2m_model.sampling_factory import tiny_codec

    monkeypatch.chdir(tmp_path)
    Path("codec").mkdir()
    write_codec(tiny_codec(seed=1), Path("codec"))
    failures = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for package, names in (("tiktok_dm", TIKTOK_DM), ("d2m_model", D2M_MODEL)):
        for name in names:
            made = getattr(importlib.import_module(package), name)
            globs = {"Path": Path, "torch": torch}
            example = doctest.DocTestParser().get_doctest(made.__doc__, globs, f"{package}.{name}", None, None)
            assert example.examples
            said: list[str] = []
            runner.run(example, out=said.append)
            failures += said
    assert not failures, "".join(failures)


@pytest.mark.parametrize("package", ["tiktok_dm", "d2m_model"])
def test_the_site_describes_every_public_name_at_its_home(package: str) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    homes = importlib.import_module(package)._HOMES
    described = {path for path in re.findall(r"(?m)^::: (\S+)$", page) if path.startswith(f"{package}.")}
    assert described == {f"{package}.{home}.{name}" for name, home in homes.items()}
