"""Line 10.2.2, what objects can tell: would the namespace work if its proxies were taken away (checks.md 10.2.2).

The way back is: remove the namespace's label, restart the workloads. What stands in that way is seen before anybody needs it:
proxies that come back by themselves, and clients that insist on mutual TLS with pods that no longer speak it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import clientmodes, servermodes
from pytest_meshready.istio.clientmodes import ClientRules
from pytest_meshready.istio.dataplane import REVISION, proxies
from pytest_meshready.istio.injector import INJECT, INJECTION, MODE, injection
from pytest_meshready.istio.namespaces import unread_in, unread_namespace
from pytest_meshready.istio.podindex import PodIndex
from pytest_meshready.istio.servermodes import strict_in
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_gateway, workloads
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Unknown

#: What `removable` reads.
READS = tuple(
    dict.fromkeys(
        (*WORKLOADS, *clientmodes.READS, *servermodes.READS, "services", "configmaps", "mutatingwebhookconfigurations", "namespaces")
    )
)

_INSISTS = "ISTIO_MUTUAL"
_AMBIENT = "ambient"
_PUTS_IN = frozenset({INJECTION, REVISION, MODE})


def removable(snapshot: Snapshot) -> Judgement:
    """Line 10.2.2, static part.

    Errors: a DestinationRule that makes callers use Istio's mutual TLS towards a Service of the namespace, which ends in 503
    once its pods have no proxy. Warnings: workloads that would have a proxy again although the namespace has no label any
    more. Shown only: ports that are STRICT, because pods without a proxy cannot call those.
    """
    namespace = snapshot.namespace
    judged = [item for item in workloads(snapshot, namespace) if not is_gateway(item)]
    services = [item for item in in_namespace(snapshot.services, namespace) if item.spec.selector]
    findings = [*_insisting(snapshot), *_returning(snapshot, judged), *_strict(snapshot, judged)]
    unknown = [*unread_in(snapshot, namespace, *WORKLOADS, "services"), *snapshot.unread("destinationrules", "backendtlspolicies")]
    unknown += [*snapshot.unread("mutatingwebhookconfigurations"), *unread_namespace(snapshot)]
    if not judged and not unknown:
        unknown.append(Unknown(reason=f"namespace {namespace} has no workload whose proxy could be taken away"))
    return Judgement(
        summary=f"nothing keeps the proxies of {len(judged)} workloads, and no DestinationRule demands them for {len(services)} Services",
        examined=len(judged),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
    )


@dataclass(slots=True)
class _Seen:
    """The ports of Services that one rule is for, and where in it that stands."""

    places: dict[str, None] = field(default_factory=dict)
    targets: dict[str, None] = field(default_factory=dict)


def _insisting(snapshot: Snapshot) -> Iterator[Finding]:
    rules = ClientRules(snapshot)
    pods = PodIndex(snapshot, snapshot.namespace)
    seen: dict[ObjectRef, _Seen] = {}
    for service in in_namespace(snapshot.services, snapshot.namespace):
        for port in service.spec.ports if service.spec.selector else ():
            for client in rules.clients:
                for mode in rules.modes(service.metadata.name, snapshot.namespace, port.port, client):
                    if mode.mode == _INSISTS and mode.by is not None and (not mode.labels or pods.select(mode.labels)):
                        one = seen.setdefault(mode.by, _Seen())
                        one.places[mode.place] = None
                        one.targets[f"{service.metadata.name}:{port.port}"] = None
    for rule, one in seen.items():
        yield Finding(
            code="MR1022-DEMANDS-MTLS",
            level=Level.ERROR,
            object=rule,
            found=f"it makes callers use {_INSISTS} towards {shortened(one.targets)} ({', '.join(one.places)}): without a proxy there, "
            "every call would end in 503",
            wanted="no TLS mode, so that automatic mutual TLS follows what the pods can do",
            fix=f"take trafficPolicy.tls out before a rollback: kubectl -n {rule.namespace} edit destinationrule {rule.name}",
        )


# --- proxies that stay ------------------------------------------------------------------------------------------------


def _returning(snapshot: Snapshot, judged: list[Workload]) -> Iterator[Finding]:
    """Workloads that would have a proxy although the label of the namespace is gone."""
    namespace = snapshot.this_namespace()
    if namespace is None:
        return
    labels = {key: value for key, value in namespace.metadata.labels.items() if key not in _PUTS_IN}
    by_webhook: dict[str, list[str]] = {}
    for workload in judged:
        template = workload.template
        if proxies(template):
            found = "its template contains the proxy itself (istioctl kube-inject), so no label takes it away"
            yield _stays(workload, "BY-HAND", found, "take the containers of Istio out of the template")
            continue
        if template.metadata.labels.get(MODE) == _AMBIENT:
            found = f"its pods are in the ambient mesh by their own label {MODE}, also without the namespace's"
            yield _stays(workload, "BY-POD-LABEL", found, "take that label out of the template")
            continue
        again = injection(
            snapshot, labels, template.metadata.labels, template.metadata.annotations, host_network=template.spec.host_network
        )
        own = [key for key in (INJECT, REVISION) if key in template.metadata.labels]
        if again.injected and own:
            found = f"its pods are injected by their own label {' and '.join(own)}, also without the namespace's"
            yield _stays(workload, "BY-POD-LABEL", found, "take that label out of the template")
        elif again.injected:
            by_webhook.setdefault(again.configurations[0], []).append(workload.ref.name)
    for configuration, names in by_webhook.items():
        yield Finding(
            code="MR1022-BY-WEBHOOK",
            level=Level.WARNING,
            object=ObjectRef(kind="MutatingWebhookConfiguration", name=configuration),
            found=f"it injects {shortened(names)} although the namespace carries no label, so removing the label changes nothing",
            wanted="injection by label alone",
            fix=f"switch it off for the namespace instead: kubectl label namespace {snapshot.namespace} {INJECTION}=disabled --overwrite",
        )


def _stays(workload: Workload, code: str, found: str, fix: str) -> Finding:
    ref = workload.ref
    return Finding(
        code=f"MR1022-{code}",
        level=Level.WARNING,
        object=ref,
        found=found,
        wanted="injection by the namespace's label alone, so that one command takes it back",
        fix=f"{fix}: kubectl -n {ref.namespace} edit {ref.kind.lower()} {ref.name}",
    )


def _strict(snapshot: Snapshot, judged: list[Workload]) -> Iterator[Finding]:
    """Workloads that refuse callers without a proxy: what is rolled back first cannot call what is rolled back later."""
    demands = strict_in(snapshot)
    names = [item.ref.name for item in judged if any(proxies(pod) and demands(pod) for pod in item.pods[:1])]
    if names:
        yield Finding(
            code="MR1022-STRICT",
            level=Level.INFO,
            object=ObjectRef(kind="Namespace", name=snapshot.namespace),
            found=f"{len(names)} of its workloads are STRICT ({shortened(names)}): while they are rolled back one by one, those without a "
            "proxy cannot call the others",
            wanted="a rollback that begins with PERMISSIVE",
            fix=f"first PERMISSIVE, then the label, then the restarts: kubectl -n {snapshot.namespace} get peerauthentication",
        )
