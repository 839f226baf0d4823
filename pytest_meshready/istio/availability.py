"""High availability of istiod and of the gateways: does the mesh survive the loss of one pod, node or zone (checks.md 3.1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import HorizontalPodAutoscaler, Node
from pytest_meshready.cluster.snapshot import Snapshot, selects
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.components import Istiod, gateways, held_namespaces, istiods, why_no_istiod
from pytest_meshready.istio.disruption import Budgets, room
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.workloads import Workload, pod_names
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef

#: The kinds that the rule reads.
READS = (*COMPONENTS, "services", "nodes", "poddisruptionbudgets", "horizontalpodautoscalers")

_ZONES = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_INJECTOR = "sidecar-injector.istio.io"


def high_availability(snapshot: Snapshot) -> Judgement:
    """Line 3.1.4: istiod of every revision in use, and every gateway, survives the loss of a pod and of a node.

    Evidence: replicas, autoscalers, budgets, the nodes and zones of the pods, and what the template asks the scheduler.

    Errors: fewer than two replicas (or an autoscaler that may go below two); all pods on one node. Warnings: all pods in
    one of several zones; spread by luck; no PodDisruptionBudget, or one without room; an autoscaler without metrics; no
    priority class; webhooks that fail closed in a mesh of one zone.
    """
    found = istiods(snapshot)
    used = tuple(item for item in found if item.in_use)
    context = _Context.of(snapshot)
    findings: list[Finding] = []
    judged = {workload.ref: workload for workload in (*(item.workload for item in used), *gateways(snapshot))}
    for workload in judged.values():
        findings += _of_workload(context, workload)
    for istiod in used:
        findings += _fails_closed(context, istiod)
    unknown = list(snapshot.unread(*READS))
    if not used:
        unknown.append(why_no_istiod(snapshot))
    return Judgement(
        summary=f"istiod and the gateways ({len(judged)} workloads) survive the loss of a pod, of a node and of a zone",
        examined=len(judged),
        findings=tuple(findings),
        unknown=tuple(unknown),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What the rule looks up for each workload."""

    snapshot: Snapshot
    zone_of: Mapping[str, str]
    budgets: Mapping[str, Budgets]
    autoscalers: Mapping[ObjectRef, HorizontalPodAutoscaler]

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Context:
        scaled = {
            ObjectRef(kind=item.spec.scale_target_ref.kind, namespace=item.metadata.namespace, name=item.spec.scale_target_ref.name): item
            for item in snapshot.horizontalpodautoscalers
        }
        return cls(
            snapshot=snapshot,
            zone_of={node.metadata.name: zone for node in snapshot.nodes if (zone := _zone(node))},
            budgets={namespace: Budgets(snapshot, namespace) for namespace in held_namespaces(snapshot)},
            autoscalers=scaled,
        )

    @property
    def zones(self) -> frozenset[str]:
        """The zones of the cluster; none where its nodes are not labelled."""
        return frozenset(self.zone_of.values())


def _zone(node: Node) -> str:
    return next((node.metadata.labels[label] for label in _ZONES if label in node.metadata.labels), "")


def _of_workload(context: _Context, workload: Workload) -> Iterator[Finding]:
    yield from _replicas(context, workload)
    yield from _placement(context, workload)
    if workload.kind != "DaemonSet":  # which has a pod on each node and is not evicted by a drain
        yield from _budget(context, workload)
    if not workload.template.spec.priority_class_name and not any(pod.spec.priority_class_name for pod in workload.pods):
        yield Finding(
            code="MR314-NO-PRIORITY",
            level=Level.WARNING,
            object=workload.ref,
            found="its pods have no priorityClassName: under pressure the scheduler sacrifices them like any other pod",
            wanted="a priority class above the applications', such as system-cluster-critical",
            fix=f"set priorityClassName in its installation (Helm value global.priorityClassName, for the gateway chart "
            f"priorityClassName); now: kubectl -n {workload.ref.namespace} get {workload.kind.lower()} {workload.ref.name} -o yaml",
        )


def _replicas(context: _Context, workload: Workload) -> Iterator[Finding]:
    autoscaler = context.autoscalers.get(workload.ref)
    if autoscaler is not None:
        yield from _autoscaled(workload, autoscaler)
    elif workload.replicas < 2:
        yield Finding(
            code="MR314-SINGLE",
            level=Level.ERROR,
            object=workload.ref,
            found=f"it has {workload.replicas} replica{'' if workload.replicas == 1 else 's'} and no autoscaler",
            wanted="two replicas or more",
            fix=_scale(workload),
        )


def _autoscaled(workload: Workload, autoscaler: HorizontalPodAutoscaler) -> Iterator[Finding]:
    minimum = 1 if autoscaler.spec.min_replicas is None else autoscaler.spec.min_replicas
    namespace, name = autoscaler.metadata.namespace, autoscaler.metadata.name
    if minimum < 2:
        patch = """-p '{"spec": {"minReplicas": 2}}'"""
        yield Finding(
            code="MR314-SINGLE",
            level=Level.ERROR,
            object=workload.ref,
            found=f"its autoscaler {name} may scale it down to {minimum} (now: {workload.replicas})",
            wanted="minReplicas of two or more",
            fix=f"set the installation's value autoscaleMin (gateway chart: autoscaling.minReplicas) to 2: "
            f"kubectl -n {namespace} patch hpa {name} {patch}",
        )
    inert = [condition for condition in autoscaler.status.conditions if condition.type == "ScalingActive" and condition.status == "False"]
    if inert and inert[0].reason != "ScalingDisabled":
        yield Finding(
            code="MR314-AUTOSCALER-BLIND",
            level=Level.WARNING,
            object=workload.ref,
            found=f"its autoscaler {name} gets no metrics ({inert[0].reason or 'ScalingActive is False'}), so it does not scale out",
            wanted="an autoscaler with condition ScalingActive, or fixed replicas",
            fix=f"kubectl -n {namespace} describe hpa {name}",
        )


def _scale(workload: Workload) -> str:
    if workload.kind == "DaemonSet":
        return "let it run on two nodes or more (its nodeSelector and tolerations choose them)"
    return (
        f"set replicas to 2 in its installation (istiod: Helm value autoscaleMin or replicaCount): "
        f"kubectl -n {workload.ref.namespace} scale {workload.kind.lower()} {workload.ref.name} --replicas=2"
    )


def _placement(context: _Context, workload: Workload) -> Iterator[Finding]:
    placed = [pod for pod in workload.pods if pod.spec.node_name]
    nodes = {pod.spec.node_name for pod in placed}
    zones = {context.zone_of[node] for node in nodes if node in context.zone_of}
    namespace = workload.ref.namespace
    see = f"kubectl -n {namespace} get pods -o wide"
    if len(placed) >= 2 and len(nodes) == 1:
        yield Finding(
            code="MR314-ONE-NODE",
            level=Level.ERROR,
            object=workload.ref,
            found=f"all of its pods run on node {next(iter(nodes))}: {pod_names(placed)}",
            wanted="pods on two nodes or more",
            fix="declare topologySpreadConstraints in its template, then restart it: "
            f"kubectl -n {namespace} rollout restart {workload.kind.lower()} {workload.ref.name}",
        )
    elif len(nodes) >= 2 and len(zones) == 1 and len(context.zones) >= 2:
        yield Finding(
            code="MR314-ONE-ZONE",
            level=Level.WARNING,
            object=workload.ref,
            found=f"all of its pods run in zone {next(iter(zones))}, although the cluster has {len(context.zones)} zones",
            wanted="pods in two zones or more",
            fix=f"declare topologySpreadConstraints over topology.kubernetes.io/zone; see: {see}",
        )
    if workload.kind != "DaemonSet" and not _asks_for_spread(workload):
        seen = f"its pods run on {len(nodes)} nodes by luck" if len(nodes) >= 2 else "nothing keeps its pods apart"
        yield Finding(
            code="MR314-SPREAD-BY-LUCK",
            level=Level.WARNING,
            object=workload.ref,
            found=f"{seen}: neither topologySpreadConstraints nor podAntiAffinity select its own pods",
            wanted="topologySpreadConstraints (or podAntiAffinity) that select its own pods",
            fix=f"set the installation's value topologySpreadConstraints or affinity; see: {see}",
        )


def _asks_for_spread(workload: Workload) -> bool:
    """Whether the template asks the scheduler to keep its pods apart. A constraint that selects other pods does not."""
    spec = workload.template.spec
    if any(selects(constraint.label_selector, workload.labels) for constraint in spec.topology_spread_constraints):
        return True
    apart = (spec.affinity or {}).get("podAntiAffinity")
    if not isinstance(apart, dict):
        return False
    rules = ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution")
    return any(apart.get(rule) for rule in rules)


def _budget(context: _Context, workload: Workload) -> Iterator[Finding]:
    namespace, name = workload.ref.namespace, workload.ref.name
    if unread_in(context.snapshot, namespace, "poddisruptionbudgets"):
        return
    budgets = context.budgets[namespace].of_workload(workload)
    replicas = max(workload.replicas, len(workload.pods))
    wanted = "a PodDisruptionBudget that allows one disruption"
    if not budgets:
        yield Finding(
            code="MR314-NO-BUDGET",
            level=Level.WARNING,
            object=workload.ref,
            found="no PodDisruptionBudget selects its pods, so a drain may take all of them at once",
            wanted=wanted,
            fix=f"set the installation's value defaultPodDisruptionBudget.enabled (gateway chart: podDisruptionBudget); "
            f"now: kubectl -n {namespace} get pdb {name} -o yaml",
        )
    for budget in budgets:
        now = room(budget, replicas)
        if now.allowed < 1:
            yield Finding(
                code="MR314-NO-ROOM",
                level=Level.WARNING,
                object=workload.ref,
                found=f"PodDisruptionBudget {budget.metadata.name} allows no disruption: {now.healthy} of {now.expected} pods are healthy",
                wanted=wanted,
                fix=f"kubectl -n {namespace} describe pdb {budget.metadata.name}",
                detail=budget.metadata.name,
            )


def _fails_closed(context: _Context, istiod: Istiod) -> Iterator[Finding]:
    """Injection fails closed: with istiod in the cluster's only zone, the loss of that zone stops every injected pod."""
    if len(context.zones) != 1:
        return
    names = istiod.plane.webhooks if istiod.plane else ()
    closed = sorted(
        config.metadata.name
        for config in context.snapshot.mutatingwebhookconfigurations
        if config.metadata.name in names
        and any(webhook.name.endswith(_INJECTOR) and webhook.failure_policy == "Fail" for webhook in config.webhooks)
    )
    if closed:
        yield Finding(
            code="MR314-FAIL-CLOSED",
            level=Level.WARNING,
            object=istiod.workload.ref,
            found=f"the cluster has one zone ({next(iter(context.zones))}) and webhook {closed[0]} has failurePolicy Fail: "
            "while istiod is away, no injected pod starts",
            wanted="nodes in two zones or more for istiod",
            fix="add nodes in a second zone: kubectl get nodes -L topology.kubernetes.io/zone",
        )
