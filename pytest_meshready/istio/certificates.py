"""The mesh's certificates: line 11.1.3, what the objects say of roots and of those who trust them (checks.md 11.1.3).

The roots are read from the ConfigMap that istiod writes into every namespace. Whether certificates of workloads are renewed is
shown by metrics and by a drill; here only how old the pods are, against a certificate's life of a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.objects_certificates import Certificate, RootCertificates
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.callers import mesh_config
from pytest_meshready.istio.dataplane import counted, proxies
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.sidecar_faults import restart
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import Workload, is_gateway, is_ready, pod_names, workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `rotation` reads.
READS = (*WORKLOADS, "rootcertificates", "configmaps")

#: The ConfigMap with the roots, unless the installation names another (``global.trustBundleName``).
NAME = "istio-ca-root-cert"

#: What a root should still last: below the first it fails, below the second it warns.
LEAST = timedelta(days=30)
ENOUGH = timedelta(days=365)

#: How long a workload's certificate lasts, unless SECRET_TTL says otherwise; it is renewed after half of that.
LIFE = timedelta(hours=24)

_TRUST_DOMAIN = "TRUST_DOMAIN"


def rotation(snapshot: Snapshot) -> Judgement:
    """Line 11.1.3, what the objects say: the root lasts, all trust the same one, and identities are of the mesh's trust domain.

    Errors: a root that is over or will be within 30 days; a namespace that trusts other roots than istiod's own; a ConfigMap
    without a root; pods of a trust domain that the mesh does not know. Warnings: a root that lasts less than a year; the root
    that istiod signed for itself; several roots, which is a rotation that has not ended.
    """
    own = _bundle(snapshot, snapshot.namespace)
    central = _bundle(snapshot, snapshot.istio_namespace)
    unknown = [*unread_in(snapshot, snapshot.namespace, *READS), *unread_in(snapshot, snapshot.istio_namespace, "rootcertificates")]
    if snapshot.mesh is None:
        missing = Unknown(reason=f"the mesh configuration was not found: there is no {mesh_config(snapshot)}")
        unknown += snapshot.unread("configmaps") or (missing,)
    if own is None and not unknown:
        unknown.append(_absent(snapshot))
    findings: list[Finding] = []
    if own is not None:
        findings += _of_bundle(snapshot, own)
        if central is not None and not own.problem and not central.problem:
            findings += _other_root(snapshot, own, central)
    if snapshot.mesh is not None:
        findings += _trust_domains(snapshot)
    roots = own.roots if own is not None else ()
    until = min((root.not_after for root in roots), default="")
    return Judgement(
        summary=f"the root certificate lasts until {until[:10]}, and all trust it; {_ages(snapshot)}",
        examined=len(roots),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(
            Evidence(kind="table", source=f"ConfigMap {snapshot.namespace}/{NAME}", data=[_row(root) for root in roots]),
            Evidence(kind="note", source="pods", text=_ages(snapshot)),
        ),
    )


def _bundle(snapshot: Snapshot, namespace: str) -> RootCertificates | None:
    return next((item for item in snapshot.rootcertificates if item.metadata.namespace == namespace), None)


def _absent(snapshot: Snapshot) -> Unknown:
    return Unknown(
        reason=f"there is no ConfigMap {NAME} in {snapshot.namespace}, from which pods learn the root: istiod does not serve the namespace "
        "(discoverySelectors), or the installation has another name for it (trustBundleName)"
    )


def _row(root: Certificate) -> dict[str, str]:
    return {"subject": root.subject, "issuer": root.issuer, "from": root.not_before, "until": root.not_after, "sha256": root.fingerprint}


def _ref(bundle: RootCertificates) -> ObjectRef:
    return ObjectRef(kind="ConfigMap", namespace=bundle.metadata.namespace, name=bundle.metadata.name)


def _of_bundle(snapshot: Snapshot, bundle: RootCertificates) -> Iterator[Finding]:
    """What is wrong with the roots that pods of the namespace trust."""
    see = f"kubectl -n {bundle.metadata.namespace} get configmap {bundle.metadata.name} -o yaml"
    if bundle.problem:
        yield _about(bundle, "NO-ROOT", Level.ERROR, f"it {bundle.problem}, so new pods cannot tell istiod from others", "a root", see)
        return
    now = now_of(snapshot)
    for root in bundle.roots:
        yield from _dated(bundle, root, now)
    if len(bundle.roots) > 1:
        names = shortened(root.subject for root in bundle.roots)
        found = f"it holds {len(bundle.roots)} roots ({names}): a rotation of the root has not ended"
        wanted = "one root, once every workload has a certificate of the new one"
        yield _about(bundle, "SEVERAL-ROOTS", Level.WARNING, found, wanted, f"end it, or say why it lasts; see: {see}")
    for root in bundle.roots:
        if root.self_signed and root.subject.startswith("O=") and "," not in root.subject:
            yield _about(
                bundle,
                "SELF-SIGNED",
                Level.WARNING,
                f"the root ({root.subject}) is the one that istiod signed for itself, and its key lies in the cluster",
                "an intermediate authority from a root that is kept outside (Secret cacerts, or cert-manager's istio-csr)",
                "plan it with Istio's task Plug in CA Certificates: a new root takes a rotation of all workloads",
            )


def _dated(bundle: RootCertificates, root: Certificate, now: datetime | None) -> Iterator[Finding]:
    begins, ends = moment(root.not_before), moment(root.not_after)
    if now is None or begins is None or ends is None:
        return
    left, wanted = ends - now, f"a root that lasts {ENOUGH.days} days or more"
    fix = "rotate the root: Istio's task Plug in CA Certificates; what is signed by it until when: istioctl proxy-config secret POD"
    if left.total_seconds() <= 0:
        found = f"root {root.subject} expired {ago(-left.total_seconds())} ago ({root.not_after})"
        yield _about(bundle, "EXPIRED", Level.ERROR, found, wanted, fix, root.fingerprint)
    elif begins > now:
        found = f"root {root.subject} is not valid before {root.not_before}"
        yield _about(bundle, "NOT-YET-VALID", Level.ERROR, found, "a root that is valid now", fix, root.fingerprint)
    elif left < ENOUGH:
        found = f"root {root.subject} ends in {ago(left.total_seconds())} ({root.not_after})"
        yield _about(bundle, "ENDS-SOON", Level.ERROR if left < LEAST else Level.WARNING, found, wanted, fix, root.fingerprint)


def _other_root(snapshot: Snapshot, own: RootCertificates, central: RootCertificates) -> Iterator[Finding]:
    """Istiod writes the same roots everywhere; where it cannot, pods that start do not trust it."""
    if {root.fingerprint for root in own.roots} != {root.fingerprint for root in central.roots}:
        yield _about(
            own,
            "OTHER-ROOT",
            Level.ERROR,
            f"its roots are not those of namespace {snapshot.istio_namespace}: pods that start here do not trust istiod",
            "the same roots in every namespace, which istiod keeps so",
            f"delete it, so that istiod writes it anew: kubectl -n {own.metadata.namespace} delete configmap {own.metadata.name}",
        )


def _trust_domains(snapshot: Snapshot) -> Iterator[Finding]:
    """Workloads whose proxies were given another trust domain than the mesh has now."""
    assert snapshot.mesh is not None
    known = {snapshot.trust_domain, *snapshot.mesh.trust_domain_aliases}
    for workload in workloads(snapshot, snapshot.namespace):
        if is_gateway(workload):
            continue
        strange = [(pod, domain) for pod in workload.pods if (domain := _trust_domain(pod)) and domain not in known]
        if strange:
            yield _strange_domain(workload, [pod for pod, _ in strange], strange[0][1], snapshot.trust_domain)


def _trust_domain(pod: Pod) -> str:
    variables = (variable for container in proxies(pod) for variable in container.env)
    return next((variable.value for variable in variables if variable.name == _TRUST_DOMAIN), "")


def _strange_domain(workload: Workload, pods: list[Pod], domain: str, wanted: str) -> Finding:
    return Finding(
        code="MR1113-TRUST-DOMAIN",
        level=Level.ERROR,
        object=workload.ref,
        found=f"its proxies are of trust domain {domain}, which the mesh does not know: {pod_names(pods)}",
        wanted=f"trust domain {wanted}, or {domain} among trustDomainAliases until all are renewed",
        fix=f"restart it: {restart(workload)}",
    )


def _ages(snapshot: Snapshot) -> str:
    """How many pods have outlived a certificate, which they can only by renewing it."""
    now = now_of(snapshot)
    meshed = [pod for pod in snapshot.pods if pod.metadata.namespace == snapshot.namespace and counted(pod) and proxies(pod)]
    if now is None or not meshed:
        return "no pod with a proxy shows whether certificates are renewed"
    old = [pod for pod in meshed if is_ready(pod) and (made := moment(pod.status.start_time)) and now - made > LIFE]
    return f"{len(old)} of {len(meshed)} pods with a proxy are ready and older than a certificate lasts ({LIFE.days} day)"


def _about(bundle: RootCertificates, kind: str, level: Level, found: str, wanted: str, fix: str, detail: str = "") -> Finding:  # noqa: PLR0917
    return Finding(code=f"MR1113-{kind}", level=level, object=_ref(bundle), found=found, wanted=wanted, fix=fix, detail=detail)
