"""What BackendTLSPolicies name and is not there, and policies without effect: a part of line 3.2.4.

Reproduced from pilot/pkg/config/kube/gateway/backend_policies.go of August 2026. Whether the ConfigMap of an authority is there
and holds a certificate is taken from the conditions that istiod writes: ConfigMaps are never listed.
"""

from __future__ import annotations

from pytest_meshready.cluster.objects_traffic import BackendTLSPolicy, PolicyTarget
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.backendtls import BackendPolicies, reference
from pytest_meshready.istio.clientmodes import cluster_domain
from pytest_meshready.istio.rulereport import Report
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.results import Level, ObjectRef, Unknown

#: What `backend_references` reads; pods tell the domain of the cluster.
READS = ("backendtlspolicies", "services", "serviceentries", "pods")

_TARGETS = {"Service": "services", "ServiceEntry": "serviceentries"}
_CORRECT = {
    "TLS-TARGET-KIND": "name a Service or a ServiceEntry in targetRefs",
    "TLS-TARGET-MISSING": "correct targetRefs",
    "TLS-PORT-MISSING": "correct sectionName",
}
_SYSTEM = "System"
_CONFIG_MAP = ("", "ConfigMap")
_CONTROLLER = "istio.io/"
#: Reasons of istiod's that are about the certificates of the authority.
_OF_AUTHORITY = frozenset({"NoValidCACertificate", "InvalidCACertificateRef"})


def backend_references(snapshot: Snapshot) -> Report:
    """Everything that BackendTLSPolicies of the namespace name."""
    report = Report()
    policies = BackendPolicies(snapshot, cluster_domain(snapshot))
    for policy in in_namespace(policies.all, snapshot.namespace):
        for asked in policy.spec.target_refs:
            report.looked_at += 1
            _target(report, policy, asked, policies, snapshot)
        _authority(report, policy)
    return report


# --- targets ----------------------------------------------------------------------------------------------------------


def _target(report: Report, policy: BackendTLSPolicy, asked: PolicyTarget, policies: BackendPolicies, snapshot: Snapshot) -> None:
    ref, named = reference(policy), f"{asked.kind} {asked.name}"
    target = policies.target(policy, asked)
    if not target.kind:
        what = f"{named} ({asked.group or 'core'}), a kind for which Istio takes no BackendTLSPolicy"
        _lost(report, ref, "TLS-TARGET-KIND", what, named)
        return
    key = _TARGETS[target.kind]
    if target.ports is None and (missing := [item for item in snapshot.unread(key) if item.namespace in ("", snapshot.namespace)]):
        report.ask(missing[0])
    elif target.ports is None:
        _lost(report, ref, "TLS-TARGET-MISSING", f"{named}, which does not exist in namespace {ref.namespace}", named)
    elif asked.section_name and asked.section_name not in target.ports:
        ports = ", ".join(name for name in target.ports if name) or "none that has a name"
        what = f"port {asked.section_name} of {named}, whose ports are {ports}"
        _lost(report, ref, "TLS-PORT-MISSING", what, f"{named} {asked.section_name}")
    elif (taken := policies.taken(policy, asked)) is not policy:
        _younger(report, ref, asked, taken.metadata.name)


def _lost(report: Report, ref: ObjectRef, code: str, what: str, detail: str) -> None:
    report.add(
        ref,
        code,
        Level.ERROR,
        found=f"it is for {what}: istiod leaves that out, and callers do not begin the TLS that it asks for",
        wanted="every target of a BackendTLSPolicy is there",
        fix=f"{_CORRECT[code]}: {edit(ref)}",
        detail=detail,
    )


def _younger(report: Report, ref: ObjectRef, asked: PolicyTarget, taken: str) -> None:
    port = f"port {asked.section_name} of " if asked.section_name else ""
    report.add(
        ref,
        "TLS-POLICY-TWICE",
        Level.ERROR,
        found=f"it is for {port}{asked.kind} {asked.name}, as BackendTLSPolicy {taken} is, which istiod takes: of this one nothing is used",
        wanted="one BackendTLSPolicy for each target",
        fix=f"join the two into one: {edit(ref)}",
        detail=f"{asked.kind} {asked.name} {asked.section_name or ''}".rstrip(),
    )


# --- who vouches for the server ---------------------------------------------------------------------------------------


def _authority(report: Report, policy: BackendTLSPolicy) -> None:
    """A known set of authorities, or else the first of the references: istiod looks at no other."""
    ref, validation = reference(policy), policy.spec.validation
    refs = validation.ca_certificate_refs
    if validation.well_known_authorities is not None:
        if validation.well_known_authorities != _SYSTEM:
            said = f"wellKnownCACertificates is {validation.well_known_authorities!r}, which Istio does not know: it takes the system's"
            _unvouched(report, ref, "TLS-AUTHORITY-UNKNOWN", said)
        return
    if not refs:
        said = "its validation names neither wellKnownCACertificates nor caCertificateRefs, so nothing says which authority to trust"
        _unvouched(report, ref, "TLS-NO-AUTHORITY", said)
        return
    if len(refs) > 1:
        report.add(
            ref,
            "TLS-AUTHORITIES-IGNORED",
            Level.WARNING,
            found=f"it names {len(refs)} caCertificateRefs, of which istiod takes only the first, {refs[0].kind} {refs[0].name}",
            wanted="one reference, to a ConfigMap with all certificates",
            fix=f"join them into one ConfigMap: {edit(ref)}",
        )
    if (refs[0].group, refs[0].kind) != _CONFIG_MAP:
        said = f"its authority is in {refs[0].kind} {refs[0].name}, and Istio takes ConfigMaps alone: every call to its targets fails"
        _unvouched(report, ref, "TLS-AUTHORITY-KIND", said)
    else:
        _config_map(report, policy, refs[0].name)


def _unvouched(report: Report, ref: ObjectRef, code: str, said: str) -> None:
    report.add(
        ref,
        code,
        Level.ERROR,
        found=said,
        wanted="wellKnownCACertificates: System, or a caCertificateRef to a ConfigMap with ca.crt",
        fix=f"correct spec.validation: {edit(ref)}",
    )


def _config_map(report: Report, policy: BackendTLSPolicy, name: str) -> None:
    ref = reference(policy)
    said = [item for one in policy.status.ancestors if one.controller_name.startswith(_CONTROLLER) for item in one.conditions]
    if not said:
        reason = f"whether ConfigMap {name}, whose authority {ref} trusts, is there is not known: istiod has said nothing of the policy yet"
        report.ask(Unknown(reason=reason))
    elif any(item.status == "False" and item.reason in _OF_AUTHORITY for item in said):
        found = f"ConfigMap {name} does not exist or has no certificate in ca.crt, says istiod: every call to the policy's targets fails"
        _unvouched(report, ref, "TLS-AUTHORITY-INVALID", found)
