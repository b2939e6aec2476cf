"""What pyproject.toml cannot say while it finds the packages by itself: two folders of the root go into them.

A `package-dir` mapping would need a list of all packages by hand, and an editable install does not find it anyway.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# engine/resources.py looks there first, and in a checkout at the root.
FOLDERS = {"templates": "engine/_templates", "schemas": "sandboxfile/_schemas"}


class BuildWithFolders(build_py):
    def run(self) -> None:
        super().run()
        for source, target in {} if self.editable_mode else FOLDERS.items():
            shutil.copytree(ROOT / source, Path(self.build_lib, target), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithFolders})
