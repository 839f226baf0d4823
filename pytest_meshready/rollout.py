"""What this checkout remembers of a rollout: the phase that somebody last said for a namespace of a cluster.

Kept in pytest's own cache (``.pytest_cache``), because it is a memory of this checkout, not of the cluster.
"""

from __future__ import annotations

import pytest

from pytest_meshready.checklist.lines import Phase
from pytest_meshready.results import Finding, Level, ObjectRef

_KEY = "meshready/phases"


def remember(config: pytest.Config, cluster_uid: str, namespace: str, phase: Phase) -> None:
    """Note the phase that a user gave, for the next run to which nobody gives one."""
    cache = getattr(config, "cache", None)
    if cache is not None and cluster_uid:
        cache.set(_KEY, {**cache.get(_KEY, {}), f"{cluster_uid}/{namespace}": phase.value})


def fallen_behind(config: pytest.Config, cluster_uid: str, namespace: str, guessed: Phase) -> tuple[Finding, ...]:
    """A finding, where the guess is an earlier phase than the one last said: the mesh lost something, or the guess is wrong."""
    cache = getattr(config, "cache", None)
    said = cache.get(_KEY, {}).get(f"{cluster_uid}/{namespace}") if cache is not None else None
    if said not in list(Phase) or Phase(said).position <= guessed.position:
        return ()
    return (
        Finding(
            code="MR-PHASE-LOWER",
            level=Level.WARNING,
            object=ObjectRef(kind="Namespace", name=namespace),
            found=f"from what is there the phase was guessed to be {guessed}; an earlier run from here was told {said}",
            wanted=f"what makes phase {said} still there, or the phase said",
            fix=f"say the phase, so that the lines of {said} are judged: pytest --mesh-namespace={namespace} --mesh-phase={said}",
        ),
    )
