"""Line 4.2.2 from objects: who starts beside a sidecar, and who did not bear it."""

from __future__ import annotations

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.startorder import started_after_proxy, waits_for_proxy
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as make

OWNER = f"ReplicaSet/orders-{make.HASH}"
BEGUN = "2026-08-25T08:00:00Z"


def ended(pod: o.Pod, at: str) -> o.Pod:
    """The same pod, whose application ended then and was started again."""
    terminated = o.StateDetail(reason="Error", exit_code=1, finished_at=at)
    name = next(container.name for container in pod.spec.containers if container.name != "istio-proxy")
    app = o.ContainerStatus(name=name, restart_count=1, last_state=o.ContainerState(terminated=terminated))
    status = msgspec.structs.replace(pod.status, start_time=BEGUN, container_statuses=(app,))
    return msgspec.structs.replace(pod, status=status)


def held(pod: o.Pod) -> o.Pod:
    """The same pod as holdApplicationUntilProxyStarts makes it: the proxy is its first container."""
    ordered = sorted(pod.spec.containers, key=lambda container: container.name != "istio-proxy")
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=tuple(ordered)))


def judged(*pods: o.Pod) -> Judgement:
    return started_after_proxy(make.snapshot(replicasets=(make.replicaset("orders"),), deployments=(make.deployment("orders"),), pods=pods))


def codes(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(item.code, item.level.value, str(item.object)) for item in judgement.findings]


def classic() -> o.Pod:
    """A pod whose sidecar is its last container, as Istio injects it."""
    pod = make.classic_pod(owner=OWNER)
    ordered = sorted(pod.spec.containers, key=lambda container: container.name == "istio-proxy")
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=tuple(ordered)))


def test_native_sidecars_are_waited_for() -> None:
    """Kubernetes starts applications when the sidecar among the init containers has started."""
    judgement = judged(make.meshed_pod(owner=OWNER))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 1)


def test_classic_sidecar_is_not_waited_for() -> None:
    """Both start at once, whichever is ready first."""
    judgement = judged(classic())
    assert codes(judgement) == [("MR422-NO-HOLD", "warning", "payments/Deployment/orders")]
    assert "holdApplicationUntilProxyStarts" in judgement.findings[0].fix


def test_classic_sidecar_that_is_held_for() -> None:
    """The proxy is the first container and its start is waited for."""
    assert waits_for_proxy(held(classic()))
    assert judged(held(classic())).status is Status.PASSED


@pytest.mark.parametrize(
    ("at", "code"),
    [("2026-08-25T08:00:30Z", "MR422-FAILED-FIRST-START"), ("2026-08-25T09:00:30Z", "MR422-NO-HOLD"), ("soon", "MR422-NO-HOLD")],
)
def test_application_that_ended_at_once(at: str, code: str) -> None:
    """Within a minute of its pod's start the proxy is to blame; an hour later something else is."""
    assert [item.code for item in judged(ended(classic(), at)).findings] == [code]


def test_application_that_waited_has_other_reasons() -> None:
    """It ended early, and yet its proxy was there."""
    assert judged(ended(make.meshed_pod(owner=OWNER), "2026-08-25T08:00:30Z")).status is Status.PASSED


def test_nothing_to_look_at_is_not_verified() -> None:
    """Without a pod in the mesh nobody shows how pods start."""
    assert judged().status is Status.NOT_VERIFIED
    assert (
        started_after_proxy(make.snapshot(pods=(make.meshed_pod(owner=OWNER),), refusals=(make.refusal("pods"),))).status
        is Status.NOT_VERIFIED
    )


def test_ambient_pods_wait_for_nothing() -> None:
    """No proxy of their own is there to wait for; that is not called good."""
    pods = (make.pod("a", annotations={"ambient.istio.io/redirection": "enabled"}),)
    assert started_after_proxy(make.snapshot(pods=pods)).status is Status.NOT_APPLICABLE
