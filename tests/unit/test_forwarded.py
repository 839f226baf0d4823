"""The client's identity, as the server's sidecar reports it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.istio.forwarded import client_identity, introduced, needs_policy
from pytest_meshready.probes.certificates import SpiffeId
from pytest_meshready.probes.messages import Answer, Outcome
from pytest_meshready.results import Judgement, Status
from tests.unit import builders as make

CLIENT = SpiffeId("cluster.local", "payments", "meshready-1")
SERVER = SpiffeId("cluster.local", "payments", "meshready-1")
OTHER = SpiffeId("cluster.local", "payments", "default")


def judged(headers: dict[str, str] | None, *, status: int = 200) -> Judgement:
    """What the echo's answer with these headers says."""
    body = json.dumps({"path": "/", "headers": list(headers.items()), "from": "10.244.2.9"}) if headers is not None else "no JSON"
    return client_identity("payments", Answer(id="echo", outcome=Outcome.ANSWERED, status=status, body=body), client=CLIENT, server=SERVER)


def xfcc(by: SpiffeId, uri: SpiffeId) -> dict[str, str]:
    """The header as Envoy writes it, in the case in which an echo may give it back."""
    return {"X-Forwarded-Client-Cert": f'By={by};Hash=7dc419124bab73940ada20ca21ec0d51;Subject="";URI={uri}'}


def test_right_identity() -> None:
    """The caller's URI and the server's own."""
    judgement = judged(xfcc(SERVER, CLIENT))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert judgement.evidence[0].text.startswith("By=spiffe://cluster.local/ns/payments/sa/meshready-1;")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "echo"}, "MR711-NO-IDENTITY"),
        (xfcc(SERVER, OTHER), "MR711-OTHER-IDENTITY"),
        (xfcc(OTHER, CLIENT), "MR711-OTHER-IDENTITY"),
    ],
)
def test_missing_or_wrong_identity(headers: dict[str, str], code: str) -> None:
    """Without the header the call came in plaintext; with another name it is somebody else's."""
    assert [item.code for item in judged(headers).findings] == [code]


def test_nearest_client_counts() -> None:
    """Of several elements the last was added by the proxy in front of the echo."""
    header = f"{xfcc(OTHER, OTHER)['X-Forwarded-Client-Cert']},{xfcc(SERVER, CLIENT)['X-Forwarded-Client-Cert']}"
    assert judged({"X-Forwarded-Client-Cert": header}).status is Status.PASSED


def test_no_answer_is_not_verified() -> None:
    """A call that was refused, lost, or answered without headers reports nobody."""
    assert judged(None).status is Status.NOT_VERIFIED
    assert judged({}, status=403).status is Status.NOT_VERIFIED
    assert client_identity("payments", None, client=CLIENT, server=SERVER).status is Status.NOT_VERIFIED


# --- a pod of the run ---------------------------------------------------------------------------------------------------


def answered(account: str) -> Answer:
    """The echo's answer to a caller of this account, which is the server's as well."""
    own = SpiffeId("cluster.local", "payments", account)
    body = json.dumps({"path": "/", "headers": list(xfcc(own, own).items()), "from": "10.244.2.9"})
    return Answer(id="introduce", outcome=Outcome.ANSWERED, status=200, body=body)


def test_pod_that_calls_its_own_service() -> None:
    """Caller and server are the run's own account."""
    pod = msgspec.to_builtins(make.meshed_pod(service_account_name="meshready-1"))
    assert introduced(make.snapshot(), pod, answered("meshready-1")).status is Status.PASSED
    assert [item.code for item in introduced(make.snapshot(), pod, answered("default"), line="MR732").findings] == ["MR732-OTHER-IDENTITY"]


def test_rule_that_switches_mutual_tls_off_is_named() -> None:
    """The finding is about the DestinationRule that reaches the run's own Service too."""
    pod = msgspec.to_builtins(make.meshed_pod("meshready-1-inside", service_account_name="meshready-1"))
    rule = make.destinationrule("everybody", host="*.payments.svc.cluster.local", tls="DISABLE")
    body = json.dumps({"path": "/", "headers": [], "from": "10.244.2.9"})
    answer = Answer(id="introduce", outcome=Outcome.ANSWERED, status=200, body=body)
    (finding,) = introduced(make.snapshot(destinationrules=(rule,)), pod, answer).findings
    assert (finding.code, str(finding.object)) == ("MR711-NO-IDENTITY", "payments/DestinationRule/everybody")
    assert "TLS mode DISABLE" in finding.found


def test_pod_without_a_sidecar_reports_nobody() -> None:
    """Neither a naked pod nor an ambient one has a proxy that adds the header; each says why."""
    naked = introduced(make.snapshot(), msgspec.to_builtins(make.pod()), answered("default"))
    ambient_pod = make.pod(annotations={"ambient.istio.io/redirection": "enabled"})
    ambient = introduced(make.snapshot(), msgspec.to_builtins(ambient_pod), answered("default"))
    assert [item.status for item in (naked, ambient)] == [Status.NOT_VERIFIED, Status.NOT_VERIFIED]
    assert "it has no proxy" in naked.unknown[0].reason
    assert "ztunnel" in ambient.unknown[0].reason


@pytest.mark.parametrize(
    ("spec", "needed"),
    [
        ({}, True),  # spec: {} allows nothing
        ({"selector": {"matchLabels": {"app": "orders"}}, "rules": [{}]}, False),  # the team's own pods alone
        ({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["9999"]}}]}]}, False),
        ({"rules": [{"from": [{"source": {"namespaces": ["payments"]}}]}]}, True),
    ],
)
def test_when_a_policy_of_our_own_is_needed(spec: dict[str, Any], needed: bool) -> None:
    """Where an ALLOW policy selects every pod of the namespace, ours takes no request without one of its own."""
    policy = {"metadata": {"name": "deny", "namespace": "payments"}, "spec": spec}
    labels = {"app.kubernetes.io/name": "meshready-probe", "meshready.io/run": "1"}
    snapshot = make.snapshot(authorizationpolicies=(msgspec.convert(policy, o.AuthorizationPolicy),))
    assert needs_policy(snapshot, labels) is needed
