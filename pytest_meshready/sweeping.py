"""``--mesh-sweep``: remove what runs that are over left in the cluster, without running anything."""

from __future__ import annotations

import sys

import pytest

from pytest_meshready import probing, sources
from pytest_meshready.probes import cleanup
from pytest_meshready.run import read_settings
from pytest_meshready.waiting import Deadline


def main(config: pytest.Config) -> int:
    """Sweep; the exit code is 0 where nothing of what was meant is left, else 1.

    Raises:
        pytest.UsageError: where options make no sense or there is no such cluster.
    """
    settings = read_settings(config)
    if settings.snapshot:
        raise pytest.UsageError("--mesh-sweep is about a cluster; leave --mesh-snapshot out")
    cluster = sources.connect(settings)
    swept = cleanup.sweep(cluster, probing.namespaces(settings), run=settings.sweep or None, deadline=Deadline(settings.deadlines.snapshot))
    for name in swept.removed:
        sys.stdout.write(f"removed {name}\n")
    for left in swept.left:
        sys.stdout.write(f"left {', '.join(left.objects) or 'something'}: {left.because}\n")
    for unseen in swept.unseen:
        sys.stdout.write(f"not looked at: {unseen}\n")
    if not (swept.removed or swept.left or swept.unseen):
        sys.stdout.write(f"nothing to sweep in {' and '.join(probing.namespaces(settings))}\n")
    return 1 if swept.left or swept.unseen else 0
