"""The Istio production rollout checklist as ordinary pytest tests.

Installing the package is enough: pytest finds it. What a team imports is here; nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_meshready.checklist.lines import Line, Phase
    from pytest_meshready.checks import Check
    from pytest_meshready.cluster.client import Cluster
    from pytest_meshready.cluster.snapshot import Snapshot
    from pytest_meshready.probes.messages import Answer, Ask, Op, Outcome
    from pytest_meshready.probing import Probes
    from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Severity, Status, Unknown
    from pytest_meshready.run import Wire
    from pytest_meshready.settings import Settings
    from pytest_meshready.traffic import Traffic
    from pytest_meshready.waiting import Deadline

__all__ = [
    "Answer",
    "Ask",
    "Check",
    "Cluster",
    "Deadline",
    "Evidence",
    "Finding",
    "Judgement",
    "Level",
    "Line",
    "ObjectRef",
    "Op",
    "Outcome",
    "Phase",
    "Probes",
    "Settings",
    "Severity",
    "Snapshot",
    "Status",
    "Traffic",
    "Unknown",
    "Wire",
]

_HOMES = {
    "Answer": "probes.messages",
    "Ask": "probes.messages",
    "Deadline": "waiting",
    "Op": "probes.messages",
    "Outcome": "probes.messages",
    "Probes": "probing",
    "Traffic": "traffic",
    "Wire": "run",
    "Check": "checks",
    "Cluster": "cluster.client",
    "Line": "checklist.lines",
    "Phase": "checklist.lines",
    "Settings": "settings",
    "Snapshot": "cluster.snapshot",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, because pytest imports this package in every run (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'results')}"), name)
