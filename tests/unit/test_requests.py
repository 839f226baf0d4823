"""Line 2.1.3: requests and limits of all containers, the proxies too (checks.md 2.1.3)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import InjectorConfig, Snapshot
from pytest_meshready.istio.requests import resources_reviewed
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make

GOOD = make.resources("10m", "40Mi", cpu_limit="1", memory_limit="256Mi")
FULL = make.resources("10m", "32Mi", cpu_limit="1", memory_limit="128Mi")


def mesh(
    own: o.Resources = FULL, proxy: o.Resources = GOOD, *, meshed: bool = True, snapshot: dict[str, Any] | None = None, **fields: Any
) -> Snapshot:
    """One Deployment whose container, and whose proxies, have these resources."""
    fields.setdefault("containers", (make.container(resources=own),))
    deployment = make.deployment("orders", **fields)
    pods = make.pods_of(deployment, meshed=False)
    if meshed:
        pods = tuple(_with_proxy(pod, proxy) for pod in pods)
    extra = {"injector": InjectorConfig(policy="enabled", proxy_resources=proxy), **(snapshot or {})}
    return make.snapshot(deployments=(deployment,), pods=pods, **extra)


def _with_proxy(pod: o.Pod, resources: o.Resources) -> o.Pod:
    spec = o.PodSpec(containers=pod.spec.containers, init_containers=(make.proxy(resources=resources),), node_name=pod.spec.node_name)
    return o.Pod(metadata=pod.metadata, spec=spec, status=pod.status)


def codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


def test_the_shop_passes() -> None:
    """Requests, limits, and a CPU limit a hundred times the request, as most teams run and Istio's chart does."""
    judgement = resources_reviewed(mesh())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (o.Resources(), "no CPU and no memory"),
        (make.resources("10m", memory_limit=""), "no memory"),
        (make.resources(memory="32Mi", memory_limit="64Mi"), "no CPU"),
    ],
)
def test_a_container_without_requests_fails(resources: o.Resources, words: str) -> None:
    """Fault no-requests: the scheduler does not count it."""
    judgement = resources_reviewed(mesh(resources))
    assert judgement.status is Status.FAILED
    (finding,) = [item for item in judgement.findings if item.level is Level.ERROR]
    assert (finding.code, str(finding.object), finding.detail) == ("MR213-NO-REQUESTS", "payments/Deployment/orders", "app")
    assert f"container app requests {words}," in finding.found
    assert "kubectl -n payments set resources deployment orders -c app --requests=" in finding.fix


def test_limits_stand_for_requests() -> None:
    """The API server copies a limit where the request is missing."""
    assert resources_reviewed(mesh(make.resources(cpu_limit="1", memory_limit="128Mi"))).status is Status.PASSED


def test_a_limit_range_gives_requests_and_that_is_shown() -> None:
    """The pods have requests, which nobody chose for them."""
    ranges = (make.limit_range(default={"memory": "256Mi"}, default_request={"cpu": "10m", "memory": "32Mi"}),)
    judgement = resources_reviewed(mesh(o.Resources(), snapshot={"limitranges": ranges}))
    assert judgement.status is Status.PASSED
    assert codes(judgement) == {"MR213-DEFAULT-REQUESTS": Level.INFO}


def test_requests_of_the_whole_pod_suffice() -> None:
    """Kubernetes 1.34 lets a pod request as a whole."""
    judgement = resources_reviewed(mesh(o.Resources(), resources=make.resources("1", "1Gi", memory_limit="1Gi")))
    assert judgement.status is Status.PASSED


def test_no_memory_limit_warns() -> None:
    """A leak would take the memory of others."""
    assert codes(resources_reviewed(mesh(make.resources("10m", "32Mi")))) == {"MR213-NO-MEMORY-LIMIT": Level.WARNING}


def test_a_memory_limit_far_above_its_request_warns() -> None:
    """Up to ten times is fine."""
    assert codes(resources_reviewed(mesh(make.resources("10m", "32Mi", memory_limit="320Mi")))) == {}
    (finding,) = resources_reviewed(mesh(make.resources("10m", "32Mi", memory_limit="321Mi"))).findings
    assert (finding.code, finding.level) == ("MR213-MEMORY-OVERCOMMITTED", Level.WARNING)
    assert finding.found == "container app may use 321Mi of memory, more than 10 times the 32Mi that it requests"


def test_init_containers_warn_and_native_sidecars_fail() -> None:
    """What ends is less bad than what runs as long as the pod."""
    ending = make.container("migrate", resources=o.Resources())
    lasting = make.container("log", resources=o.Resources(), restart_policy="Always")
    assert codes(resources_reviewed(mesh(init_containers=(ending,)))) == {"MR213-INIT-NO-REQUESTS": Level.WARNING}
    assert codes(resources_reviewed(mesh(init_containers=(lasting,))))["MR213-NO-REQUESTS"] is Level.ERROR


def test_one_annotation_strips_the_proxy_and_the_workload_is_named() -> None:
    """Fault proxy-without-limits: the finding names the annotation and those that are missing."""
    judgement = resources_reviewed(mesh(proxy=make.resources("10m"), annotations={"sidecar.istio.io/proxyCPU": "10m"}))
    assert codes(judgement) == {"MR213-PROXY-NO-REQUESTS": Level.WARNING, "MR213-PROXY-NO-LIMIT": Level.WARNING}
    first = judgement.findings[0]
    assert str(first.object) == "payments/Deployment/orders"
    assert first.found.endswith("requests no memory, because sidecar.istio.io/proxyCPU discards all defaults of the injector")
    assert first.fix.startswith("add sidecar.istio.io/proxyMemory, sidecar.istio.io/proxyCPULimit, sidecar.istio.io/proxyMemoryLimit to")


def test_what_the_injector_gives_to_all_is_one_finding() -> None:
    """Not one for each workload: the cause lies in one place."""
    judgement = resources_reviewed(mesh(proxy=make.resources("10m", "40Mi")))
    (finding,) = judgement.findings
    assert (finding.code, str(finding.object)) == ("MR213-PROXY-NO-LIMIT", "istio-system/ConfigMap/istio-sidecar-injector")
    assert finding.found == "the proxy that it gives to orders has no memory limit"


@pytest.mark.parametrize(
    ("limits", "detail"),
    [({"cpu_limit": "99m", "memory_limit": "128Mi"}, "cpu"), ({"cpu_limit": "100m", "memory_limit": "127Mi"}, "memory")],
)
def test_low_limits_of_proxies_warn(limits: dict[str, str], detail: str) -> None:
    """Below 100m it is throttled, below 128Mi it is killed."""
    (finding,) = resources_reviewed(mesh(proxy=make.resources("10m", "40Mi", **limits))).findings
    assert (finding.code, finding.level, finding.detail) == ("MR213-PROXY-LOW-LIMIT", Level.WARNING, detail)


def test_before_injection_the_proxy_that_will_come_is_judged() -> None:
    """In phase pre no pod has one yet."""
    assert codes(resources_reviewed(mesh(proxy=o.Resources(), meshed=False))) == {
        "MR213-PROXY-NO-REQUESTS": Level.WARNING,
        "MR213-PROXY-NO-LIMIT": Level.WARNING,
    }
    assert codes(resources_reviewed(mesh(meshed=False))) == {}


@pytest.mark.parametrize("key", ["pods", "deployments", "limitranges"])
def test_what_was_refused_is_not_verified(key: str) -> None:
    """A LimitRange that may not be read may give what is missing."""
    read = tuple(item for item in make.snapshot().read if item != key)
    judgement = resources_reviewed(mesh(snapshot={"refusals": (make.refusal(key),), "read": read}))
    assert judgement.status is Status.NOT_VERIFIED
    assert f"not permitted: list {key}" in judgement.reason


def without_ranges(own: o.Resources, **fields: Any) -> Snapshot:
    """A Deployment of which only the template is known, and LimitRanges that were not read."""
    read = tuple(item for item in make.snapshot().read if item != "limitranges")
    deployment = make.deployment("orders", containers=(make.container(resources=own),), **fields)
    return make.snapshot(deployments=(deployment,), read=read, refusals=(make.refusal("limitranges"),))


def test_what_a_limit_range_may_set_is_not_missing() -> None:
    """Requests and limits that are left out are unknown without the LimitRanges, and shown; the proxy's too."""
    judgement = resources_reviewed(without_ranges(o.Resources()))
    assert judgement.status is Status.NOT_VERIFIED
    assert codes(judgement) == {"MR213-NO-REQUESTS": Level.INFO, "MR213-NO-MEMORY-LIMIT": Level.INFO}
    assert all(item.found.endswith("; unless a LimitRange sets it, which was not read") for item in judgement.findings)
    stripped = resources_reviewed(without_ranges(FULL, annotations={"sidecar.istio.io/proxyCPU": "10m"}))
    assert (stripped.status, codes(stripped)) == (Status.NOT_VERIFIED, {})


def test_a_pod_that_was_let_in_without_requests_is_proof() -> None:
    """No LimitRange gave it any, readable or not."""
    read = tuple(item for item in make.snapshot().read if item != "limitranges")
    judgement = resources_reviewed(mesh(o.Resources(), snapshot={"refusals": (make.refusal("limitranges"),), "read": read}))
    assert judgement.status is Status.FAILED
    assert codes(judgement)["MR213-NO-REQUESTS"] is Level.ERROR


def test_an_empty_namespace_does_not_pass() -> None:
    """Nothing was looked at."""
    assert resources_reviewed(make.snapshot()).status is Status.NOT_VERIFIED
