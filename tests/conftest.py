"""Fixtures that several test files share; lessons, the slowest, run last."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))  # the tests import the project's own tools
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name == "test_lessons.py")  # stable: others keep order


@pytest.fixture(scope="session")
def wheel_path(tmp_path_factory) -> Path:
    """A folder with sora_nb as a user gets it: the wheel, built and unpacked, nothing of the repo."""
    out, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = out.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site
