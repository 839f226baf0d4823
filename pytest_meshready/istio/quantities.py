"""Kubernetes' quantities, and what a pod requests of its node (checks.md 2.6).

CPU is counted in thousandths of a core, memory in bytes, both as whole numbers that are rounded up, as the scheduler does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from pytest_meshready.cluster.objects import Resources
from pytest_meshready.cluster.objects_capacity import Quantity

CPU, MEMORY = "cpu", "memory"

MIB = 1024**2

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([eE][+-]?\d{1,3}|[numkMGTPE]|[KMGTPE]i)?")
_SUFFIXES = {
    **{letter: Decimal(10) ** power for letter, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}

#: Kubernetes' own bound of a quantity.
_LARGEST = 2**63 - 1


class ContainerLike(Protocol):
    """A container of any struct."""

    @property
    def resources(self) -> Resources:
        """Its requests and limits."""

    @property
    def restart_policy(self) -> str:
        """``Always`` for a native sidecar."""


class PodLike(Protocol):
    """A pod's spec of any struct."""

    @property
    def containers(self) -> Sequence[ContainerLike]:
        """The ordinary containers."""

    @property
    def init_containers(self) -> Sequence[ContainerLike]:
        """The init containers, native sidecars among them."""

    @property
    def overhead(self) -> dict[str, Quantity]:
        """What the pod's runtime needs besides."""

    @property
    def resources(self) -> Resources:
        """What is set for the pod as a whole."""


@functools.lru_cache(maxsize=4096)
def quantity(value: Quantity) -> Decimal | None:
    """A quantity as a number: ``100m`` is 0.1, ``1Ki`` is 1024, ``1e3`` is 1000; None of what is none."""
    if isinstance(value, int | float):
        return Decimal(str(value)) if math.isfinite(value) else None
    found = _QUANTITY.fullmatch(value.strip())
    if found is None:
        return None
    number, suffix = found.groups()
    if suffix is None or suffix[1:].lstrip("+-").isdigit():
        return Decimal(number + (suffix or ""))
    return Decimal(number) * _SUFFIXES[suffix]


@functools.lru_cache(maxsize=4096)
def amount(value: Quantity | None, resource: str) -> int | None:
    """A quantity of CPU in thousandths of a core, of anything else in whole units, rounded up; None where it is none."""
    number = None if value is None else quantity(value)
    if number is None:
        return None
    scaled = number * 1000 if resource.endswith(CPU) else number
    if abs(scaled) > _LARGEST:
        return _LARGEST if scaled > 0 else -_LARGEST
    return int(scaled.to_integral_value(rounding="ROUND_CEILING"))


def container_request(container: ContainerLike, resource: str) -> int:
    """What a container requests: its request, else its limit, which the API server copies; 0 without either."""
    resources = container.resources
    requested = amount(resources.requests.get(resource), resource)
    if requested is None:
        requested = amount(resources.limits.get(resource), resource)
    return requested or 0


def pod_request(spec: PodLike, resource: str, beside: int = 0) -> int:
    """What a pod requests of its node.

    The larger of what runs together (containers and native sidecars) and of the hungriest init container with the native
    sidecars that started before it; plus the runtime's overhead. What is set for the pod as a whole stands for the sum.

    Args:
        spec: the pod's.
        resource: ``cpu`` or ``memory``.
        beside: what a native sidecar adds that is not in ``spec`` yet and starts first.
    """
    overhead = amount(spec.overhead.get(resource), resource) or 0
    whole = amount(spec.resources.requests.get(resource), resource)
    if whole is not None:
        return whole + overhead
    hungriest = 0
    for container in spec.init_containers:
        own = container_request(container, resource)
        if container.restart_policy == "Always":
            beside += own
        else:
            hungriest = max(hungriest, own + beside)
    running = sum(container_request(container, resource) for container in spec.containers)
    return max(running + beside, hungriest) + overhead


def text(value: int, resource: str) -> str:
    """An amount as people write it: ``250m``, ``1.5`` cores, ``128Mi``, ``2.5Gi``."""
    if resource.endswith(CPU):
        return f"{value}m" if value % 100 else f"{value / 1000:g}"
    for size, unit in ((1024**4, "Ti"), (1024**3, "Gi"), (MIB, "Mi"), (1024, "Ki")):
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return str(value)
