"""What is said of a pod that is not ready, from what Kubernetes says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_meshready.probes.diagnosis import diagnose, explain
from pytest_meshready.probes.trouble import Reason, Trouble
from tests.unit import kubeapi
from tests.unit.apiserver import Reply


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A meshed probe pod of a native-sidecar mesh in this state."""
    return {
        "metadata": {"name": "probe", "namespace": "payments", "labels": {"app": "probe"}, **metadata},
        "spec": {
            "initContainers": [{"name": "istio-init", "image": "istio/proxyv2"}, {"name": "istio-proxy", "image": "istio/proxyv2"}],
            "containers": [{"name": "agent", "image": "registry/none:1"}],
        },
        "status": status,
    }


def waiting(name: str, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "state": {"waiting": {"reason": reason, "message": message}}, **more}


def ended(name: str, code: int, reason: str = "Error") -> dict[str, Any]:
    return {"name": name, "ready": False, "state": {"terminated": {"exitCode": code, "reason": reason}}}


def running(name: str, *, ready: bool) -> dict[str, Any]:
    return {"name": name, "ready": ready, "state": {"running": {"startedAt": "2026-11-25T08:00:00Z"}}}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": None}


#: What containerd 2 says, by way of the kubelet of Kubernetes 1.34.
PULL = (
    'Back-off pulling image "registry/none:1": ErrImagePull: failed to pull and unpack image "registry/none:1": failed to resolve '
    'reference "registry/none:1": failed to do request: Head "https://registry/v2/none/manifests/1": dial tcp: lookup registry: i/o timeout'
)

READY = {
    "phase": "Running",
    "conditions": [condition("PodScheduled", "True"), condition("Ready", "True")],
    "initContainerStatuses": [ended("istio-init", 0, "Completed"), running("istio-proxy", ready=True)],
    "containerStatuses": [running("agent", ready=True)],
}


def test_ready() -> None:
    """A pod whose condition Ready is true is ready, although its istio-init has ended."""
    assert diagnose(pod(READY)).ready


def test_ready_and_being_deleted_is_gone() -> None:
    """Somebody deletes our pod: it may still be ready, but not for long."""
    found = diagnose(pod(READY, deletionTimestamp="2026-11-25T08:00:00Z")).trouble
    assert found is not None
    assert found.reason is Reason.GONE


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param(
            {"phase": "Pending", "containerStatuses": [waiting("agent", "ImagePullBackOff", PULL)]},
            Reason.IMAGE,
            (
                "registry/none:1 of agent cannot be pulled (ImagePullBackOff: failed to do request: Head",
                "i/o timeout",
                "--mesh-probe-image",
            ),
            id="image",
        ),
        pytest.param(
            {"phase": "Pending", "initContainerStatuses": [waiting("istio-init", "ImagePullBackOff", "Back-off")]},
            Reason.IMAGE,
            ("istio/proxyv2", "the mesh's own proxy"),
            id="image of the proxy",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            Reason.EVICTED,
            ("was evicted in the middle", "low on resource: memory"),
            id="evicted by the node",
        ),
        pytest.param(
            {**READY, "conditions": [condition("DisruptionTarget", "True", "PreemptionByScheduler", "preempting to accommodate another")]},
            Reason.EVICTED,
            ("preempting to accommodate another",),
            id="preempted",
        ),
        pytest.param({"phase": "Failed", "reason": "DeadlineExceeded"}, Reason.GONE, ("activeDeadlineSeconds",), id="its own deadline"),
        pytest.param(
            {"phase": "Failed", "containerStatuses": [ended("agent", 127)]},
            Reason.CRASHED,
            ("agent ended", "exit code 127"),
            id="ended",
        ),
        pytest.param(
            {"phase": "Running", "containerStatuses": [{**waiting("agent", "CrashLoopBackOff"), "lastState": ended("agent", 1)["state"]}]},
            Reason.CRASHED,
            ("does not stay up", "exit code 1", "kubectl logs -n payments probe -c agent"),
            id="crash loop",
        ),
    ],
)
def test_troubles_that_count_at_once(status: dict[str, Any], reason: Reason, words: tuple[str, ...]) -> None:
    """What cannot pass is said at once, with the words that help."""
    found = diagnose(pod(status))
    assert found.trouble is not None
    assert (found.trouble.reason, found.patience) == (reason, 0)
    assert "probe pod payments/probe" in found.trouble.sentence
    for word in words:
        assert word in found.trouble.sentence


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param(
            {
                "phase": "Pending",
                "conditions": [
                    condition(
                        "PodScheduled",
                        "False",
                        "Unschedulable",
                        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available.",
                    )
                ],
            },
            Reason.UNSCHEDULABLE,
            ("no node fits", "0/2 nodes are available: 2 Insufficient cpu; see: kubectl describe nodes"),
            id="no node",
        ),
        pytest.param(
            {"phase": "Pending", "containerStatuses": [waiting("agent", "CreateContainerConfigError", "image will run as root")]},
            Reason.CONTAINER,
            ("CreateContainerConfigError", "image will run as root"),
            id="container",
        ),
        pytest.param(
            {"phase": "Pending", "initContainerStatuses": [{**ended("istio-validation", 126), "restartCount": 1}]},
            Reason.INIT,
            ("CNI plugin is missing on its node", "istio-cni-node"),
            id="the CNI plugin was late",
        ),
        pytest.param(
            {
                "phase": "Pending",
                "initContainerStatuses": [{**waiting("istio-init", "CrashLoopBackOff"), "lastState": ended("istio-init", 255)["state"]}],
            },
            Reason.INIT,
            ("NET_ADMIN", "exit code 255"),
            id="istio-init",
        ),
    ],
)
def test_troubles_that_may_pass(status: dict[str, Any], reason: Reason, words: tuple[str, ...]) -> None:
    """What may pass by itself within seconds gets those seconds, and no more."""
    found = diagnose(pod(status))
    assert found.trouble is not None
    assert found.trouble.reason is reason
    assert 5 <= found.patience <= 15
    for word in words:
        assert word in found.trouble.sentence


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param({}, Reason.NOT_READY, "no container has started", id="just created"),
        pytest.param(
            {"phase": "Pending", "containerStatuses": [waiting("agent", "ErrImagePull", "dial tcp: lookup docker.io")]},
            Reason.IMAGE,
            "lookup docker.io",
            id="the first failure to pull may pass",
        ),
        pytest.param(
            {"phase": "Pending", "containerStatuses": [waiting("agent", "ContainerCreating")]},
            Reason.NOT_READY,
            "agent is waiting (ContainerCreating)",
            id="creating",
        ),
        pytest.param(
            {"phase": "Running", "containerStatuses": [running("agent", ready=True), running("istio-proxy", ready=False)]},
            Reason.SIDECAR,
            "istio-proxy is running but not ready",
            id="classic sidecar",
        ),
        pytest.param(
            {
                "phase": "Pending",
                "initContainerStatuses": [ended("istio-init", 0), running("istio-proxy", ready=False)],
                "containerStatuses": [waiting("agent", "PodInitializing")],
            },
            Reason.SIDECAR,
            "istio-proxy is running but not ready",
            id="native sidecar",
        ),
        pytest.param(
            {"phase": "Pending", "initContainerStatuses": [waiting("istio-proxy", "CrashLoopBackOff", restartCount=4)]},
            Reason.SIDECAR,
            "istio-proxy is waiting (CrashLoopBackOff), restarted 4 times",
            id="crashing sidecar",
        ),
    ],
)
def test_waiting_until_the_deadline(status: dict[str, Any], reason: Reason, words: str) -> None:
    """What is merely slow is waited for until the deadline; then it is said what was waited for."""
    found = diagnose(pod(status))
    assert not found.ready
    assert found.trouble is not None
    assert (found.trouble.reason, found.patience) == (reason, math.inf)
    assert words in found.trouble.sentence


# --- what the cluster says besides ---

SIDECAR = Trouble(
    reason=Reason.SIDECAR, sentence="the sidecar of probe pod payments/probe did not become ready: istio-proxy is running but not ready"
)
LOG = b"""2026-11-25T09:00:00.000000Z\tinfo\tEnvoy command: [-c etc/istio/proxy/envoy-rev.json]
2026-11-25T09:00:03.100000Z\twarn\tca\tca request failed, starting attempt 1: dial tcp: lookup istiod.istio-system.svc: i/o timeout
[2026-11-25 09:00:03.517][11][warning][main] [source/server/server.cc:1059] There is no configured limit to the number of allowed active
2026-11-25T09:00:04.000000Z\tinfo\tcache\tgenerated new workload certificate
"""


@pytest.fixture
def api() -> Iterator[kubeapi.Api]:
    with kubeapi.serving() as serving:
        yield serving


def log(request: kubeapi.Request) -> Reply | None:
    return (200, {"Content-Type": "text/plain"}, LOG) if request.path.endswith("/log") else None


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "default-deny", "namespace": "payments"}, "spec": spec}


def test_sidecar_log_is_quoted(api: kubeapi.Api) -> None:
    """The last line of the proxy's log that tells of something wrong is in the sentence."""
    api.trouble = log
    found = explain(api.cluster(), SIDECAR, pod({}), seconds=60)
    assert found.reason is Reason.SIDECAR
    assert "within 60 s" in found.sentence
    assert "warn ca ca request failed, starting attempt 1: dial tcp" in found.sentence


def test_network_policy_that_restricts_the_pod_is_named(api: kubeapi.Api) -> None:
    """A sidecar that is never ready under a default-deny egress policy points at that policy."""
    api.trouble = log
    api.put("/apis/networking.k8s.io/v1/namespaces/payments/networkpolicies/default-deny", policy(podSelector={}, policyTypes=["Egress"]))
    found = explain(api.cluster(), SIDECAR, pod({}), seconds=60)
    assert found.reason is Reason.NETWORK_POLICY
    assert "NetworkPolicy default-deny" in found.sentence
    assert "15012" in found.sentence


@pytest.mark.parametrize(
    "spec",
    [
        {"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Egress"]},
        {"podSelector": {}, "policyTypes": ["Ingress"]},
    ],
    ids=["of other pods", "ingress only"],
)
def test_other_network_policies_are_not_blamed(api: kubeapi.Api, spec: dict[str, Any]) -> None:
    """A policy that does not restrict what this pod connects to is not the cause."""
    api.put("/apis/networking.k8s.io/v1/namespaces/payments/networkpolicies/default-deny", policy(**spec))
    assert explain(api.cluster(), SIDECAR, pod({}), seconds=60).reason is Reason.SIDECAR


def test_nothing_more_is_permitted(api: kubeapi.Api) -> None:
    """Where neither log nor policies may be read, the sentence stands without them."""
    api.trouble = lambda _: kubeapi.refusal(403, "no", "Forbidden")
    found = explain(api.cluster(), SIDECAR, pod({}), seconds=60)
    assert found.reason is Reason.SIDECAR
    assert "its log says" not in found.sentence


def test_last_event_tells_what_a_waiting_container_does_not(api: kubeapi.Api) -> None:
    """ContainerCreating says nothing; the newest warning about the pod does."""
    for number, message in ((1, "old"), (2, 'configmap "meshready-1-agent" not found')):
        event = {
            "metadata": {"name": f"e{number}"},
            "reason": "FailedMount",
            "message": message,
            "lastTimestamp": f"2026-11-25T09:00:0{number}Z",
        }
        api.put(f"/api/v1/namespaces/payments/events/e{number}", event)
    slow = Trouble(reason=Reason.NOT_READY, sentence="probe pod payments/probe did not become ready: agent is waiting (ContainerCreating)")
    assert explain(api.cluster(), slow, pod({}), seconds=5).sentence.endswith('FailedMount: configmap "meshready-1-agent" not found')
