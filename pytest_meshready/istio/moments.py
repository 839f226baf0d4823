"""Points in time as Kubernetes writes them, by the cluster's clock and never by this machine's."""

from __future__ import annotations

from datetime import UTC, datetime

from pytest_meshready.cluster.snapshot import Snapshot


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time (``2026-08-25T08:36:02.270202Z``); None of nothing and of what is no time."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def now_of(snapshot: Snapshot, now: datetime | None = None) -> datetime | None:
    """The moment to judge by: ``now`` where it is given, else when the snapshot was taken; None where neither is known."""
    return now or moment(snapshot.taken)


def ago(seconds: float) -> str:
    """A span as a person says it: ``40 s``, ``12 min``, ``3 h``, ``2 days``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
