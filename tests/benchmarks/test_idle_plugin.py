"""What the installed plugin costs a pytest run that has nothing to do with a mesh, in instructions.

Wall time cannot show three milliseconds on a noisy machine; callgrind's counts are exact (performance.md 1.2).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Plugins of other packages in this environment, left out of both runs so that they do not blur the comparison.
OTHERS = ("-p", "no:xdist", "-p", "no:xdist.looponfail", "-p", "no:anyio", "-p", "no:hypothesispytest")

#: At most this share of a run without the plugin; CI fails above twice the bound.
BOUND = 0.02


def instructions(folder: Path, *options: str) -> int:
    """Instructions of pytest on one empty test."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OTHERS, *options, "test_empty.py"]
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        cwd=folder,
        # as on a user's machine, bytecode is written once and then only read
        env={
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_instructions_of_an_idle_run(tmp_path: Path) -> None:
    """An idle plugin stays within the bound of a run in which it is not even loaded."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_empty.py").write_text("def test_empty(): pass\n", encoding="utf-8")
    instructions(tmp_path)  # writes the bytecode
    without, with_plugin = instructions(tmp_path, "-p", "no:meshready"), instructions(tmp_path)
    share = with_plugin / without - 1
    print(f"\nidle plugin: {without / 1e6:.1f} M instructions without, {with_plugin / 1e6:.1f} M with: {share:+.2%} (bound {BOUND:.0%})")
    assert share < 2 * BOUND
