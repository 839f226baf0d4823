"""How injection is switched on, and for how much of the cluster: lines 4.1.2 and 4.1.3 (checks.md 4.1, 2.1, 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_meshready.cluster.objects import Namespace, Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace, selects
from pytest_meshready.istio.dataplane import REVISION, SYSTEM_NAMESPACES, counted
from pytest_meshready.istio.injector import (
    INJECTION,
    MODE,
    Cause,
    Decision,
    Hook,
    control_plane_of,
    injection,
    known_revisions,
    live_hooks,
)
from pytest_meshready.istio.namespaces import mesh_label, unread_in, unread_namespace
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `injection_by_label` reads.
LABEL_READS = ("namespaces", "mutatingwebhookconfigurations", "configmaps", "pods", "deployments")

#: What `cluster_wide_injection` reads.
CLUSTER_READS = ("mutatingwebhookconfigurations", "namespaces", "configmaps")

_CONFIGURATION = "MutatingWebhookConfiguration"
#: Labels of a namespace that nobody has labelled: the API server itself sets this one.
_UNLABELLED = {"kubernetes.io/metadata.name": "a-namespace-without-labels"}


def injection_by_label(snapshot: Snapshot) -> Judgement:
    """Line 4.1.2: the namespace carries one label, one live injector answers to it, and its istiod is there.

    A trial with a pod of the same labels, which checks.md adds, is live evidence and not judged here.
    """
    namespace = snapshot.this_namespace()
    if namespace is None:
        return Judgement(unknown=unread_namespace(snapshot))
    labels, label = namespace.metadata.labels, mesh_label(namespace.metadata.labels)
    if label == f"{MODE}=ambient":
        return Judgement(
            summary=f"namespace {snapshot.namespace} is ambient ({label}): nothing is injected, the nodes' ztunnel carries its traffic",
            examined=1,
            findings=tuple(_undiscovered(snapshot, labels)),
            unknown=() if snapshot.mesh else snapshot.unread("configmaps"),
            evidence=(_labels_seen(namespace),),
        )
    decision = injection(snapshot, labels, {}, {})
    findings = [*_two_labels(snapshot, labels), *_not_by_label(snapshot, label, decision), *_conflicts(decision)]
    unknown = [*snapshot.unread("mutatingwebhookconfigurations")]
    if decision.revision:
        findings += _undiscovered(snapshot, labels)
        unknown += () if snapshot.mesh else snapshot.unread("configmaps")
        more, missing = _istiod(snapshot, decision.hooks[0])
        findings += more
        unknown += missing
    if decision.revision and not decision.policy_known:
        unknown += snapshot.unread("configmaps") or (_no_injector_config(snapshot, decision.revision),)
    return Judgement(
        summary=f"{label} on namespace {snapshot.namespace}; {decision.reason}",
        examined=1,
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(_labels_seen(namespace),),
    )


def _namespace(snapshot: Snapshot) -> ObjectRef:
    return ObjectRef(kind="Namespace", name=snapshot.namespace)


def _labels_seen(namespace: Namespace) -> Evidence:
    """The labels that decide, and no others: what else a team writes on its namespace is its own business."""
    seen = {key: value for key, value in namespace.metadata.labels.items() if key in (INJECTION, REVISION, MODE)}
    return Evidence(kind="labels", source=f"namespace {namespace.metadata.name}", data=seen)


def _two_labels(snapshot: Snapshot, labels: Mapping[str, str]) -> list[Finding]:
    """Labels that contradict each other, and which of them wins."""
    findings, revision = [], labels.get(REVISION)
    if labels.get(INJECTION) == "enabled" and revision:
        known = control_plane_of(snapshot, revision) or snapshot.unread("mutatingwebhookconfigurations")
        gone = "" if known else f", and there is no control plane of revision {revision}"
        findings.append(
            Finding(
                code="MR412-TWO-LABELS",
                level=Level.WARNING,
                object=_namespace(snapshot),
                found=f"it carries {INJECTION}=enabled and {REVISION}={revision}; the first wins, the second has no effect{gone}",
                wanted=f"one of the two: {INJECTION}=enabled or {REVISION}=REVISION",
                fix=f"decide for one; to keep the control plane in use now: kubectl label namespace {snapshot.namespace} {REVISION}-",
            )
        )
    if labels.get(MODE) == "ambient" and mesh_label(labels):
        findings.append(
            Finding(
                code="MR412-SIDECAR-AND-AMBIENT",
                level=Level.WARNING,
                object=_namespace(snapshot),
                found=f"it carries {mesh_label(labels)} and {MODE}=ambient; pods with a sidecar are not captured by ztunnel",
                wanted="one data plane for the namespace",
                fix=f"decide for one; to stay with sidecars: kubectl label namespace {snapshot.namespace} {MODE}-",
            )
        )
    return findings


def label_command(snapshot: Snapshot) -> str:
    """The command that enables injection for the namespace of the run, by a label to which a live injector answers."""
    known = known_revisions(snapshot)
    label = f"{INJECTION}=enabled" if "default" in known or not known else f"{REVISION}={known[0]}"
    return f"kubectl label --overwrite namespace {snapshot.namespace} {label}"


def _not_by_label(snapshot: Snapshot, label: str, decision: Decision) -> list[Finding]:
    """Why a new pod of the namespace would not be injected, or would be for another reason than the namespace's label."""
    if decision.cause is Cause.UNKNOWN:
        return (
            []
            if label
            else [_error(snapshot, "NO-LABEL", f"it carries neither {INJECTION}=enabled nor {REVISION}", label_command(snapshot))]
        )
    if decision.injected and not label:
        return [_error(snapshot, "NO-LABEL", f"it carries no injection label, yet {decision.reason}", label_command(snapshot))]
    if decision.injected:
        return []
    if decision.cause is Cause.NAMESPACE_UNLABELLED:
        return [_pod_level(snapshot) or _error(snapshot, "NO-LABEL", "it carries no injection label", label_command(snapshot))]
    match decision.cause:
        case Cause.NAMESPACE_DISABLED:
            return [_error(snapshot, "DISABLED", f"{decision.reason}, which switches injection off", label_command(snapshot))]
        case Cause.NO_INJECTOR:
            return [_error(snapshot, "NO-INJECTOR", decision.reason, "install Istio, then look again: istioctl install; istioctl tag list")]
        case Cause.NO_REVISION:
            fix = f"label the namespace with a revision that exists (istioctl tag list): {label_command(snapshot)}"
            if label == f"{INJECTION}=enabled":
                fix = "point the default tag at a revision: istioctl tag set default --revision=REVISION"
            return [_error(snapshot, "NO-REVISION", decision.reason, fix)]
        case Cause.SYSTEM_NAMESPACE:
            return [_error(snapshot, "SYSTEM-NAMESPACE", decision.reason, "run the workloads in a namespace of their own")]
    fix = f"look at policy and neverInjectSelector: kubectl -n {snapshot.istio_namespace} get configmap istio-sidecar-injector -o yaml"
    return [_error(snapshot, "POLICY", f"its label is answered, but {decision.reason}", fix)]


def _error(snapshot: Snapshot, code: str, found: str, fix: str) -> Finding:
    return Finding(
        code=f"MR412-{code}",
        level=Level.ERROR,
        object=_namespace(snapshot),
        found=found,
        wanted=f"{INJECTION}=enabled, or {REVISION} with a revision or tag that a live injector answers to",
        fix=fix,
    )


def _pod_level(snapshot: Snapshot) -> Finding | None:
    """The finding for a namespace without a label whose pods all ask for injection by themselves."""
    pods = [pod for pod in in_namespace(snapshot.pods, snapshot.namespace) if counted(pod)]
    if not pods or not all(_asks(snapshot, pod) for pod in pods):
        return None
    return Finding(
        code="MR412-POD-LEVEL",
        level=Level.WARNING,
        object=_namespace(snapshot),
        found=f"it carries no injection label; each of its {len(pods)} pods asks for injection by a label of its own",
        wanted="injection is enabled by the namespace's label, so that no workload is forgotten",
        fix=label_command(snapshot),
    )


def _asks(snapshot: Snapshot, pod: Pod) -> bool:
    """Whether a pod would be injected although its namespace carries no label."""
    decision = injection(snapshot, {}, pod.metadata.labels, pod.metadata.annotations, host_network=pod.spec.host_network)
    return bool(decision.injected)


def _conflicts(decision: Decision) -> list[Finding]:
    """More than one injector for the same pods, or one that lets pods through uninjected when it cannot be reached."""
    if decision.cause is Cause.SEVERAL:
        return [
            Finding(
                code="MR412-TWO-INJECTORS",
                level=Level.ERROR,
                object=ObjectRef(kind=_CONFIGURATION, name=decision.configurations[0]),
                found=f"for a pod of this namespace {decision.reason}",
                wanted="the webhooks of exactly one configuration match (IST0139)",
                fix="remove the one that is left over: istioctl tag list; kubectl get mutatingwebhookconfigurations",
            )
        ]
    lenient = [hook for hook in decision.hooks if hook.webhook.failure_policy == "Ignore"]
    return [
        Finding(
            code="MR412-FAILURE-POLICY",
            level=Level.WARNING,
            object=ObjectRef(kind=_CONFIGURATION, name=hook.configuration),
            found=f"{hook.webhook.name} has failurePolicy Ignore: while istiod cannot be reached, pods start without a sidecar",
            wanted="failurePolicy Fail, so that no pod enters the namespace unseen",
            fix=f"set it back by reinstalling the revision: kubectl get mutatingwebhookconfiguration {hook.configuration} -o yaml",
            detail=hook.webhook.name,
        )
        for hook in lenient
    ]


def _undiscovered(snapshot: Snapshot, labels: Mapping[str, str]) -> list[Finding]:
    """A namespace that istiod does not watch gets no root certificate, and its injected pods wait for it forever."""
    selectors = snapshot.mesh.discovery_selectors if snapshot.mesh else ()
    if not selectors or any(selects(selector, labels) for selector in selectors):
        return []
    ambient = mesh_label(labels) == f"{MODE}=ambient"
    effect = (
        "tells ztunnel nothing of its pods"
        if ambient
        else "writes no istio-ca-root-cert there, and injected pods hang in ContainerCreating"
    )
    found = f"meshConfig.discoverySelectors leave it out: istiod {effect}"
    return [
        Finding(
            code="MR412-NOT-DISCOVERED",
            level=Level.ERROR,
            object=_namespace(snapshot),
            found=found,
            wanted="the labels of a meshed namespace match discoverySelectors",
            fix=f"give the namespace such a label: kubectl -n {snapshot.istio_namespace} get configmap istio -o yaml",
        )
    ]


def _istiod(snapshot: Snapshot, hook: Hook) -> tuple[list[Finding], tuple[Unknown, ...]]:
    """Whether the istiod that the webhook calls is there; one outside the cluster cannot be looked at and is taken as said."""
    service = hook.webhook.client_config.service
    if service is None:
        return [], ()
    if service.namespace not in (snapshot.namespace, snapshot.istio_namespace, snapshot.root_namespace):
        return [], (Unknown(reason=f"istiod of revision {hook.revision} is in {service.namespace}, which was not read"),)
    if unknown := unread_in(snapshot, service.namespace, "deployments"):
        return [], unknown
    found = [
        deployment
        for deployment in in_namespace(snapshot.deployments, service.namespace)
        if deployment.metadata.labels.get("app") == "istiod" and (deployment.metadata.labels.get(REVISION) or "default") == hook.revision
    ]
    if any(deployment.status.ready_replicas for deployment in found) or (found and not snapshot.is_deployed):
        return [], ()
    what = f"Deployment {found[0].metadata.name} has no ready replica" if found else "no Deployment there is its istiod"
    finding = Finding(
        code="MR412-NO-ISTIOD",
        level=Level.ERROR,
        object=ObjectRef(kind=_CONFIGURATION, name=hook.configuration),
        found=f"it sends pods to revision {hook.revision} in {service.namespace}, but {what}",
        wanted="a ready istiod behind the injector",
        fix=f"kubectl -n {service.namespace} get deployments,pods -l app=istiod",
    )
    return [finding], ()


def _no_injector_config(snapshot: Snapshot, revision: str) -> Unknown:
    where = snapshot.istio_namespace
    return Unknown(reason=f"the configuration of revision {revision}'s injector was not found in {where}: its policy is not known")


def cluster_wide_injection(snapshot: Snapshot) -> Judgement:
    """Line 4.1.3: no live injector takes a pod that nobody labelled.

    The webhooks decide. ``enableNamespacesByDefault`` in the injector's configuration only explains: alone it takes effect
    when the webhooks are written the next time, and is a warning until then.
    """
    if unknown := snapshot.unread("mutatingwebhookconfigurations"):
        return Judgement(unknown=unknown)
    hooks = live_hooks(snapshot)
    if not hooks:
        return Judgement(not_applicable="the cluster has no Istio injector that is active, so nothing is injected anywhere")
    open_hooks = [hook for hook in hooks if hook.webhook.name.startswith("auto.") or hook.matches(_UNLABELLED, {})]
    findings = [_open(snapshot, name, open_hooks) for name in dict.fromkeys(hook.configuration for hook in open_hooks)]
    if not open_hooks and snapshot.injector is not None and snapshot.injector.enable_namespaces_by_default:
        findings.append(_by_default(snapshot))
    findings += _system_namespaces(snapshot, hooks)
    shares, share = _shares(snapshot)
    return Judgement(
        summary=f"none of {len(hooks)} active webhooks takes a pod without a label{share}",
        examined=len(hooks),
        findings=tuple(findings),
        evidence=(Evidence(kind="table", source="labels of the namespaces", data=shares),),
    )


def _open(snapshot: Snapshot, configuration: str, hooks: list[Hook]) -> Finding:
    names = ", ".join(hook.webhook.name for hook in hooks if hook.configuration == configuration)
    return Finding(
        code="MR413-CLUSTER-WIDE",
        level=Level.ERROR,
        object=ObjectRef(kind=_CONFIGURATION, name=configuration),
        found=f"it injects pods in namespaces that carry no label ({names})",
        wanted="sidecarInjectorWebhook.enableNamespacesByDefault is false, and every webhook asks for a label",
        fix=f"set it to false and install again: kubectl -n {snapshot.istio_namespace} get configmap istio-sidecar-injector -o yaml",
    )


def _by_default(snapshot: Snapshot) -> Finding:
    return Finding(
        code="MR413-BY-DEFAULT",
        level=Level.WARNING,
        object=ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name="istio-sidecar-injector"),
        found="enableNamespacesByDefault is true, though no webhook shows it yet: it takes effect with the next install or tag",
        wanted="sidecarInjectorWebhook.enableNamespacesByDefault is false",
        fix="set it to false in the values of the installation, then install again: istioctl install -f FILE",
    )


def _system_namespaces(snapshot: Snapshot, hooks: tuple[Hook, ...]) -> list[Finding]:
    """System namespaces whose pods wait for istiod although it injects none of them: while it is away, none starts there."""
    return [
        Finding(
            code="MR413-SYSTEM-NAMESPACE",
            level=Level.WARNING,
            object=ObjectRef(kind="Namespace", name=namespace.metadata.name),
            found="it carries an injection label: istiod injects nothing there, but while it is away no pod of the system starts",
            wanted="no system namespace carries an injection label",
            fix=f"kubectl label namespace {namespace.metadata.name} {INJECTION}- {REVISION}-",
        )
        for namespace in snapshot.namespaces
        if namespace.metadata.name in SYSTEM_NAMESPACES
        and mesh_label(namespace.metadata.labels)
        and any(hook.matches(namespace.metadata.labels, {}) for hook in hooks)
    ]


def _shares(snapshot: Snapshot) -> tuple[dict[str, Any], str]:
    """How many of the namespaces for applications carry a label; an answer for people, not a measure."""
    if snapshot.unread("namespaces"):
        return {}, ""
    own = (*SYSTEM_NAMESPACES, snapshot.istio_namespace, snapshot.root_namespace)
    others = [item for item in snapshot.namespaces if item.metadata.name not in own]
    labelled = {item.metadata.name: label for item in others if (label := mesh_label(item.metadata.labels))}
    return labelled, f"; {len(labelled)} of {len(others)} namespaces carry one"
