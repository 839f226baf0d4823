"""Line 2.2.5: do NetworkPolicies let through what a mesh needs (checks.md 2.2.5).

Evaluated are Kubernetes' own policies of the namespace and of the control plane's. Whether the network enforces them at all
is for traffic to say. The kubelet's probes come from the pod's own node, which Kubernetes always permits. What a NetworkPolicy
denies is not refused but never answered, so a mistake here is found late: proxies keep their last configuration, and their
certificates for up to a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.objects_network import NetworkPolicy
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import callflows, flows
from pytest_meshready.istio.callflows import call_flows
from pytest_meshready.istio.flows import WHO, Flow, Survey
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.netpolicy import Policies, allows_everything
from pytest_meshready.istio.routes import Routes
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `network_policies` reads.
READS = tuple(dict.fromkeys(("networkpolicies", "apiservices", *flows.READS, *callflows.READS)))

#: Groups of APIs whose policies decide besides, and the kind to look for.
OTHERS = {
    "cilium.io": "ciliumnetworkpolicies.cilium.io",
    "crd.projectcalico.org": "networkpolicies.crd.projectcalico.org",
    "projectcalico.org": "networkpolicies.projectcalico.org",
    "crd.antrea.io": "networkpolicies.crd.antrea.io",
    "policy.networking.k8s.io": "adminnetworkpolicies.policy.networking.k8s.io",
}


def network_policies(snapshot: Snapshot) -> Judgement:
    """Line 2.2.5, static part.

    Errors: a policy keeps proxies from istiod, pods from DNS, Prometheus from the proxies, gateways from the applications,
    the API server from istiod's webhook, or everybody from a gateway. Warnings: no policy at all; one that allows everything;
    calls that AuthorizationPolicies allow and NetworkPolicies do not; spans, declared external hosts, istiod's metrics.
    """
    namespace = snapshot.namespace
    unknown = list(unread_in(snapshot, namespace, "networkpolicies"))
    own = in_namespace(snapshot.networkpolicies, namespace)
    policies = Policies(snapshot.networkpolicies, {item.metadata.name: item.metadata.labels for item in snapshot.namespaces})
    survey = Survey(snapshot, policies)
    needed = list(survey.flows())
    if survey.isolated:
        routes = Routes(snapshot)
        needed += call_flows(survey, routes)
        unknown += [*routes.unknown(), *snapshot.unread("node_pods", "authorizationpolicies")]
    findings = [_finding(item) for item in _denied(policies, needed)]
    if not unknown:
        findings += _reviewed(namespace, own)
    if not needed and not unknown:
        nobody = Unknown(reason=f"namespace {namespace} has no workload, so there is no connection to look at")
        unknown += snapshot.unread("pods") or (nobody,)
    findings += _other_policies(snapshot)
    return Judgement(
        summary=f"the {len(own)} NetworkPolicies of namespace {namespace} permit the {len(needed)} connections that its mesh needs",
        examined=len(needed),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="networkpolicies", data=[_row(item) for item in snapshot.networkpolicies[:50]]),),
    )


@dataclass(slots=True, kw_only=True)
class _Denied:
    """A connection that the same policies deny to or from several workloads."""

    flow: Flow
    policies: tuple[NetworkPolicy, ...]
    who: dict[str, None]


def _denied(policies: Policies, needed: Iterable[Flow]) -> Iterable[_Denied]:
    """The connections that are denied, those of one kind by the same policies together."""
    found: dict[tuple[str, str, tuple[str, ...]], _Denied] = {}
    for flow in needed:
        isolating = policies.isolating(flow.own, flow.direction)
        if isolating and _denies(policies, isolating, flow):
            key = (flow.direction, flow.deed.text, tuple(item.metadata.name for item in isolating))
            found.setdefault(key, _Denied(flow=flow, policies=isolating, who={})).who[flow.who] = None
    return found.values()


def _denies(policies: Policies, isolating: tuple[NetworkPolicy, ...], flow: Flow) -> bool:
    """Whether it is certain that no way is left: every other end, every port that would do."""
    pairs = ((peer, port) for peer in flow.peers for port in flow.ports)
    return all(policies.permit(isolating, flow.direction, own=flow.own, peer=peer, port=port) is False for peer, port in pairs)


def _finding(denied: _Denied) -> Finding:
    flow, first = denied.flow, denied.policies[0]
    names = list(denied.who)
    who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    others = [item.metadata.name for item in denied.policies[1:]]
    beside = f" (nor of {', '.join(others[:3])})" if others else ""
    ports = " or ".join(f"{port.number}/{port.protocol}" for port in flow.ports)
    namespace, name = first.metadata.namespace, first.metadata.name
    return Finding(
        code=f"MR225-{flow.deed.code}",
        level=flow.deed.level,
        object=ObjectRef(kind=first.kind, namespace=namespace, name=name),
        found=f"no {flow.direction} rule of it{beside} lets {flow.deed.text.replace(WHO, who)} (port {ports}); {flow.deed.cost}",
        wanted=f"a rule that permits port {ports}",
        fix=f"add an {flow.direction} rule for it: kubectl -n {namespace} edit networkpolicy {name}",
        detail=f"{flow.direction} {flow.deed.text}",
    )


def _reviewed(namespace: str, own: tuple[NetworkPolicy, ...]) -> Iterator[Finding]:
    if not own:
        yield Finding(
            code="MR225-NO-POLICY",
            level=Level.WARNING,
            object=ObjectRef(kind="Namespace", name=namespace),
            found="it has no NetworkPolicy: whatever passes its proxies by, or has none, is reached by everybody",
            wanted="policies that permit what is needed, as the second layer beside AuthorizationPolicies",
            fix=f"begin with a default deny and the mesh's own connections: kubectl -n {namespace} get networkpolicy",
        )
    for policy in own:
        if allows_everything(policy):
            name = policy.metadata.name
            yield Finding(
                code="MR225-ALLOWS-EVERYTHING",
                level=Level.WARNING,
                object=ObjectRef(kind=policy.kind, namespace=namespace, name=name),
                found="it opens every pod to everybody on every port, so the other policies of the namespace restrict nothing",
                wanted="rules that name peers and ports",
                fix=f"kubectl -n {namespace} edit networkpolicy {name}",
            )


def _other_policies(snapshot: Snapshot) -> Iterator[Finding]:
    """Policies of other kinds that decide besides and are not evaluated here."""
    served = {item.metadata.name.partition(".")[2]: item for item in snapshot.apiservices}
    for group, kind in OTHERS.items():
        if group in served:
            yield Finding(
                code="MR225-OTHER-POLICIES",
                level=Level.INFO,
                object=ObjectRef(kind="APIService", name=served[group].metadata.name),
                found=f"the cluster also knows policies of {group}, which are not evaluated here",
                wanted="the review covers them, too",
                fix=f"kubectl get {kind} -A",
            )


def _row(policy: NetworkPolicy) -> dict[str, object]:
    return {
        "policy": f"{policy.metadata.namespace}/{policy.metadata.name}",
        "selects": policy.spec.pod_selector.match_labels or "every pod",
        "ingress rules": len(policy.spec.ingress or ()),
        "egress rules": len(policy.spec.egress or ()),
    }
