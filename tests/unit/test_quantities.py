"""Quantities of Kubernetes and the request of a pod (checks.md 2.6)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.quantities import MIB, amount, pod_request, quantity, text
from tests.unit import builders as make


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("100m", "0.1"),
        ("2", "2"),
        (3, "3"),
        (0.5, "0.5"),
        ("1.5Gi", str(1.5 * 1024**3)),
        ("128Mi", str(128 * MIB)),
        ("1k", "1000"),
        ("1e3", "1000"),
        ("1E", "1000000000000000000"),
        ("1E2", "100"),
        ("5n", "0.000000005"),
        (" 7 ", "7"),
    ],
)
def test_quantities_as_kubernetes_writes_them(written: str | float, number: str) -> None:
    """Plain numbers, decimal and binary suffixes, and exponents, which look like the suffix E."""
    assert quantity(written) == Decimal(number)


@pytest.mark.parametrize("written", ["", "abc", "1 Gi", "1Xi", "--1", "m", float("nan"), float("inf")])
def test_what_is_no_quantity(written: str | float) -> None:
    """Anything else is not a number, and no exception."""
    assert quantity(written) is None
    assert amount(written, "cpu") is None


def test_amounts_are_whole_and_rounded_up() -> None:
    """CPU in thousandths of a core, also under a quota's name; the rest in whole units; never above Kubernetes' own bound."""
    assert amount("100m", "cpu") == 100
    assert amount("100500n", "requests.cpu") == 1
    assert amount("2", "limits.cpu") == 2000
    assert amount("1.5", "memory") == 2
    assert amount(None, "cpu") is None
    assert amount("9" * 50, "memory") == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "resource", "shown"),
    [
        (250, "cpu", "250m"),
        (1500, "cpu", "1.5"),
        (0, "cpu", "0"),
        (128 * MIB, "memory", "128Mi"),
        (2560 * MIB, "memory", "2.5Gi"),
        (7, "memory", "7"),
    ],
)
def test_amounts_in_sentences(value: int, resource: str, shown: str) -> None:
    """As people write them."""
    assert text(value, resource) == shown


def test_containers_are_added_up() -> None:
    """What runs together counts together; a limit without a request is the request."""
    spec = o.PodSpec(
        containers=(
            make.container("app", resources=make.resources(cpu="100m")),
            make.container("two", resources=make.resources(cpu_limit="50m")),
            make.container("none", resources=o.Resources()),
        ),
        overhead={"cpu": "5m"},
    )
    assert pod_request(spec, "cpu") == 155
    assert pod_request(spec, "memory") == 0


def test_a_big_init_container_hides_what_comes_later() -> None:
    """Init containers run one after the other: the hungriest counts if it needs more than everything that follows."""
    spec = o.PodSpec(
        init_containers=(make.container("migrate", resources=make.resources(cpu="500m")),),
        containers=(make.container("app", resources=make.resources(cpu="100m")),),
    )
    assert pod_request(spec, "cpu") == 500


def test_a_native_sidecar_runs_beside_what_starts_after_it() -> None:
    """checks.md 2.6: init containers count with the native sidecars before them, and the sum with all of them."""
    sidecar = make.container("log", resources=make.resources(cpu="10m"), restart_policy="Always")
    big = make.container("migrate", resources=make.resources(cpu="500m"))
    app = make.container("app", resources=make.resources(cpu="100m"))
    assert pod_request(o.PodSpec(init_containers=(sidecar, big), containers=(app,)), "cpu") == 510
    assert pod_request(o.PodSpec(init_containers=(big, sidecar), containers=(app,)), "cpu") == 500
    assert pod_request(o.PodSpec(init_containers=(sidecar,), containers=(app,)), "cpu") == 110


def test_a_proxy_that_is_not_there_yet_starts_first() -> None:
    """A projected sidecar stands before every init container of the team, and is hidden by none."""
    spec = o.PodSpec(
        init_containers=(make.container("migrate", resources=make.resources(cpu="500m")),),
        containers=(make.container("app", resources=make.resources(cpu="100m")),),
    )
    assert pod_request(spec, "cpu", beside=100) == 600


def test_requests_of_the_pod_as_a_whole() -> None:
    """Where they are set, they stand for the sum of the containers (Kubernetes 1.34)."""
    spec = o.PodSpec(containers=(make.container(resources=make.resources(cpu="100m")),), resources=make.resources(cpu="1"))
    assert pod_request(spec, "cpu") == 1000
