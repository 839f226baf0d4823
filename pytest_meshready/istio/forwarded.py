"""The client's identity as the server's sidecar reports it: one of the independent proofs of mutual TLS (DESIGN, Decision 6).

A sidecar adds ``x-forwarded-client-cert`` for a client whose certificate it accepted, and removes the header of all others, so
it cannot be forged over plaintext. The run's own echo, in a pod with a sidecar, answers with the headers that it got.
"""

from __future__ import annotations

import msgspec

from pytest_meshready.istio.wire import said
from pytest_meshready.probes.certificates import SpiffeId, forwarded_clients
from pytest_meshready.probes.messages import Answer
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

_HEADER = "x-forwarded-client-cert"
_OK = 200


class _Echo(msgspec.Struct):
    headers: tuple[tuple[str, str], ...]


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
