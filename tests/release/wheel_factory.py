"""Wheel and sdist of the project as it stands, and environments that hold the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a clone does not have: at the top, and anywhere.
_LOCAL = shutil.ignore_patterns(".git", ".venv*", "build", "dist", ".*_cache", ".hypothesis", "demo*", "runs", "*.work")
_ANYWHERE = shutil.ignore_patterns("*.egg-info", "__pycache__")


def _not_cloned(folder: str, names: list[str]) -> set[str]:
    return _ANYWHERE(folder, names) | (_LOCAL(folder, names) if Path(folder) == ROOT else set())


@dataclass(frozen=True)
class Built:
    """The two files of a release."""

    wheel: Path
    sdist: Path


def build_release(folder: Path) -> Built:
    """Build both from a copy of the project, with the setuptools that is installed."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=_not_cloned)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [sdist] = (list((folder / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return Built(wheel, sdist)


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and an empty folder to work in.

    Args:
        folder: of the environment.
        work: where commands run.
    """

    folder: Path
    work: Path

    def run(self, *words: str | Path, code: int = 0) -> str:
        """What a command of the environment prints on both its outputs; its exit code is checked."""
        program = self.folder / "bin" / str(words[0])
        done = subprocess.run(
            [str(program), *map(str, words[1:])], cwd=self.work, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """The process's own, without what would lead Python back to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV"))}


def new_environment(folder: Path) -> Environment:
    """An empty environment of this Python, with pip."""
    venv.create(folder / "env", with_pip=True)
    (folder / "work").mkdir()
    return Environment(folder / "env", folder / "work")


def borrowing_environment(folder: Path, wheel: Path) -> Environment:
    """An environment with the wheel, which finds all other packages where this process has them."""
    made = Environment(folder / "env", folder / "work")
    venv.create(made.folder, with_pip=False)
    made.work.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made.folder / "bin" / "python")]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
        env=environment(),
    )
    site = subprocess.run(
        [str(made.folder / "bin" / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # A path in a .pth file comes behind the environment's own, and the .pth files within it are not read: an editable
    # installation of the project stays out.
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(site) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return made
