"""The client's identity, as the server's sidecar reports it."""

from __future__ import annotations

import json

import pytest

from pytest_meshready.istio.forwarded import client_identity
from pytest_meshready.probes.certificates import SpiffeId
from pytest_meshready.probes.messages import Answer, Outcome
from pytest_meshready.results import Judgement, Status

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
