"""Installing what the estimators `mmpose` and `vitpose` need: `python -m tiktok_dm.pose.install_mmpose`, one command.

mmpose's own list of dependencies can't be installed any more: chumpy doesn't build, mmcv's compiled operators have no
wheel for current versions of PyTorch, and xtcocotools' wheel wants numpy 1. RTMPose needs none of the three. So mmpose,
mmengine and mmcv-lite are installed without their lists, beside the little they do need; what mmpose imports and
RTMPose never calls gets a stand-in (see `mmpose`). mmdet is not needed: people are found by RT-DETR.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys

from tiktok_dm.errors import UserError

COMMAND = "python -m tiktok_dm.pose.install_mmpose"

WITH_DEPENDENCIES = ("torch>=2.13,<2.14", "transformers>=5,<6", "safetensors>=0.5")
"""The network library and the person detector; all that `vitpose` needs."""

WITHOUT_DEPENDENCIES = (
    "mmpose==1.3.2",
    "mmengine==0.10.7",
    "mmcv-lite==2.1.0",
    # The version that MediaPipe asks for, in the build that wants no system libraries.
    "opencv-python-headless==4.11.0.86",
    "addict>=2.4,<3",
    "termcolor>=2",
    "yapf>=0.40",
    "six>=1.16",
    "setuptools<81",  # mmengine imports pkg_resources
)

_MODULES = {
    "vitpose": ("torch", "transformers"),
    "mmpose": ("torch", "transformers", "mmpose", "mmengine", "mmcv", "cv2", "addict", "termcolor", "yapf", "six"),
}


def check(estimator: str) -> None:
    """Nothing, if the packages of this estimator are here.

    Raises:
        UserError: some are not; the sentence names them and the one command that installs them.
    """
    missing = [name for name in _MODULES[estimator] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"The pose estimator '{estimator}' needs packages that are not installed ({', '.join(missing)}): run "
            f"'{COMMAND}'."
        )


def commands(python: str, estimator: str = "mmpose") -> list[list[str]]:
    """The calls of pip that install an estimator for this interpreter, in order."""
    pip = [python, "-m", "pip", "install"]
    calls = [[*pip, *WITH_DEPENDENCIES]]
    if estimator == "mmpose":
        calls.append([*pip, "--no-deps", *WITHOUT_DEPENDENCIES])
    return calls


def main(arguments: list[str] | None = None) -> int:
    """Run the calls, or show them."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(_MODULES), default="mmpose", help="vitpose needs the smaller set")
    parser.add_argument("--dry-run", action="store_true", help="show what would be run, and run nothing")
    chosen = parser.parse_args(arguments)
    for call in commands(sys.executable, chosen.only):
        print(" ".join(f"'{part}'" if any(c in part for c in "<>, ") else part for part in call), flush=True)
        if not chosen.dry_run:
            done = subprocess.run(call, check=False)
            if done.returncode:
                print("The installation stopped: see pip's last lines above.", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
