"""The rules on mTLS and protocols never raise, and never pass what they cannot know, whatever the objects look like."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import InjectorConfig, MeshConfig, Snapshot, decode, encode
from pytest_meshready.istio.mtls import Mode, permissive, strict_everywhere, strict_in, strict_incrementally
from pytest_meshready.istio.ports import port_states
from pytest_meshready.istio.protocols import supported_protocols
from pytest_meshready.results import Status
from tests.unit import builders as make

NAMES = st.sampled_from(["", "orders", "store", "-", "grpc-web", "http", "tcp-x", "mysql", "*", "x" * 300])
NUMBERS = st.sampled_from([-1, 0, 1, 53, 3306, 6000, 8080, 15020, 65535, 99999, 10**30])
TARGETS = st.one_of(st.none(), NUMBERS, st.sampled_from(["", "0", "http", "8080", "9" * 40, "no-such"]))
NAMESPACES = st.sampled_from([make.NAMESPACE, make.ISTIO, "other", ""])
LABELS = st.dictionaries(st.sampled_from(["app", "version", "sidecar.istio.io/inject", "security.istio.io/tlsMode"]), NAMES, max_size=3)
WORDS = st.sampled_from(["", "UNSET", "STRICT", "PERMISSIVE", "DISABLE", "strict", "SIMPLE", "ISTIO_MUTUAL", "MUTUAL", "?"])
ANNOTATIONS = st.dictionaries(
    st.sampled_from(
        [
            "traffic.sidecar.istio.io/includeInboundPorts",
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "status.sidecar.istio.io/port",
            "sidecar.istio.io/interceptionMode",
            "ambient.istio.io/redirection",
            "sidecar.istio.io/status",
            "inject.istio.io/templates",
        ]
    ),
    st.sampled_from(["", "*", "8080", ",,x,-1", "NONE", "enabled", "{", "grpc-agent", "gateway"]),
    max_size=4,
)

metadata = st.builds(o.Metadata, name=NAMES, namespace=NAMESPACES, labels=LABELS, annotations=ANNOTATIONS)
container_ports = st.builds(o.ContainerPort, container_port=NUMBERS, name=NAMES, protocol=st.sampled_from(["", "TCP", "UDP", "SCTP", "?"]))
probes = st.builds(o.Probe, http_get=st.none() | st.builds(o.HttpGet, port=TARGETS.filter(lambda value: value is not None)))
containers = st.builds(
    o.Container,
    name=st.sampled_from(["app", "istio-proxy", "istio-init", ""]),
    image=st.sampled_from(["", "auto", "proxyv2:1", ":"]),
    args=st.lists(
        st.sampled_from(["proxy", "router", "-b", "-d", "-m", "NONE", "*", "8080", "--domain", "$(POD_NAMESPACE).svc."]), max_size=5
    ).map(tuple),
    ports=st.lists(container_ports, max_size=2).map(tuple),
    restart_policy=st.sampled_from(["", "Always"]),
    readiness_probe=st.none() | probes,
)
specs = st.builds(
    o.PodSpec,
    containers=st.lists(containers, max_size=2).map(tuple),
    init_containers=st.lists(containers, max_size=2).map(tuple),
    host_network=st.booleans(),
)
pods = st.builds(o.Pod, metadata=metadata, spec=specs, status=st.builds(o.PodStatus, phase=st.sampled_from(["", "Running", "Failed"])))
templates = st.builds(o.PodTemplate, metadata=metadata, spec=specs)
deployments = st.builds(o.Deployment, metadata=metadata, spec=st.builds(o.WorkloadSpec, template=templates))
service_ports = st.builds(
    o.ServicePort,
    name=NAMES,
    port=NUMBERS,
    protocol=st.sampled_from(["", "TCP", "UDP", "SCTP", "?"]),
    app_protocol=st.none() | NAMES,
    target_port=TARGETS,
)
services = st.builds(
    o.Service,
    metadata=metadata,
    spec=st.builds(o.ServiceSpec, selector=st.none() | LABELS, ports=st.lists(service_ports, max_size=2).map(tuple), type=NAMES),
)
selectors = st.none() | st.builds(o.WorkloadSelector, match_labels=LABELS)
policies = st.builds(
    o.PeerAuthentication,
    metadata=metadata,
    spec=st.builds(
        o.PeerAuthenticationSpec,
        selector=selectors,
        mtls=st.none() | st.builds(o.MutualTls, mode=WORDS),
        port_level_mtls=st.dictionaries(st.sampled_from(["", "8080", "x", "-1"]), st.builds(o.MutualTls, mode=WORDS), max_size=2),
    ),
)
client_tls = st.none() | st.builds(o.ClientTls, mode=WORDS)
port_policies = st.builds(o.PortTrafficPolicy, port=st.builds(o.PortSelector, number=NUMBERS), tls=client_tls)
traffic_policies = st.none() | st.builds(
    o.TrafficPolicy, tls=client_tls, port_level_settings=st.lists(port_policies, max_size=2).map(tuple)
)
rules = st.builds(
    o.DestinationRule,
    metadata=metadata,
    spec=st.builds(
        o.DestinationRuleSpec,
        host=st.sampled_from(["", "*", "*.local", "orders", "orders.payments.svc.cluster.local", ".", "::1"]),
        traffic_policy=traffic_policies,
        subsets=st.lists(st.builds(o.Subset, name=NAMES, labels=LABELS, traffic_policy=traffic_policies), max_size=2).map(tuple),
        export_to=st.lists(NAMES | st.sampled_from([".", "*"]), max_size=2).map(tuple),
        workload_selector=selectors,
    ),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A snapshot of odd objects, of which some may not have been read."""
    return make.snapshot(
        taken=draw(st.sampled_from(["", "?", make.TAKEN])),
        pods=tuple(draw(st.lists(pods, max_size=3))),
        deployments=tuple(draw(st.lists(deployments, max_size=2))),
        services=tuple(draw(st.lists(services, max_size=2))),
        peerauthentications=tuple(draw(st.lists(policies, max_size=3))),
        destinationrules=tuple(draw(st.lists(rules, max_size=3))),
        mesh=draw(st.sampled_from([None, MeshConfig(), MeshConfig(root_namespace=make.NAMESPACE, enable_auto_mtls=False)])),
        injector=draw(st.sampled_from([None, InjectorConfig(), InjectorConfig(include_inbound_ports="", exclude_inbound_ports=",x")])),
        read=tuple(key for key in RESOURCES if key not in draw(st.sets(st.sampled_from(["pods", "services", "peerauthentications"])))),
        control_plane=draw(st.sampled_from([None, make.DEFAULT_PLANE])),
        namespaces=draw(st.sampled_from([(), (make.namespace(),), (make.namespace(labels={"istio.io/dataplane-mode": "ambient"}),)])),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_odd_objects_are_judged_and_never_raise(snapshot: Snapshot) -> None:
    """Each rule says something with a reason; a pass needs that something was looked at and everything was known."""
    for judgement in (
        permissive(snapshot),
        strict_incrementally(snapshot, (make.NAMESPACE, "other")),
        strict_everywhere(snapshot),
        supported_protocols(snapshot),
    ):
        assert judgement.reason
        if judgement.status is Status.PASSED:
            assert judgement.examined
            assert not judgement.unknown
        for finding in judgement.findings:
            assert "\n" not in finding.found + finding.wanted + finding.fix


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_strict_everywhere_passes_only_strict_ports(snapshot: Snapshot) -> None:
    """Whatever else is odd: 11.1.1 passes only if every port that is known is STRICT behind a proxy."""
    states = port_states(snapshot).states
    if strict_everywhere(snapshot).status is Status.PASSED:
        assert {state.mode for state in states} == {Mode.STRICT}
        assert not any(state.gap for state in states)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshots())
def test_a_saved_snapshot_is_judged_alike(snapshot: Snapshot) -> None:
    """What was saved and read again says the same."""
    again = decode(encode(snapshot))
    assert strict_everywhere(again) == strict_everywhere(snapshot)
    assert supported_protocols(again) == supported_protocols(snapshot)


@given(pods, st.lists(policies, max_size=3))
def test_strictness_of_odd_pods(pod: o.Pod, every: list[o.PeerAuthentication]) -> None:
    """The question whether a pod is STRICT always has an answer, and without a container no sidecar refuses anything."""
    strict = strict_in(make.snapshot(peerauthentications=tuple(every)))
    ambient = pod.metadata.annotations.get("ambient.istio.io/redirection") == "enabled"  # ztunnel stands on the node, not in the pod
    assert ambient or strict(msgspec.structs.replace(pod, spec=o.PodSpec())) is False
    assert strict(pod, 8080) in (True, False)
