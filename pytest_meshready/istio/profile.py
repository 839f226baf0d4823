"""With which profile Istio was installed: lines 3.1.1 and 3.1.2 (checks.md 3.1).

Since 1.26 the installation's own record says so (ConfigMap ``values``). Where it says nothing, and because a record may be
older than what runs, the marks that the demo profile leaves (manifests/profiles/demo.yaml and helm-profiles/demo.yaml in
Istio's source, alike since 1.20) are counted in what runs. A single mark is legitimate: many teams have an egress gateway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Resources
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import DEFAULT, Istiod, istiods, why_no_istiod
from pytest_meshready.istio.components import READS as COMPONENTS
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.quantities import CPU, MEMORY, amount
from pytest_meshready.istio.workloads import is_gateway, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What both rules read.
READS = (*COMPONENTS, "configmaps", "services", "horizontalpodautoscalers")

#: From how many marks on it is the demo profile, and from how many it might be.
CERTAIN = 4
SUSPECT = 2

DEMO = "demo"

#: Profiles that Istio itself calls experimental (their files in manifests/helm-profiles say so).
EXPERIMENTAL = frozenset({"preview", "stable"})

_DEMO_PROVIDERS = frozenset({"otel", "skywalking", "otel-tracing"})
_DEMO_PORTS = frozenset({31400, 15443})
_STDOUT = "/dev/stdout"
_EGRESS = "istio-egressgateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One trace of the demo profile, as a clause; ``there`` is None where it cannot be seen."""

    text: str
    there: bool | None


def production_profile(snapshot: Snapshot) -> Judgement:
    """Line 3.1.1: Istio was installed with the default profile, another one made for production, or values of one's own.

    Errors: the demo profile, by its record or by four of its marks. Warnings: an experimental profile; two or three marks.
    """
    return _judge(snapshot, "311", experimental=True)


def demo_profile_not_used(snapshot: Snapshot) -> Judgement:
    """Line 3.1.2: neither the record of the installation nor what runs shows the demo profile.

    Errors: the record says demo, or four of its marks are found. Warnings: two or three marks.
    """
    return _judge(snapshot, "312", experimental=False)


def demo_marks(snapshot: Snapshot, istiod: Istiod) -> tuple[Mark, ...]:
    """The marks of the demo profile, each looked up in what runs."""
    namespace = istiod.namespace
    providers = {str(item.get("name")) for item in snapshot.mesh.extension_providers} if snapshot.mesh else set()
    logs = (snapshot.mesh.access_log_file == _STDOUT and providers >= _DEMO_PROVIDERS) if snapshot.mesh else None
    return (
        Mark(text="istiod samples every request (PILOT_TRACE_SAMPLING 100)", there=_every_request(istiod.variable("PILOT_TRACE_SAMPLING"))),
        Mark(text="istiod requests 10m CPU and 100Mi", there=_requests(_discovery(istiod), "10m", "100Mi")),
        Mark(text="istiod has no autoscaler", there=_unscaled(snapshot, istiod)),
        Mark(
            text="proxies request 10m CPU and 40Mi",
            there=_requests(snapshot.injector.proxy_resources, "10m", "40Mi") if snapshot.injector else None,
        ),
        Mark(text="access logs go to stdout and the demo's providers otel, skywalking and otel-tracing are defined", there=logs),
        Mark(text=f"there is a gateway {_EGRESS}", there=_egress(snapshot, namespace)),
        Mark(text="an ingress gateway has the ports 31400 and 15443", there=_ports(snapshot, namespace)),
    )


def _judge(snapshot: Snapshot, digits: str, *, experimental: bool) -> Judgement:
    unknown = list(snapshot.unread(*READS))
    istiod = next((item for item in istiods(snapshot) if item.in_use), None)
    findings = list(_recorded(snapshot, digits, experimental=experimental))
    if istiod is None:
        return Judgement(findings=tuple(findings), unknown=(*unknown, why_no_istiod(snapshot)))
    marks = demo_marks(snapshot, istiod)
    there = [mark.text for mark in marks if mark.there]
    if not any(finding.level is Level.ERROR for finding in findings):
        findings += _marked(istiod, there, digits)
    unknown += _unseen(snapshot)
    return Judgement(
        summary=f"{_record(snapshot)}; {len(there)} of {len(marks)} marks of the demo profile" + (f" ({there[0]})" if there else ""),
        examined=1,
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(
            Evidence(kind="text", source="the record of the installation (ConfigMap values)", text=_record(snapshot)),
            Evidence(kind="table", source="what runs", data=[{"mark": mark.text, "found": _said(mark)} for mark in marks]),
        ),
    )


def _record(snapshot: Snapshot) -> str:
    """What the installation recorded, as a clause."""
    if snapshot.install is None:
        return "no record of the installation was found (Istio writes one since 1.26)"
    profile = snapshot.install.profile
    return f"the record of the installation names profile {profile}" if profile else "the record of the installation names no profile"


def _said(mark: Mark) -> str:
    return "not known" if mark.there is None else "yes" if mark.there else "no"


def _recorded(snapshot: Snapshot, digits: str, *, experimental: bool) -> Iterable[Finding]:
    """What the record of the installation says against it."""
    profile = snapshot.install.profile if snapshot.install else ""
    revision = snapshot.control_plane.revision if snapshot.control_plane else ""
    name = "values" if revision in ("", DEFAULT) else f"values-{revision}"
    record = ObjectRef(kind="ConfigMap", namespace=snapshot.istio_namespace, name=name)
    if profile == DEMO:
        yield Finding(
            code=f"MR{digits}-DEMO",
            level=Level.ERROR,
            object=record,
            found="it records that Istio was installed with profile demo: small requests, no autoscaling, every request traced",
            wanted="the default profile, or values of your own",
            fix="install again without profile=demo, with requests, autoscaling and sampling of your own: istioctl install --set "
            "profile=default -f VALUES.yaml",
        )
    elif experimental and profile in EXPERIMENTAL:
        yield Finding(
            code=f"MR{digits}-EXPERIMENTAL",
            level=Level.WARNING,
            object=record,
            found=f"it records that Istio was installed with profile {profile}, which Istio calls experimental",
            wanted="the default profile, or values of your own",
            fix=f"set what you need of {profile} as values of your own, then: istioctl install --set profile=default -f VALUES.yaml",
        )


def _marked(istiod: Istiod, there: list[str], digits: str) -> Iterable[Finding]:
    """Marks that are too many to be a coincidence."""
    if len(there) < SUSPECT:
        return
    certain = len(there) >= CERTAIN
    yield Finding(
        code=f"MR{digits}-DEMO" if certain else f"MR{digits}-LIKE-DEMO",
        level=Level.ERROR if certain else Level.WARNING,
        object=istiod.workload.ref,
        found=f"{len(there)} marks of the demo profile: {'; '.join(there)}",
        wanted="the default profile, or values of your own: at most one of these marks",
        fix="give istiod and its proxies requests for your load, autoscaling and a low sampling rate; see: "
        f"kubectl -n {istiod.namespace} get {istiod.workload.kind.lower()} {istiod.workload.ref.name} -o yaml",
    )


def _unseen(snapshot: Snapshot) -> Iterable[Unknown]:
    """Configuration that exists somewhere, as istiod is here, and was not found."""
    missing = [name for name, found in (("istio", snapshot.mesh), ("istio-sidecar-injector", snapshot.injector)) if found is None]
    if missing and not snapshot.unread("configmaps"):
        yield Unknown(reason=f"ConfigMap {' and '.join(missing)} was not found in {snapshot.istio_namespace}")


def _discovery(istiod: Istiod) -> Resources:
    containers = istiod.workload.template.spec.containers
    return next((c.resources for c in containers if c.name == "discovery"), Resources())


def _requests(resources: Resources, cpu: str, memory: str) -> bool:
    """Whether both requests are exactly these, in whatever unit they are written."""
    asked = resources.requests
    return all(amount(asked.get(name), name) == amount(value, name) for name, value in ((CPU, cpu), (MEMORY, memory)))


def _unscaled(snapshot: Snapshot, istiod: Istiod) -> bool | None:
    if unread_in(snapshot, istiod.namespace, "horizontalpodautoscalers"):
        return None
    targets = (item.spec.scale_target_ref for item in in_namespace(snapshot.horizontalpodautoscalers, istiod.namespace))
    return not any(target.name == istiod.workload.ref.name for target in targets)


def _egress(snapshot: Snapshot, namespace: str) -> bool | None:
    if unread_in(snapshot, namespace, "deployments"):
        return None
    return any(item.ref.name == _EGRESS for item in workloads(snapshot, namespace) if is_gateway(item))


def _ports(snapshot: Snapshot, namespace: str) -> bool | None:
    if unread_in(snapshot, namespace, "services"):
        return None
    return any({port.port for port in item.spec.ports} >= _DEMO_PORTS for item in in_namespace(snapshot.services, namespace))


def _every_request(rate: str) -> bool:
    """Whether a sampling rate is 100 per cent."""
    try:
        return float(rate) == 100.0
    except ValueError:
        return False
