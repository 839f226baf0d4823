"""The mTLS mode of a port by the PeerAuthentications alone: every case of precedence (checks.md 2.4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import MeshConfig
from pytest_meshready.istio.servermodes import Mode, Scope, is_strict, server_modes, strict_in
from tests.unit import builders as make

ORDERS = {"app": "orders", "version": "v1"}
OLD, YOUNG = "2026-08-01T00:00:00Z", "2026-08-02T00:00:00Z"


def mesh(mode: str | None, name: str = "default", created: str = OLD, **fields: Any) -> o.PeerAuthentication:
    return make.peerauthentication(name, mode, namespace=make.ISTIO, created=created, **fields)


def here(mode: str | None, name: str = "default", created: str = OLD, **fields: Any) -> o.PeerAuthentication:
    return make.peerauthentication(name, mode, created=created, **fields)


def for_orders(mode: str | None, name: str = "orders", created: str = OLD, **fields: Any) -> o.PeerAuthentication:
    return make.peerauthentication(name, mode, selector={"app": "orders"}, created=created, **fields)


CASES = {
    "nothing": ((), "PERMISSIVE", "", Scope.DEFAULT),
    "the mesh decides": ((mesh("STRICT"),), "STRICT", "istio-system/default", Scope.MESH),
    "the mesh may disable": ((mesh("DISABLE"),), "DISABLE", "istio-system/default", Scope.MESH),
    "a mesh without mtls inherits the default": ((mesh(None),), "PERMISSIVE", "", Scope.DEFAULT),
    "UNSET in the mesh inherits the default": ((mesh("UNSET"),), "PERMISSIVE", "", Scope.DEFAULT),
    "the namespace before the mesh": ((mesh("STRICT"), here("PERMISSIVE")), "PERMISSIVE", "payments/default", Scope.NAMESPACE),
    "UNSET in the namespace inherits from the mesh": ((mesh("STRICT"), here("UNSET")), "STRICT", "istio-system/default", Scope.MESH),
    "no mtls in the namespace inherits from the mesh": ((mesh("STRICT"), here(None)), "STRICT", "istio-system/default", Scope.MESH),
    "an empty mode inherits": ((mesh("STRICT"), here("")), "STRICT", "istio-system/default", Scope.MESH),
    "the workload before the namespace": ((here("STRICT"), for_orders("DISABLE")), "DISABLE", "payments/orders", Scope.WORKLOAD),
    "UNSET for the workload inherits from the namespace": (
        (mesh("DISABLE"), here("STRICT"), for_orders("UNSET")),
        "STRICT",
        "payments/default",
        Scope.NAMESPACE,
    ),
    "UNSET twice inherits from the mesh": ((mesh("DISABLE"), here(None), for_orders(None)), "DISABLE", "istio-system/default", Scope.MESH),
    "the port before the workload": (
        (here("STRICT"), for_orders("STRICT", ports={8080: "PERMISSIVE"})),
        "PERMISSIVE",
        "payments/orders",
        Scope.PORT,
    ),
    "UNSET for the port inherits from the workload": (
        (here("PERMISSIVE"), for_orders("STRICT", ports={8080: "UNSET"})),
        "STRICT",
        "payments/orders",
        Scope.WORKLOAD,
    ),
    "UNSET for the port and the workload inherits from the namespace": (
        (here("STRICT"), for_orders(None, ports={8080: "UNSET"})),
        "STRICT",
        "payments/default",
        Scope.NAMESPACE,
    ),
    "another port does not matter": (
        (here("STRICT"), for_orders("UNSET", ports={9090: "DISABLE"})),
        "STRICT",
        "payments/default",
        Scope.NAMESPACE,
    ),
    "a port of the Service that is none of the pod does not matter": (
        (here("STRICT"), for_orders("UNSET", ports={80: "PERMISSIVE"})),
        "STRICT",
        "payments/default",
        Scope.NAMESPACE,
    ),
    "ports of a policy without selector do not count": (
        (here("STRICT", ports={8080: "DISABLE"}),),
        "STRICT",
        "payments/default",
        Scope.NAMESPACE,
    ),
    "an empty selector is that of a namespace": (
        (here("STRICT", selector={}), for_orders("PERMISSIVE")),
        "PERMISSIVE",
        "payments/orders",
        Scope.WORKLOAD,
    ),
    "the oldest of the namespace": (
        (here("STRICT", "a", YOUNG), here("PERMISSIVE", "z", OLD)),
        "PERMISSIVE",
        "payments/z",
        Scope.NAMESPACE,
    ),
    "the oldest of the mesh": ((mesh("STRICT", "a", YOUNG), mesh("DISABLE", "z", OLD)), "DISABLE", "istio-system/z", Scope.MESH),
    "the oldest for the workload": (
        (for_orders("STRICT", "a", YOUNG), for_orders("DISABLE", "z", OLD)),
        "DISABLE",
        "payments/z",
        Scope.WORKLOAD,
    ),
    "the oldest even if it inherits": (
        (mesh("PERMISSIVE"), here("STRICT", "a", YOUNG), here("UNSET", "z", OLD)),
        "PERMISSIVE",
        "istio-system/default",
        Scope.MESH,
    ),
    "ports of a younger policy do not count": (
        (for_orders("STRICT", "z", OLD), for_orders("STRICT", "a", YOUNG, ports={8080: "DISABLE"})),
        "STRICT",
        "payments/z",
        Scope.WORKLOAD,
    ),
    "of the same second the first by name": ((here("STRICT", "b"), here("DISABLE", "a")), "DISABLE", "payments/a", Scope.NAMESPACE),
    "a selector in the root namespace has no effect": ((mesh("DISABLE", selector={"app": "orders"}),), "PERMISSIVE", "", Scope.DEFAULT),
    "a selector of other pods does not matter": ((here("DISABLE", selector={"app": "ledger"}),), "PERMISSIVE", "", Scope.DEFAULT),
    "a selector needs all its labels": (
        (here("DISABLE", selector={"app": "orders", "version": "v2"}),),
        "PERMISSIVE",
        "",
        Scope.DEFAULT,
    ),
    "another namespace does not matter": ((make.peerauthentication(mode="DISABLE", namespace="other"),), "PERMISSIVE", "", Scope.DEFAULT),
    "a mode that Istio does not have": ((here("MAYBE"),), "UNKNOWN", "payments/default", Scope.NAMESPACE),
}


@pytest.mark.parametrize(("policies", "mode", "by", "scope"), CASES.values(), ids=CASES)
def test_precedence(policies: tuple[o.PeerAuthentication, ...], mode: str, by: str, scope: Scope) -> None:
    """The narrowest policy that sets a mode decides, the oldest of each scope, whatever the order of the list."""
    for order in (policies, policies[::-1]):
        found = server_modes(make.snapshot(peerauthentications=order), ORDERS, make.NAMESPACE, (8080,))[8080]
        assert (found.mode, found.scope) == (mode, scope)
        assert (f"{found.by.namespace}/{found.by.name}" if found.by else "") == by


def test_a_pod_of_the_root_namespace() -> None:
    """In the root namespace only the policy of the mesh counts, and no selector."""
    policies = (mesh("STRICT"), mesh("DISABLE", "gateway", selector=ORDERS, ports={8080: "DISABLE"}))
    found = server_modes(make.snapshot(peerauthentications=policies), ORDERS, make.ISTIO, (8080, 9090))
    assert {mode.mode for mode in found.values()} == {Mode.STRICT}


def test_the_root_namespace_is_the_mesh_configs() -> None:
    """The policy of the mesh lies where meshConfig.rootNamespace says, not in the control plane's namespace."""
    policies = (mesh("DISABLE"), make.peerauthentication(mode="STRICT", namespace="mesh-root"))
    snapshot = make.snapshot(mesh=MeshConfig(root_namespace="mesh-root"), peerauthentications=policies)
    assert server_modes(snapshot, ORDERS, make.NAMESPACE, (8080,))[8080].mode is Mode.STRICT


IGNORED = {
    "younger in the namespace": ((here("PERMISSIVE"), here("STRICT", "strict", YOUNG)), "payments/strict"),
    "younger in the mesh": ((mesh("PERMISSIVE"), mesh("STRICT", "strict", YOUNG)), "istio-system/strict"),
    "younger for the workload": ((for_orders("PERMISSIVE"), for_orders("STRICT", "strict", YOUNG)), "payments/strict"),
    "selector in the root namespace": ((mesh("STRICT", "strict", selector=ORDERS),), "istio-system/strict"),
}


@pytest.mark.parametrize(("policies", "name"), IGNORED.values(), ids=IGNORED)
def test_what_is_ignored_is_told(policies: tuple[o.PeerAuthentication, ...], name: str) -> None:
    """A policy that looks as if it were in force is named with what it asks for."""
    found = server_modes(make.snapshot(peerauthentications=policies), ORDERS, make.NAMESPACE, (8080,))[8080]
    assert [(f"{item.policy.namespace}/{item.policy.name}", item.wanted) for item in found.ignored] == [(name, Mode.STRICT)]


def test_policies_of_other_pods_are_not_called_ignored() -> None:
    """A selector that does not match is not a policy without effect."""
    policies = (here("STRICT"), here("PERMISSIVE", "ledger", selector={"app": "ledger"}), mesh("STRICT", selector={"app": "ledger"}))
    assert server_modes(make.snapshot(peerauthentications=policies), ORDERS, make.NAMESPACE, (8080,))[8080].ignored == ()


def test_odd_keys_of_ports_are_passed_over() -> None:
    """A key of portLevelMtls that is no port changes nothing and breaks nothing."""
    spec = o.PeerAuthenticationSpec(
        selector=o.WorkloadSelector(match_labels={"app": "orders"}),
        mtls=o.MutualTls(mode="STRICT"),
        port_level_mtls={key: o.MutualTls(mode="DISABLE") for key in ("http", "", "-8080", "8080.0", "70000", "9" * 5000, "٨٠٨٠")},
    )
    policy = o.PeerAuthentication(metadata=make.metadata("odd"), spec=spec)
    found = server_modes(make.snapshot(peerauthentications=(policy,)), ORDERS, make.NAMESPACE, (0, 8080, 65535))
    assert {mode.mode for mode in found.values()} == {Mode.STRICT}


STRICTNESS = {
    "native sidecar": (make.meshed_pod(), True),
    "classic sidecar": (make.classic_pod(), True),
    "ambient": (make.pod(annotations={"ambient.istio.io/redirection": "enabled"}), True),
    "no proxy": (make.pod(), False),
    "host network": (make.pod(host_network=True), False),
    "gateway": (make.gateway_pod(namespace=make.NAMESPACE), False),
}


@pytest.mark.parametrize(("pod", "strict"), STRICTNESS.values(), ids=STRICTNESS)
def test_only_a_proxy_can_be_strict(pod: o.Pod, strict: bool) -> None:
    """STRICT says nothing about a pod that has no proxy to demand it."""
    assert is_strict(make.snapshot(peerauthentications=(here("STRICT"),)), pod) is strict


def test_strictness_of_one_port() -> None:
    """The question can be asked of a port that has a mode of its own."""
    strict = strict_in(make.snapshot(peerauthentications=(here("STRICT"), for_orders("UNSET", ports={8080: "PERMISSIVE"}))))
    assert (strict(make.meshed_pod()), strict(make.meshed_pod(), 8080), strict(make.meshed_pod(), 9090)) == (True, False, True)


# --- against a tiny formulation of the rules --------------------------------------------------------------------------

WORDS = ("", "UNSET", "STRICT", "PERMISSIVE", "DISABLE")
TIMES = st.sampled_from(["", "not a time", OLD, YOUNG, "2026-08-01T00:00:00+02:00"])
SELECTORS = st.sampled_from([None, {}, {"app": "orders"}, {"app": "orders", "version": "v1"}, {"app": "ledger"}, {"": ""}])


@st.composite
def policies(draw: st.DrawFn) -> tuple[o.PeerAuthentication, ...]:
    """Some policies with different names, in the namespace, the root namespace and a third one."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6))
    made = []
    for name in names:
        policy = make.peerauthentication(
            name,
            draw(st.sampled_from((None, *WORDS))),
            namespace=draw(st.sampled_from([make.NAMESPACE, make.ISTIO, "other"])),
            selector=draw(SELECTORS),
            ports=draw(st.dictionaries(st.sampled_from([0, 80, 8080, 99999]), st.sampled_from(WORDS), max_size=2)),
            created=draw(TIMES),
        )
        made.append(policy)
    return tuple(made)


def expected(every: tuple[o.PeerAuthentication, ...], labels: dict[str, str], port: int) -> str:
    """Checks.md 2.4 in the fewest words."""

    def when(policy: o.PeerAuthentication) -> tuple[float, str]:
        seconds = {OLD: 2.0, YOUNG: 3.0, "2026-08-01T00:00:00+02:00": 1.0}.get(policy.metadata.creation_timestamp or "", 0.0)
        return seconds, policy.metadata.name

    def oldest(namespace: str, *, selecting: bool) -> o.PeerAuthentication | None:
        found = [policy for policy in every if policy.metadata.namespace == namespace]
        found = [policy for policy in found if bool(policy.spec.selector and policy.spec.selector.match_labels) is selecting]
        found = [policy for policy in found if not policy.spec.selector or policy.spec.selector.match_labels.items() <= labels.items()]
        return min(found, key=when, default=None)

    mode = "PERMISSIVE"
    workload = oldest(make.NAMESPACE, selecting=True)
    for policy in (oldest(make.ISTIO, selecting=False), oldest(make.NAMESPACE, selecting=False), workload):
        if policy and policy.spec.mtls and policy.spec.mtls.mode not in ("", "UNSET"):
            mode = policy.spec.mtls.mode
    own = workload.spec.port_level_mtls.get(str(port)) if workload and 0 < port < 65536 else None
    return own.mode if own and own.mode not in ("", "UNSET") else mode


@given(policies(), st.sampled_from([ORDERS, {}, {"app": "ledger"}]), st.sampled_from([80, 8080, 9090]))
def test_the_mode_is_that_of_the_rules_in_few_words(every: tuple[o.PeerAuthentication, ...], labels: dict[str, str], port: int) -> None:
    """For any policies the mode equals that of the shortest formulation of istiod's rules."""
    assert server_modes(make.snapshot(peerauthentications=every), labels, make.NAMESPACE, (port,))[port].mode == expected(
        every, labels, port
    )
