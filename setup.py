"""What pyproject.toml cannot say: the tables and the example that stand at the repository's top go into the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("annotations", "splits", "submissions")


class BuildWithTables(build_py):
    """`build_py` that also lays the folders of `SHIPPED` into `tiktok_dm/shipped/`, where `tiktok_dm.shipped` looks."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in SHIPPED:
            to = Path(self.build_lib) / "tiktok_dm" / "shipped" / name
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(name, to)


setup(cmdclass={"build_py": BuildWithTables})
