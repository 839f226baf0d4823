"""Probes in the real mesh: what each kind of probe gets from each port of the shop, and conversations that break."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_meshready.cluster import client, writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.exec import Lost, open_exec
from pytest_meshready.probes import certificates, messages, pod
from pytest_meshready.probes.certificates import SpiffeId
from pytest_meshready.probes.messages import Answer, Ask, ClientCertificate, Op, Outcome
from pytest_meshready.probes.pod import Injection, Run
from pytest_meshready.probes.session import JobSession, ProbeError, Prober, Session
from pytest_meshready.waiting import Deadline, Deadlines, until
from tests.cluster.conftest import HEALTHY, kubectl

pytestmark = pytest.mark.cluster

SCRATCH = f"meshready-probes-{secrets.token_hex(2)}"
HTTP = ("frontend", "orders", "ledger")
PORTS = [("frontend", 8080), ("orders", 8080), ("ledger", 8080), ("store", 6000), ("quotes", 7070), ("quotes", 9091)]
GRPC_HEADER = (("content-type", "application/grpc"),)


@dataclass(frozen=True)
class Visit:
    """Probe pods of one run in one namespace, ready, and their addresses by role."""

    cluster: Cluster
    run: Run
    addresses: dict[str, str]

    def name(self, role: str) -> str:
        return f"{self.run.name}-{role}"

    def session(self, role: str, **more: Any) -> Session:
        return Session.open(self.cluster, self.run.namespace, self.name(role), pod.AGENT, Deadline(20), **more)


@pytest.fixture(scope="module")
def cluster(cluster_problem: str) -> Cluster:
    if cluster_problem:
        pytest.skip(cluster_problem)
    return client.connect(None, None, Deadlines())


def visit(cluster: Cluster, namespace: str, pods: dict[str, dict[str, Any]]) -> Iterator[Visit]:
    """Create pods and wait for them; delete the anchor, and with it everything, at the end."""
    run = Run(id=secrets.token_hex(4), namespace=namespace, lifetime=300)
    anchor = writes.create(cluster, pod.anchor(run))
    assert anchor is not None
    run = replace(run, anchor_uid=anchor["metadata"]["uid"])
    mine = f"{pod.RUN_LABEL}={run.id}"

    def ready() -> dict[str, str] | None:
        found = writes.listed(cluster, writes.POD, namespace, mine)
        stands = {one["metadata"]["labels"][pod.ROLE_LABEL]: one["status"] for one in found if is_ready(one["status"])}
        return {role: status["podIP"] for role, status in stands.items()} if len(stands) == len(pods) else None

    def gone() -> bool | None:
        return (
            True if not any(writes.listed(cluster, kind, namespace, mine) for kind in (writes.POD, writes.CONFIG_MAP, writes.JOB)) else None
        )

    try:
        writes.create(cluster, pod.agent(run))
        writes.create(cluster, pod.service_account(run))
        for role, settings in pods.items():
            writes.create(cluster, pod.probe(run, role, **settings))
        addresses = until(ready, every=0.5, deadline=Deadline(90))
        assert addresses, kubectl("get", "pods", "-n", namespace, "-l", mine, "-o", "wide")
        yield Visit(cluster, run, addresses)
    finally:
        writes.delete(cluster, pod.anchor(run))
    assert until(gone, every=0.5, deadline=Deadline(45)), "something was left behind"


def is_ready(status: dict[str, Any]) -> bool:
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", ()))


# --- the table of ports: STRICT, deny by default ---


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Visit]:
    """Three probes in the shop: inside the mesh, outside it, and inside with the account of orders."""
    inside, outside = {"injection": Injection.AS_NAMESPACE}, {"injection": Injection.NO}
    yield from visit(cluster, HEALTHY, {"inside": inside, "outside": outside, "orders": {**inside, "account": "orders"}})


def meshed_asks() -> list[Ask]:
    """Every port of the shop by its Service, in every way that makes a difference from inside the mesh."""
    settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    quotes, store = "quotes.payments", "store.payments"
    return [
        *(Ask(id=name, op=Op.HTTP, host=f"{name}.payments", port=8080, path="/healthz") for name in HTTP),
        Ask(id="store silent", op=Op.TCP, host=store, port=6000),
        Ask(id="store bytes", op=Op.TCP, host=store, port=6000, send=b"hello\n"),
        Ask(id="quotes http", op=Op.HTTP, host=quotes, port=7070),
        Ask(id="quotes http as grpc", op=Op.HTTP, host=quotes, port=7070, headers=GRPC_HEADER),
        Ask(id="quotes grpc", op=Op.GRPC, host=quotes, port=7070, path="/grpc.health.v1.Health/Check"),
        Ask(id="quotes settings", op=Op.TCP, host=quotes, port=7070, send=settings),
        Ask(id="greeting silent", op=Op.TCP, host=quotes, port=9091),
        Ask(id="greeting byte", op=Op.TCP, host=quotes, port=9091, send=b"x", greeting=True),
    ]


@pytest.fixture(scope="module")
def meshed(shop: Visit) -> dict[str, Answer]:
    """What the probe inside the mesh gets, which no policy allows anything."""
    return answers(shop.session("inside"), meshed_asks())


@pytest.fixture(scope="module")
def borrowed(shop: Visit) -> dict[str, Answer]:
    """What the probe gets that has the account of orders."""
    return answers(shop.session("orders"), meshed_asks())


@pytest.fixture(scope="module")
def unmeshed(shop: Visit) -> dict[str, Answer]:
    """What the probe outside the mesh gets from pods: no byte, four and five of plaintext, and two ClientHellos."""
    asks = []
    hosts = {name: address(shop.cluster, name) for name, _ in PORTS}
    for name, port in PORTS:
        where = f"{name} {port}"
        asks += [Ask(id=f"{where} {count}", op=Op.TCP, host=hosts[name], port=port, send=b"GET /"[:count]) for count in (0, 4, 5)]
        asks += [Ask(id=f"{where} {alpn}", op=Op.TLS, host=hosts[name], port=port, alpn=(alpn,)) for alpn in ("h2", "istio")]
    shown = ClientCertificate.SELF_SIGNED
    asks.append(Ask(id="self-signed", op=Op.TLS, host=hosts["ledger"], port=8080, alpn=("h2",), client_cert=shown))
    asks.append(Ask(id="control", op=Op.HTTP, host=hosts["ledger"], port=15021, path="/healthz/ready"))
    return answers(shop.session("outside"), asks)


def answers(session: Session, asks: list[Ask]) -> dict[str, Answer]:
    try:
        return session.ask(asks, Deadline(messages.patience(asks) + 10))
    finally:
        session.close()


def address(cluster: Cluster, app: str) -> str:
    found = writes.listed(cluster, writes.POD, HEALTHY, f"app={app}")
    return str(next(one["status"]["podIP"] for one in found if is_ready(one["status"])))


def stood(answer: Answer) -> tuple[str, str]:
    return answer.outcome, answer.ending


@pytest.mark.parametrize("name", HTTP)
def test_meshed_http_is_denied_by_the_proxy(meshed: dict[str, Answer], name: str) -> None:
    """403: the handshake was made, and the application was not asked."""
    assert (meshed[name].outcome, meshed[name].status, meshed[name].body) == (Outcome.ANSWERED, 403, "RBAC: access denied")


def test_meshed_tcp_is_decided_at_the_first_byte(meshed: dict[str, Answer]) -> None:
    """Silent, the connection stays open; with bytes it ends in an orderly way."""
    assert stood(meshed["store silent"]) == ("open", "open")
    assert stood(meshed["store bytes"]) == ("eof", "eof")


def test_meshed_grpc_is_denied_as_grpc(meshed: dict[str, Answer]) -> None:
    """Plain HTTP gets 403, gRPC 200 with status 7; HTTP/2 settings come although everything is denied."""
    assert meshed["quotes http"].status == 403
    for name in ("quotes http as grpc", "quotes grpc"):
        assert (meshed[name].status, meshed[name].grpc_status) == (200, 7)
    assert meshed["quotes settings"].outcome is Outcome.ANSWERED


def test_meshed_greeting_comes_although_denied(meshed: dict[str, Answer]) -> None:
    """A server that speaks first has spoken before Istio decides."""
    assert stood(meshed["greeting silent"]) == ("answered", "open")
    assert stood(meshed["greeting byte"]) == ("answered", "eof")
    assert bytes.fromhex(meshed["greeting byte"].first_bytes) == b"server-first-protocol\n"
    assert meshed["greeting byte"].received == meshed["greeting silent"].received


def test_borrowed_account_reaches_what_it_may(borrowed: dict[str, Answer]) -> None:
    """Orders may call ledger, store and quotes, and neither frontend nor itself."""
    assert [borrowed[name].status for name in HTTP] == [403, 403, 200]
    assert stood(borrowed["store bytes"]) == ("answered", "open")
    assert bytes.fromhex(borrowed["store bytes"].first_bytes) == b"hello\n"
    assert borrowed["quotes grpc"].status not in (0, 403)
    assert borrowed["quotes grpc"].grpc_status not in (None, 7)
    assert stood(borrowed["greeting byte"]) == ("answered", "open")
    assert borrowed["greeting byte"].received > borrowed["greeting silent"].received


def test_borrowed_account_is_what_the_application_sees(borrowed: dict[str, Answer]) -> None:
    """The server's sidecar reports the client's identity, and the request says who sent it."""
    headers = {name.lower(): value for name, value in json.loads(borrowed["ledger"].body)["headers"].items()}
    (seen,) = certificates.forwarded_clients(headers["x-forwarded-client-cert"])
    assert SpiffeId.parse(seen.uri) == SpiffeId("cluster.local", HEALTHY, "orders")
    assert headers["user-agent"].startswith("pytest-meshready/")


@pytest.mark.parametrize(("name", "port"), PORTS)
def test_unmeshed_plaintext(unmeshed: dict[str, Answer], name: str, port: int) -> None:
    """Up to four bytes there is silence, also where the server speaks first; five are reset."""
    assert [unmeshed[f"{name} {port} {count}"].outcome for count in (0, 4, 5)] == [Outcome.OPEN, Outcome.OPEN, Outcome.RESET]


@pytest.mark.parametrize(("name", "port"), PORTS)
@pytest.mark.parametrize("alpn", ["h2", "istio"])
def test_unmeshed_handshake_shows_the_server(unmeshed: dict[str, Answer], name: str, port: int, alpn: str) -> None:
    """The SPIFFE certificate of its account, signed by the mesh's root, and then a refusal."""
    answer = unmeshed[f"{name} {port} {alpn}"]
    assert (answer.outcome, answer.alert) == (Outcome.TLS_ALERT, "certificate_required")
    chain = certificates.parse(answer.certificate_chain)
    root = json.loads(kubectl("get", "configmap", "istio-ca-root-cert", "-n", HEALTHY, "-o", "json"))["data"]["root-cert.pem"]
    assert chain[0].spiffe == SpiffeId("cluster.local", HEALTHY, name)
    assert certificates.chain_problem((*chain, *certificates.parse_pem(root))) == ""


def test_unmeshed_controls(unmeshed: dict[str, Answer]) -> None:
    """The proxy's health port answers everybody, and a certificate that nobody trusts is told from none."""
    assert unmeshed["control"].status == 200
    assert (unmeshed["self-signed"].outcome, unmeshed["self-signed"].alert) == (Outcome.TLS_ALERT, "unknown_ca")


# --- a namespace of our own ---


@pytest.fixture(scope="module")
def scratch(cluster: Cluster) -> Iterator[Visit]:
    """A namespace that denies by default and is PERMISSIVE, with a probe inside and one outside the mesh."""
    kubectl("create", "namespace", SCRATCH)
    kubectl("label", "namespace", SCRATCH, "istio-injection=enabled")
    policies = [
        {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "allow-nothing"}, "spec": {}},
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default"},
            "spec": {"mtls": {"mode": "PERMISSIVE"}},
        },
    ]
    kubectl("apply", "-n", SCRATCH, "-f", "-", stdin=yaml.safe_dump_all(policies))
    try:
        yield from visit(cluster, SCRATCH, {"inside": {"injection": Injection.YES}, "outside": {"injection": Injection.NO}})
    finally:
        kubectl("delete", "namespace", SCRATCH, "--wait=false")


@pytest.fixture
def outside(scratch: Visit) -> Iterator[Session]:
    session = scratch.session("outside")
    yield session
    session.close()


def test_permissive_shows_the_sidecar_to_istio_only(scratch: Visit, outside: Session) -> None:
    """ALPN h2 goes through to the application, ALPN istio gets the SPIFFE certificate: that tells PERMISSIVE from STRICT."""
    target: dict[str, Any] = {"op": Op.TLS, "host": scratch.addresses["inside"], "port": pod.ECHO_PORT}
    got = outside.ask([Ask(id="h2", alpn=("h2",), **target), Ask(id="istio", alpn=("istio",), **target)], Deadline(20))
    assert got["h2"].certificate_chain == ()
    assert (got["istio"].outcome, got["istio"].alert) == (Outcome.TLS_ALERT, "certificate_required")
    assert got["istio"].certificate_chain


def test_our_policy_opens_our_pods_and_mtls_is_between(scratch: Visit, outside: Session) -> None:
    """Denied before, allowed after; through a Service the sidecars shake hands, and the server's reports the client's identity."""
    service = pod.service(scratch.run, "inside")
    writes.create(scratch.cluster, service)
    own = Ask(id="own", op=Op.HTTP, host=f"{service['metadata']['name']}.{SCRATCH}", port=pod.ECHO_PORT, path="/who")
    plain = Ask(id="plain", op=Op.HTTP, host=scratch.addresses["inside"], port=pod.ECHO_PORT)
    inside = scratch.session("inside")
    try:
        assert inside.ask([own], Deadline(20))["own"].status in (403, 503)
        writes.create(scratch.cluster, pod.authorization_policy(scratch.run))
        answer = until(lambda: allowed(inside, own), every=0.2, deadline=Deadline(20))
    finally:
        inside.close()
    assert answer is not None
    headers = {name.lower(): value for name, value in json.loads(answer.body)["headers"]}
    identity = f"spiffe://cluster.local/ns/{SCRATCH}/sa/{scratch.run.name}"
    (client_seen,) = certificates.forwarded_clients(headers["x-forwarded-client-cert"])
    assert (client_seen.by, client_seen.uri) == (identity, identity)
    assert headers["user-agent"] == scratch.run.sender
    assert "x-forwarded-client-cert" not in outside.ask([plain], Deadline(20))["plain"].body.lower()


def allowed(session: Prober, ask: Ask) -> Answer | None:
    answer = session.ask([ask], Deadline(10))[ask.id]
    return answer if answer.status == 200 else None


def test_conversation_survives_the_death_of_the_agent(scratch: Visit, outside: Session) -> None:
    """It is begun again, and what had not been answered is asked for once more."""
    script = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -q 'agent[.]py talk' && kill -9 ${p#/proc/}; done; true"
    killing = threading.Timer(1.0, kubectl, ("exec", "-n", SCRATCH, scratch.name("outside"), "-c", pod.AGENT, "--", "sh", "-c", script))
    killing.start()
    begun = time.monotonic()
    answer = outside.ask([Ask(id="a", op=Op.HOLD, host=scratch.addresses["inside"], port=pod.ECHO_PORT, read=3.0)], Deadline(20))["a"]
    killing.join()
    assert answer.outcome is Outcome.OPEN
    assert time.monotonic() - begun > 3.5, "the agent was not killed"
    assert outside.trouble == ""


def test_agent_ends_with_its_conversation(scratch: Visit) -> None:
    """Nothing of it stays in the pod."""
    session = scratch.session("outside")
    session.close()
    script = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done | grep -c 'agent[.]py talk' || true"
    command = ("exec", "-n", SCRATCH, scratch.name("outside"), "-c", pod.AGENT, "--", "sh", "-c", script)
    assert until(lambda: True if kubectl(*command).strip() == "0" else None, every=0.5, deadline=Deadline(10))


def test_image_without_the_command(scratch: Visit) -> None:
    """The words by which an image without Python is known; `test_session` has the sentence that is made of them."""
    running = open_exec(scratch.cluster, SCRATCH, scratch.name("inside"), container=pod.AGENT, command=("python9",), deadline=Deadline(20))
    try:
        with pytest.raises(Lost, match="executable file not found"):
            until(lambda: running.read(1.0) and None, every=0.01, deadline=Deadline(10))
    finally:
        running.close()


def test_pod_that_is_not_there(scratch: Visit) -> None:
    """It is said at once, not after the deadline."""
    begun = time.monotonic()
    with pytest.raises(ProbeError, match=r'pods "nothing" not found') as caught:
        Session.open(scratch.cluster, SCRATCH, "nothing", pod.AGENT, Deadline(20))
    assert time.monotonic() - begun < 5
    assert not caught.value.forbidden


def test_exec_is_not_permitted(scratch: Visit, tmp_path: Path) -> None:
    """Told apart from everything else, because a Job can do it instead."""
    limited = client.connect(as_account(tmp_path, SCRATCH, scratch.run.name), None, Deadlines())
    with pytest.raises(ProbeError, match=r"not permitted: exec in pod meshready-probes-") as caught:
        Session.open(limited, SCRATCH, scratch.name("outside"), pod.AGENT, Deadline(20))
    assert caught.value.forbidden


def as_account(folder: Path, namespace: str, name: str) -> Path:
    """A kubeconfig for a service account."""
    token = kubectl("-n", namespace, "create", "token", name).strip()
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(admin), encoding="utf-8")
    return path


@pytest.mark.parametrize(("injection", "status"), [(Injection.NO, 0), (Injection.YES, 403)])
def test_job_answers_in_its_log(scratch: Visit, injection: Injection, status: int) -> None:
    """The same asks, the same answers: reset from outside the mesh, 403 from inside."""
    made: list[writes.Manifest] = []

    def create(manifest: writes.Manifest) -> str:
        made.append(manifest)
        writes.create(scratch.cluster, manifest)
        return ""

    prober = JobSession(scratch.cluster, scratch.run, f"job-{injection}", injection=injection, create=create)
    ask = Ask(id="ledger", op=Op.HTTP, host="ledger.payments", port=8080, path="/healthz?$(HOSTNAME)")
    answer = prober.ask([ask, replace_id(ask, "again")], Deadline(90))
    assert {one.status for one in answer.values()} == {status}
    assert {one.outcome for one in answer.values()} == {Outcome.ANSWERED if status else Outcome.RESET}
    assert prober.trouble == ""
    assert writes.get(scratch.cluster, writes.JOB, SCRATCH, made[0]["metadata"]["name"]) is None


def replace_id(ask: Ask, name: str) -> Ask:
    return Ask(id=name, op=ask.op, host=ask.host, port=ask.port, path=ask.path)


def test_pod_security_restricted_admits_a_probe(cluster: Cluster) -> None:
    """As the API server's own admission sees it, in a namespace that enforces the level."""
    name = f"meshready-restricted-{secrets.token_hex(2)}"
    kubectl("create", "namespace", name)
    try:
        kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        run = Run(id="a", namespace=name)
        writes.create(cluster, pod.service_account(run))
        manifest = pod.probe(run, "outside", injection=Injection.NO)
        writes.send(cluster, "POST", f"/api/v1/namespaces/{name}/pods", manifest, query={"dryRun": "All"})
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def test_pod_that_is_deleted_in_the_middle(scratch: Visit) -> None:
    """The last test with this pod: the answer says what happened, and nothing of the target."""
    sentence = f"probe pod {SCRATCH}/{scratch.name('outside')} was deleted by somebody else"
    session = scratch.session("outside", explain=lambda: sentence)
    deleting = threading.Timer(0.5, kubectl, ("delete", "pod", "-n", SCRATCH, scratch.name("outside"), "--wait=false"))
    deleting.start()
    try:
        answer = session.ask([Ask(id="a", op=Op.HOLD, host=scratch.addresses["inside"], port=pod.ECHO_PORT, read=10.0)], Deadline(20))["a"]
    finally:
        deleting.join()
        session.close()
    assert (answer.outcome, answer.error) == (Outcome.ERROR, sentence)
    assert session.trouble == sentence
