"""Lines 4.1.2, 4.2.1 and 4.2.2, live: pods that were made just now, and proxies that answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio import newborn
from pytest_meshready.probes.messages import Answer, Outcome
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as make
from tests.unit import wires

PLAIN = make.pod("meshready-1-outside", labels={"app.kubernetes.io/name": "meshready-probe", "meshready.io/run": "1"})
MADE = make.pod("meshready-1-inside", labels={"app.kubernetes.io/name": "meshready-probe", "meshready.io/run": "1"})


def manifest(pod: o.Pod) -> dict[str, Any]:
    """The pod as the API server gives it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(pod))
    return found


def codes(judgement: Judgement) -> list[tuple[str, str]]:
    return [(item.code, item.level.value) for item in judgement.findings]


# --- injected ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_injected(native: bool) -> None:
    """A pod that says nothing of its injection got one proxy, and the one that wanted none has none."""
    pod = make.injected(MADE, native=native)
    judgement = newborn.injected(make.snapshot(), manifest(pod), manifest(PLAIN))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert judgement.summary == "a pod made now in payments got exactly one proxy of revision default, and it is ready"
    assert [item.text for item in judgement.evidence] == ["1 proxies (istio-proxy)", "no proxy"]


def test_not_injected() -> None:
    """No proxy in a namespace without a label: the namespace is at fault."""
    snapshot = make.snapshot(namespaces=(make.namespace(labels={}),))
    judgement = newborn.injected(snapshot, manifest(MADE), line="MR412")
    assert codes(judgement) == [("MR412-NOT-INJECTED", "error")]
    assert str(judgement.findings[0].object) == "Namespace/payments"


def test_webhook_did_not_answer() -> None:
    """The label is right and there is no proxy all the same."""
    (finding,) = newborn.injected(make.snapshot(), manifest(MADE)).findings
    assert finding.code == "MR421-NOT-INJECTED"
    assert "the injector did not answer or did not inject" in finding.found


def test_two_proxies() -> None:
    """A second proxy is one too many."""
    twice = make.injected(MADE)
    other = make.proxy(native=False)
    pod = msgspec.structs.replace(twice, spec=msgspec.structs.replace(twice.spec, containers=(*twice.spec.containers, other)))
    assert codes(newborn.injected(make.snapshot(), manifest(pod))) == [("MR421-TWO-PROXIES", "error")]


def test_another_revision() -> None:
    """The proxy is of another revision than the one that the namespace's label leads to."""
    (finding,) = newborn.injected(make.snapshot(), manifest(make.injected(MADE, revision="canary"))).findings
    assert finding.code == "MR421-OTHER-REVISION"
    assert finding.found == "a pod made now got a proxy of revision canary, but the namespace's labels lead to default"


def test_proxy_that_is_not_ready() -> None:
    """A proxy that does not become ready is found."""
    pod = make.injected(MADE)
    statuses = tuple(make.container_status(item.name, ready=item.name != "istio-proxy") for item in pod.status.init_container_statuses)
    pod = msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, init_container_statuses=statuses))
    assert codes(newborn.injected(make.snapshot(), manifest(pod))) == [("MR421-PROXY-NOT-READY", "error")]


def test_comparison_that_compares_nothing() -> None:
    """If the pod that wanted no proxy has one, nothing is compared, and that is said."""
    judgement = newborn.injected(make.snapshot(), manifest(make.injected(MADE)), manifest(make.injected(PLAIN)))
    assert judgement.status is Status.NOT_VERIFIED


AMBIENT = make.namespace(labels={"istio.io/dataplane-mode": "ambient"})
REDIRECTED = {"ambient.istio.io/redirection": "enabled"}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make.pod("meshready-1-inside", annotations=REDIRECTED), []),
        (make.pod("meshready-1-inside"), [("MR421-NOT-REDIRECTED", "error")]),
        (make.meshed_pod("meshready-1-inside", annotations=REDIRECTED), [("MR421-BOTH", "error")]),
    ],
)
def test_ambient(pod: o.Pod, expected: list[tuple[str, str]]) -> None:
    """In an ambient namespace a new pod is redirected to ztunnel and has no sidecar."""
    assert codes(newborn.injected(make.snapshot(namespaces=(AMBIENT,)), manifest(pod))) == expected


@pytest.mark.parametrize("odd", [{}, {"spec": 5}, {"metadata": None}, {"status": {"conditions": "many"}}])
def test_odd_pods_are_no_exception(odd: dict[str, Any]) -> None:
    """A pod without its parts, or of another shape, is a finding or not verified."""
    judgement = newborn.injected(make.snapshot(), odd)
    assert judgement.status in (Status.NOT_VERIFIED, Status.FAILED)
    assert newborn.startup([odd], [odd], namespace="payments").status is Status.NOT_VERIFIED


# --- proxies that answer ----------------------------------------------------------------------------------------------


def test_proxies_ready() -> None:
    """Every sidecar that was asked answers 200."""
    judgement = newborn.proxies_ready(wires.seen(wires.shop()))
    assert (judgement.status, judgement.examined) == (Status.PASSED, 3)


def test_proxy_that_says_it_is_not_ready() -> None:
    """A 503 is a finding about the workload that names the pod."""
    id_ = "ready|orders-7f76cb76bc-p0000"
    judgement = newborn.proxies_ready(wires.seen(wires.shop(), answers={id_: Answer(id=id_, outcome=Outcome.ANSWERED, status=503)}))
    assert codes(judgement) == [("MR421-PROXY-NOT-READY", "error")]
    assert str(judgement.findings[0].object) == "payments/Deployment/orders"
    assert "orders-7f76cb76bc-p0000 (503)" in judgement.findings[0].found


def test_silent_proxy_is_not_verified() -> None:
    """Without an answer a policy of the network may be in the way."""
    id_ = "ready|orders-7f76cb76bc-p0000"
    judgement = newborn.proxies_ready(wires.seen(wires.shop(), answers={id_: Answer(id=id_, outcome=Outcome.TIMEOUT)}))
    assert judgement.status is Status.NOT_VERIFIED
    assert [item.reason for item in judgement.unknown] == [
        "the readiness of the proxies of orders-7f76cb76bc-p0000 timed out: no connection was made"
    ]


def test_no_sidecar_to_ask_is_not_verified() -> None:
    """A namespace without sidecars has none that is ready."""
    assert newborn.proxies_ready(wires.seen(wires.shop(deployments=(), pods=(), services=()))).status is Status.NOT_VERIFIED


def test_ambient_pods_have_no_proxy_to_ask() -> None:
    """What carries their traffic is looked at on their nodes; the line's other live evidence decides."""
    deployment = make.deployment("orders", replicas=1)
    pods = make.pods_of(deployment, meshed=False, annotations={"ambient.istio.io/redirection": "enabled"})
    seen = wires.seen(wires.shop(deployments=(deployment,), pods=pods, services=(make.service("orders"),)))
    assert newborn.proxies_ready(seen).status is Status.NOT_APPLICABLE


# --- start-up ---------------------------------------------------------------------------------------------------------


def started(seconds: int, *, meshed: bool = False, restarted: bool = False) -> dict[str, Any]:
    """A pod that took so long from scheduled to ready."""
    times = {"PodScheduled": "2026-08-25T08:00:00Z", "Ready": f"2026-08-25T08:00:{seconds:02d}Z"}
    ended = o.StateDetail(reason="Error", exit_code=1, finished_at="2026-08-25T08:00:03Z")
    app = o.ContainerStatus(
        name="app",
        ready=True,
        restart_count=1 if restarted else 0,
        state=o.ContainerState(running=o.StateDetail(started_at="2026-08-25T08:00:04Z")),
        last_state=o.ContainerState(terminated=ended if restarted else None),
    )
    pod = make.pod(f"meshready-{seconds}")
    status = msgspec.structs.replace(
        pod.status,
        start_time="2026-08-25T08:00:00Z",
        conditions=tuple(o.Condition(type=kind, status="True", last_transition_time=time) for kind, time in times.items()),
        container_statuses=(app,),
    )
    plain = msgspec.structs.replace(pod, status=status)
    return manifest(make.injected(plain) if meshed else plain)


@pytest.mark.parametrize(
    ("with_proxy", "without", "status"),
    [
        ((4, 5, 5), (3, 3, 3), Status.PASSED),
        ((8, 8, 30), (3, 3, 3), Status.PASSED),  # the median, not the slowest
        ((9, 9, 9), (3, 3, 3), Status.WARNED),
        ((18, 18, 18), (3, 3, 3), Status.WARNED),
        ((20, 20, 20), (3, 3, 3), Status.FAILED),
        ((3, 3, 3), (4, 4, 4), Status.PASSED),
        ((4, 4), (3, 3), Status.NOT_VERIFIED),
    ],
)
def test_start_up_delay(with_proxy: tuple[int, ...], without: tuple[int, ...], status: Status) -> None:
    """Up to 5 s pass, up to 15 s warn, more fails; two pairs are too few."""
    meshed, plain = [started(seconds, meshed=True) for seconds in with_proxy], [started(seconds) for seconds in without]
    assert newborn.startup(meshed, plain, namespace="payments").status is status


def test_application_that_started_too_early() -> None:
    """An application that ended within its first minute and was started again came before its proxy."""
    meshed = [started(4, meshed=True, restarted=True), started(4, meshed=True), started(4, meshed=True)]
    judgement = newborn.startup(meshed, [started(3)] * 3, namespace="payments")
    assert codes(judgement) == [("MR422-FAILED-FIRST-START", "error")]
