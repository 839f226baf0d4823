"""What a user installs: the wheel holds its data files, and nothing of ours outside the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_wheel_holds_its_data_files(tmp_path: Path) -> None:
    """Every file of the package that is not Python is in the wheel too."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    package = ROOT / "pytest_meshready"
    wanted = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert wanted - names == set()
    assert {name for name in names if not name.startswith("pytest_meshready")} == set()
    assert {"pytest_meshready/py.typed", "pytest_meshready/checklist/catalogue.toml"} <= names
