"""Lines 2.2.2 and 2.2.3: liveness and readiness probes (checks.md 2.2.2, 2.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import InjectorConfig, Snapshot
from pytest_meshready.istio.probes import liveness_probes, readiness_probes, serving_containers
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as b

REWRITE_OFF = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
TCP = o.Probe(tcp_socket=o.PortAction(port=8080), period_seconds=5)
GRPC = o.Probe(grpc=o.PortAction(port=8080), period_seconds=5)

Rule = Callable[[Snapshot], Judgement]


def _strict(_pod: o.Pod, _port: int) -> bool:
    return True


def _permissive(_pod: o.Pod, _port: int) -> bool:
    return False


def _liveness(snapshot: Snapshot) -> Judgement:
    return liveness_probes(snapshot, strict=_strict)


def _readiness(snapshot: Snapshot) -> Judgement:
    return readiness_probes(snapshot, strict=_strict)


BOTH = pytest.mark.parametrize("rule", [_liveness, _readiness])


def _shop(*containers: o.Container, services: tuple[o.Service, ...] | None = None, rewrite: bool = True, **template: Any) -> Snapshot:
    """Deployment orders with these containers, its two injected pods and its Service."""
    orders = b.deployment("orders", containers=containers or (b.container(),), **template)
    pods = tuple(b.injected(pod, rewrite=rewrite) for pod in b.pods_of(orders, meshed=False))
    return b.snapshot(deployments=(orders,), pods=pods, services=(b.service(),) if services is None else services)


def _codes(judgement: Judgement) -> dict[str, Level]:
    return {finding.code: finding.level for finding in judgement.findings}


@BOTH
def test_the_shop_passes(rule: Rule) -> None:
    """Readiness every 5 s and liveness every 10 s of the same path is not the same probe; rewritten ones reach the application."""
    judgement = rule(_shop())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())


def test_no_readiness_probe_behind_a_service_fails() -> None:
    """Fault no-readiness-probe: one finding about the Deployment, with container and Service."""
    (finding,) = _readiness(_shop(b.container(readiness=None))).findings
    assert (finding.code, finding.level, str(finding.object)) == ("MR223-NO-READINESS", Level.ERROR, "payments/Deployment/orders")
    assert "Service orders sends requests to container app" in finding.found
    assert finding.fix.endswith("kubectl -n payments edit deployment orders")


def test_no_liveness_probe_warns() -> None:
    """Fault no-liveness-probe: a warning in 2.2.2, and nothing in 2.2.3."""
    snapshot = _shop(b.container(liveness=None))
    assert _codes(_liveness(snapshot)) == {"MR222-NO-LIVENESS": Level.WARNING}
    assert _readiness(snapshot).status is Status.PASSED


def test_a_port_that_no_service_uses_only_warns() -> None:
    """A declared port may be for metrics alone; whether requests come to it is not known."""
    assert _codes(_readiness(_shop(b.container(readiness=None), services=()))) == {"MR223-NO-READINESS": Level.WARNING}


def test_only_the_container_behind_the_service_must_be_ready() -> None:
    """The container that declares the target port is meant, by number or by name; a helper without ports is not asked."""
    helper = b.container("shipper", ports=(), readiness=None, liveness=None)
    for target in (8080, "http"):
        service = b.service(target_port=target)
        serving = serving_containers(_shop(helper, b.container(), services=(service,)))
        assert [(item.container.name, item.service) for item in serving] == [("app", "orders")]


def test_an_undeclared_port_is_the_container_with_a_probe() -> None:
    """Kubernetes does not ask that ports are declared: then the container that has a readiness probe is meant, else the first."""
    first, second = b.container("first", ports=(), readiness=None), b.container("second", ports=())
    assert [item.container.name for item in serving_containers(_shop(first, second))] == ["second"]
    bare = b.container("second", ports=(), readiness=None)
    assert [item.container.name for item in serving_containers(_shop(first, bare))] == ["first"]


def test_services_without_a_selector_send_nothing() -> None:
    """An ExternalName or a selector-less Service has no pods of its own."""
    external = b.service(selector={}, type="ExternalName", external_name="db.example.com")
    assert serving_containers(_shop(b.container(ports=()), services=(external,))) == ()


@BOTH
def test_jobs_need_no_probes(rule: Rule) -> None:
    """Nobody sends requests to a Job, even if its container declares a port."""
    plain = b.container(readiness=None, liveness=None)
    snapshot = b.snapshot(jobs=(b.job(containers=(plain,)),), cronjobs=(b.cronjob(containers=(plain,)),))
    judgement = rule(snapshot)
    assert judgement.findings == ()
    assert judgement.status is Status.NOT_VERIFIED


@BOTH
def test_workloads_that_serve_nothing_are_not_asked(rule: Rule) -> None:
    """Permitted lists that show no port make the line not applicable."""
    judgement = rule(_shop(b.container(ports=(), readiness=None, liveness=None), services=()))
    assert judgement.status is Status.NOT_APPLICABLE


@BOTH
def test_gateways_are_not_asked(rule: Rule) -> None:
    """A gateway's only container is Istio's."""
    gateway = b.deployment("edge", containers=(b.gateway_container(),))
    assert rule(b.snapshot(deployments=(gateway,), services=(b.service("edge"),))).findings == ()


def test_the_same_probe_twice_warns() -> None:
    """Same question, threshold and period: a pod that should only leave the traffic is restarted."""
    same = msgspec.structs.replace(b.READINESS)
    judgement = _liveness(_shop(b.container(liveness=same)))
    assert _codes(judgement) == {"MR222-SAME-AS-READINESS": Level.WARNING}
    assert "threshold (3) and period (5 s)" in judgement.findings[0].found


def test_a_port_by_name_is_the_same_port() -> None:
    """A probe of port http asks what a probe of 8080 asks."""
    named = o.Probe(http_get=o.HttpGet(path="/healthz", port="http"), period_seconds=5)
    assert _codes(_liveness(_shop(b.container(liveness=named)))) == {"MR222-SAME-AS-READINESS": Level.WARNING}


@pytest.mark.parametrize(
    "changed",
    [
        {"period_seconds": 10},
        {"failure_threshold": 6},
        {"http_get": o.HttpGet(path="/live", port=8080)},
        {"http_get": None, "tcp_socket": TCP.tcp_socket},
    ],
)
def test_a_different_probe_is_fine(changed: dict[str, Any]) -> None:
    """Another period, threshold, path or protocol is another probe."""
    assert _liveness(_shop(b.container(liveness=msgspec.structs.replace(b.READINESS, **changed)))).status is Status.PASSED


def test_exec_probes_are_never_called_the_same() -> None:
    """Their commands are not kept, so nothing is known of them."""
    run = o.Probe(exec={}, period_seconds=5)
    assert _liveness(_shop(b.container(readiness=run, liveness=run))).status is Status.PASSED


def test_a_probe_of_an_unnamed_port_fails() -> None:
    """The kubelet cannot resolve the name, so the pod never becomes ready, or is restarted for ever."""
    wrong = o.Probe(http_get=o.HttpGet(path="/healthz", port="metrics"))
    snapshot = _shop(b.container(readiness=wrong, liveness=wrong, startup=wrong))
    assert _codes(_readiness(snapshot)) == {"MR223-UNKNOWN-PORT": Level.ERROR}
    assert [finding.detail for finding in _liveness(snapshot).findings if finding.level is Level.ERROR] == ["app/liveness", "app/startup"]


def test_a_probe_of_a_host_port_fails() -> None:
    """The kubelet asks the pod's address, where only the container's port is open."""
    ports = (o.ContainerPort(container_port=8080, host_port=18080),)
    container = msgspec.structs.replace(b.container(readiness=o.Probe(http_get=o.HttpGet(port=18080))), ports=ports)
    assert _codes(_readiness(_shop(container))) == {"MR223-UNKNOWN-PORT": Level.ERROR}


@pytest.mark.parametrize("probe", [b.READINESS, GRPC])
def test_plaintext_probes_through_a_strict_proxy_fail(probe: o.Probe) -> None:
    """Switched off by annotation: one finding with both pods, and the fix names the annotation."""
    snapshot = _shop(b.container(readiness=probe), rewrite=False, annotations=REWRITE_OFF)
    judgement = _readiness(snapshot)
    assert _codes(judgement) == {"MR223-NOT-REWRITTEN": Level.ERROR}
    (finding,) = judgement.findings
    assert f"orders-{b.HASH}-p0000, orders-{b.HASH}-p0001" in finding.found
    assert finding.fix.startswith("remove the annotation sidecar.istio.io/rewriteAppHTTPProbers")


def test_plaintext_probes_are_only_mentioned_while_permissive() -> None:
    """They work today; what will happen under STRICT is said, and decides nothing."""
    snapshot = _shop(rewrite=False, annotations=REWRITE_OFF)
    judgement = readiness_probes(snapshot, strict=_permissive)
    assert _codes(judgement) == {"MR223-NOT-REWRITTEN": Level.INFO}
    assert judgement.status is Status.PASSED


def test_policies_that_cannot_be_read_matter_only_for_such_probes() -> None:
    """A rewritten probe passes whatever the mode; one that goes through the proxy is not verified without the policies."""
    refused = (b.refusal("peerauthentications"),)
    rewritten = msgspec.structs.replace(_shop(), refusals=refused)
    plain = msgspec.structs.replace(_shop(rewrite=False, annotations=REWRITE_OFF), refusals=refused)
    assert readiness_probes(rewritten, strict=_permissive).status is Status.PASSED
    assert readiness_probes(plain, strict=_permissive).status is Status.NOT_VERIFIED


def test_the_port_of_the_probe_decides() -> None:
    """Where one port alone is STRICT, only a probe of that port is refused."""
    snapshot = _shop(rewrite=False, annotations=REWRITE_OFF)
    asked = readiness_probes(snapshot, strict=lambda _pod, port: port == 8080)
    other = readiness_probes(snapshot, strict=lambda _pod, port: port == 9090)
    assert (asked.status, other.status) == (Status.FAILED, Status.PASSED)


def test_the_injector_may_have_rewriting_off() -> None:
    """Then the fix is in the installation, not in the pods."""
    snapshot = msgspec.structs.replace(_shop(rewrite=False), injector=InjectorConfig(rewrite_app_http_probe=False))
    assert "sidecarInjectorWebhook.rewriteAppHTTPProbe=true" in _readiness(snapshot).findings[0].fix


def test_a_tcp_probe_that_envoy_answers_is_blind() -> None:
    """istio#15178: it always succeeds, whatever the mode, so readiness has none (error) and liveness has none (warning)."""
    snapshot = _shop(b.container(readiness=TCP, liveness=TCP), rewrite=False, annotations=REWRITE_OFF)
    assert _codes(readiness_probes(snapshot, strict=_permissive)) == {"MR223-TCP-BLIND": Level.ERROR}
    assert _codes(_liveness(snapshot))["MR222-TCP-BLIND"] is Level.WARNING


def test_a_rewritten_tcp_probe_sees() -> None:
    """The injector turns it into a question to the agent, which connects to the application itself."""
    assert _readiness(_shop(b.container(readiness=TCP))).status is Status.PASSED


def test_exec_probes_do_not_pass_the_proxy() -> None:
    """They run inside the container, so they are not rewritten and need not be."""
    assert _readiness(_shop(b.container(readiness=o.Probe(exec={})))).status is Status.PASSED


@pytest.mark.parametrize(
    "annotation",
    [
        {"traffic.sidecar.istio.io/excludeInboundPorts": "9000, 8080"},
        {"traffic.sidecar.istio.io/includeInboundPorts": "9000"},
        {"sidecar.istio.io/interceptionMode": "NONE"},
    ],
)
def test_a_port_that_is_not_captured_reaches_the_application(annotation: dict[str, str]) -> None:
    """The redirection leaves it alone, so the kubelet speaks to the application."""
    assert _readiness(_shop(rewrite=False, annotations=annotation)).status is Status.PASSED


def test_pods_without_a_sidecar_are_asked_directly() -> None:
    """Nothing stands between the kubelet and a pod outside the mesh."""
    orders = b.deployment("orders")
    snapshot = b.snapshot(deployments=(orders,), pods=b.pods_of(orders, meshed=False), services=(b.service(),))
    assert _readiness(snapshot).status is Status.PASSED


def test_a_container_that_a_later_webhook_added() -> None:
    """The injector saw the pod before it: its probe is not rewritten although the team's is."""
    late = b.container("agent", ports=(), readiness=o.Probe(http_get=o.HttpGet(path="/", port=9000)))
    snapshot = _shop()
    spec = snapshot.pods[0].spec
    pod = msgspec.structs.replace(snapshot.pods[0], spec=msgspec.structs.replace(spec, containers=(*spec.containers, late)))
    (finding,) = _readiness(msgspec.structs.replace(snapshot, pods=(pod, snapshot.pods[1]))).findings
    assert (finding.code, finding.level, finding.detail) == ("MR223-NOT-REWRITTEN", Level.ERROR, "agent/readiness")
    assert "reinvocationPolicy: IfNeeded" in finding.fix


def test_a_lost_original_fails() -> None:
    """Before Istio 1.27 a second injection could lose ISTIO_KUBE_APP_PROBERS; the agent then answers 404."""
    orders = b.deployment("orders")
    stripped = []
    for pod in b.pods_of(orders):
        inits = tuple(msgspec.structs.replace(item, env=()) for item in pod.spec.init_containers)
        stripped.append(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=inits)))
    snapshot = b.snapshot(deployments=(orders,), pods=tuple(stripped), services=(b.service(),))
    assert _codes(_readiness(snapshot)) == {"MR223-PROBER-LOST": Level.ERROR}
    assert _codes(_liveness(snapshot)) == {"MR222-PROBER-LOST": Level.ERROR}


@pytest.mark.parametrize("value", ["", "no json", "[]", '{"/app-health/app/readyz": 7}'])
def test_originals_that_make_no_sense_say_nothing(value: str) -> None:
    """A value that was not kept, or is odd, is no proof that the original is lost."""
    orders = b.deployment("orders")
    pods = tuple(b.injected(pod) for pod in b.pods_of(orders, meshed=False))
    odd = []
    for pod in pods:
        env = (o.EnvVar(name="ISTIO_KUBE_APP_PROBERS", value=value),)
        inits = tuple(msgspec.structs.replace(item, env=env) for item in pod.spec.init_containers)
        odd.append(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, init_containers=inits)))
    snapshot = b.snapshot(deployments=(orders,), pods=tuple(odd), services=(b.service(),))
    assert _readiness(snapshot).status is Status.PASSED


def test_classic_sidecars_are_looked_at_too() -> None:
    """Their proxy is an ordinary container and holds the originals there."""
    orders = b.deployment("orders")
    pods = tuple(b.injected(pod, native=False) for pod in b.pods_of(orders, meshed=False))
    assert _readiness(b.snapshot(deployments=(orders,), pods=pods, services=(b.service(),))).status is Status.PASSED
    naked = tuple(b.injected(pod, native=False, rewrite=False) for pod in b.pods_of(orders, meshed=False))
    judgement = _readiness(b.snapshot(deployments=(orders,), pods=naked, services=(b.service(),)))
    assert _codes(judgement) == {"MR223-NOT-REWRITTEN": Level.ERROR}


def test_a_bare_pod_is_judged_by_its_original_probes() -> None:
    """Only the rewritten pod is there: its probes are read back from the proxy's environment."""
    pod = b.meshed_pod("debug", labels={"app": "orders"}, containers=(b.container(liveness=msgspec.structs.replace(b.READINESS)),))
    judgement = _liveness(b.snapshot(pods=(pod,), services=(b.service(),)))
    assert _codes(judgement) == {"MR222-SAME-AS-READINESS": Level.WARNING}
    assert str(judgement.findings[0].object) == "payments/Pod/debug"


def _killed(started: str, finished: str, *, code: int = 137, reason: str = "Error", ready: bool = False) -> Snapshot:
    """Orders with a container that ended so; its liveness probe gives up after 3 x 10 s, the grace period is 30 s."""
    orders = b.deployment("orders")
    ended = o.StateDetail(reason=reason, exit_code=code, started_at=started, finished_at=finished)
    status = b.container_status("app", ready=ready, restarts=3, last=o.ContainerState(terminated=ended))
    return b.snapshot(deployments=(orders,), pods=b.pods_of(orders, statuses=(status,)), services=(b.service(),))


def test_a_start_that_outlasts_the_liveness_probe_warns() -> None:
    """Killed 32 s after its start, when the probe could first give up, and never ready."""
    judgement = _liveness(_killed("2026-08-25T08:00:00Z", "2026-08-25T08:00:32Z"))
    assert _codes(judgement) == {"MR222-KILLED-WHILE-STARTING": Level.WARNING}
    assert "(30 s after the start)" in judgement.findings[0].found


@pytest.mark.parametrize(
    "snapshot",
    [
        _killed("2026-08-25T08:00:00Z", "2026-08-25T09:00:00Z"),
        _killed("2026-08-25T08:00:00Z", "2026-08-25T08:00:32Z", code=1),
        _killed("2026-08-25T08:00:00Z", "2026-08-25T08:00:32Z", reason="OOMKilled"),
        _killed("2026-08-25T08:00:00Z", "2026-08-25T08:00:32Z", ready=True),
        _killed("", "not a time"),
    ],
    ids=["after an hour", "by itself", "for lack of memory", "ready again", "no times"],
)
def test_other_ends_are_not_the_probe(snapshot: Snapshot) -> None:
    """Only a signal at the time when the probe gives up, in a container that is not ready, points to the probe."""
    assert _liveness(snapshot).status is Status.PASSED


@BOTH
@pytest.mark.parametrize("key", ["pods", "deployments", "services"])
def test_refused_lists_are_not_verified(rule: Rule, key: str) -> None:
    """Each kind that is missing keeps the line from passing, and the right is named."""
    judgement = rule(msgspec.structs.replace(_shop(), refusals=(b.refusal(key),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert judgement.unknown[0].resource.split(".")[0] == key


@BOTH
def test_odd_objects_are_no_exception(rule: Rule) -> None:
    """Empty and senseless objects are looked at without an error."""
    odd = o.Container(
        readiness_probe=o.Probe(http_get=o.HttpGet(port="")), liveness_probe=o.Probe(tcp_socket=o.PortAction()), startup_probe=o.Probe()
    )
    snapshot = b.snapshot(
        deployments=(o.Deployment(metadata=o.Metadata(namespace="payments")), b.deployment("orders", containers=(odd,))),
        pods=(o.Pod(metadata=o.Metadata(namespace="payments")), b.meshed_pod("x", containers=(odd,)), b.meshed_pod("y", containers=())),
        services=(o.Service(metadata=o.Metadata(namespace="payments")), b.service(target_port="", ports=(("", 0),))),
        injector=None,
        mesh=None,
        control_plane=None,
        control_planes=(),
    )
    assert rule(snapshot).status in Status
