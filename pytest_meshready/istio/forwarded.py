"""The client's identity as the server's sidecar reports it: one of the independent proofs of mutual TLS (DESIGN, Decision 6).

A sidecar adds ``x-forwarded-client-cert`` for a client whose certificate it accepted, and removes the header of all others, so
it cannot be forged over plaintext. The run's own echo, in a pod with a sidecar, answers with the headers that it got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.clientmodes import ClientRules
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.newborn import NotAPodError, as_pod
from pytest_meshready.istio.policy import known_policies
from pytest_meshready.istio.wire import said
from pytest_meshready.probes.certificates import SpiffeId, forwarded_clients
from pytest_meshready.probes.messages import Answer
from pytest_meshready.probes.pod import ECHO_PORT
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

_HEADER = "x-forwarded-client-cert"
_OK = 200


_PROXIED = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC})


class _Echo(msgspec.Struct):
    headers: tuple[tuple[str, str], ...]


def needs_policy(snapshot: Snapshot, labels: Mapping[str, str]) -> bool:
    """Whether pods with these labels take no request unless a policy allows it, because another ALLOW policy selects them."""
    return bool(known_policies(snapshot).of(labels, snapshot.namespace).allow)


def introduced(snapshot: Snapshot, manifest: Mapping[str, Any], answer: Answer | None, *, line: str = "MR711") -> Judgement:
    """Lines 7.1.1, 7.2.1, 7.3.2 and 11.1.1, live: what `client_identity` says of a pod that called its own Service.

    Args:
        snapshot: for the trust domain.
        manifest: the pod, as the API server has it.
        answer: what its echo answered.
        line: the beginning of the codes.
    """
    try:
        pod = as_pod(manifest)
    except NotAPodError as error:
        return Judgement(unknown=(Unknown(reason=f"the pod of this run could not be understood: {error}"),))
    plane = dataplane_class(pod)
    if plane not in _PROXIED:
        why = "its node's ztunnel adds no header" if plane is DataPlane.AMBIENT else "it has no proxy"
        return Judgement(unknown=(Unknown(reason=f"no proxy of pod {pod.metadata.name} tells who calls it: {why}"),))
    own = SpiffeId(
        trust_domain=snapshot.trust_domain, namespace=pod.metadata.namespace, service_account=pod.spec.service_account_name or "default"
    )
    judgement = client_identity(snapshot.namespace, answer, client=own, server=own, line=line)
    return replace(judgement, findings=tuple(_explained(snapshot, pod.metadata.name, finding) for finding in judgement.findings))


def _explained(snapshot: Snapshot, service: str, finding: Finding) -> Finding:
    """The finding about what makes callers of the run's own Service leave mutual TLS: a rule or a BackendTLSPolicy, if there is one."""
    modes = ClientRules(snapshot).modes(service, snapshot.namespace, ECHO_PORT, snapshot.namespace)
    cause = next((mode for mode in modes if mode.by is not None and mode.mode not in ("", "ISTIO_MUTUAL")), None)
    if cause is None or cause.by is None:
        return finding
    rule = cause.by
    return replace(
        finding,
        object=rule,
        found=f"it makes callers use TLS mode {cause.mode}: a call between two pods with a proxy arrived without the caller's identity",
        fix=f"take it back, so that mutual TLS is automatic: kubectl -n {rule.namespace} edit {rule.kind.lower()} {rule.name}",
    )


def client_identity(namespace: str, answer: Answer | None, *, client: SpiffeId, server: SpiffeId, line: str = "MR711") -> Judgement:
    """Lines 7.1.1 and 7.3.2, live: a call from pod to pod in the mesh arrives with the caller's certificate.

    Errors: the header is missing (the call came in plaintext), or names somebody else. ``-NO-IDENTITY``, ``-OTHER-IDENTITY``.

    Args:
        namespace: of the run, for messages.
        answer: of the run's own echo to the run's own caller, both with a sidecar.
        client: who called.
        server: who answered.
        line: the beginning of the codes.
    """
    if answer is None or answer.status != _OK:
        how = f"answered {answer.status}" if answer is not None and answer.status else said(answer)
        return Judgement(unknown=(Unknown(reason=f"the call between two pods of this run {how}, so no identity was reported"),))
    try:
        echoed = msgspec.json.decode(answer.body, type=_Echo).headers
    except msgspec.MsgspecError:
        return Judgement(unknown=(Unknown(reason="the echo of this run did not say which headers it got"),))
    header = ",".join(value for name, value in echoed if name.lower() == _HEADER)
    clients = forwarded_clients(header)
    nearest = clients[-1] if clients else None
    findings: tuple[Finding, ...] = ()
    if nearest is None:
        why = "the call came in plaintext, or the proxy is told to remove the header (proxyHeaders.forwardedClientCert)"
        findings = (_finding(namespace, f"{line}-NO-IDENTITY", f"a call between two pods with a proxy arrived without {_HEADER}: {why}"),)
    elif (nearest.uri, nearest.by) != (str(client), str(server)):
        found = f"a call of {client} to {server} is reported as one of {nearest.uri or 'nobody'} to {nearest.by or 'nobody'}"
        findings = (_finding(namespace, f"{line}-OTHER-IDENTITY", found),)
    return Judgement(
        summary=f"the server's proxy reports the caller as {client}",
        examined=1,
        findings=findings,
        evidence=(Evidence(kind="header", source=f"{_HEADER} at the run's own echo", text=header),),
    )


def _finding(namespace: str, code: str, found: str) -> Finding:
    return Finding(
        code=code,
        level=Level.ERROR,
        object=ObjectRef(kind="Namespace", name=namespace),
        found=found,
        wanted="mutual TLS between pods with a proxy, with the identity of the caller's service account",
        fix=f"look for rules that switch TLS off: kubectl get destinationrules,peerauthentications -n {namespace}",
    )
