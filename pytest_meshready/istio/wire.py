"""What to ask the ports of the namespace, and what the answers say of each: the wire's side of mutual TLS (checks.md 2.5).

From outside the mesh a TLS handshake tells the modes apart on every port, without authorization and without a byte for the
application: a proxy shows the pod's SPIFFE certificate under STRICT whatever protocol is offered (ALPN ``h2``), under
PERMISSIVE only if Istio's own is (ALPN ``istio``), and under DISABLE never. Five bytes of plaintext are reset under STRICT.
A refused connection alone proves nothing: what counts is the reset beside a handshake that the same port answered. A
connection that just ended, and silence, decide nothing; the measurements are in the project's table of ports.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio.moments import now_of
from pytest_meshready.istio.protocols import HTTP_FAMILY, Protocol
from pytest_meshready.istio.servermodes import Mode
from pytest_meshready.istio.targets import Call, Target, Targets
from pytest_meshready.probes.certificates import Certificate, SpiffeId, chain_problem, parse
from pytest_meshready.probes.messages import Answer, Ask, Op, Outcome

#: Five bytes: Envoy looks at a connection only then. Blank lines mean nothing in any protocol of text.
PLAINTEXT = b"\r\n\r\n\r"

#: Seconds: a STRICT proxy resets plaintext at once, a service that nobody serves ends a silent connection within 0.1 s.
_READ_PLAINTEXT, _READ_SILENT, _READ_TLS = 1.5, 1.5, 3.0

#: A certificate may be renewed between the snapshot, whose clock is used, and the handshake.
_SKEW = dt.timedelta(minutes=15)

#: The proxy's own port for probes, which is never captured.
READY_PORT, READY_PATH = 15021, "/healthz/ready"

_GRPC = frozenset({Protocol.GRPC, Protocol.GRPC_WEB})
_CUT = frozenset({Outcome.EOF, Outcome.RESET, Outcome.TLS_ALERT})
_ENDED = frozenset({Outcome.EOF, Outcome.RESET, Outcome.TLS_ALERT, Outcome.NOT_TLS, Outcome.ANSWERED})


class Wire(enum.StrEnum):
    """What a port really does, whatever its configuration says."""

    STRICT = "STRICT"
    """the proxy demands mutual TLS: it resets plaintext, and its handshake is answered"""
    PERMISSIVE = "PERMISSIVE"
    """the proxy offers mutual TLS to those who speak it, and lets the rest through"""
    PLAINTEXT = "plaintext"
    """plaintext is taken and no mutual TLS of the mesh is offered"""
    UNDECIDED = "undecided"
    """the answers do not tell"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send, by who sends it."""

    unmeshed: tuple[Ask, ...] = ()
    """from a pod without a proxy, to addresses of pods"""
    meshed: tuple[Ask, ...] = ()
    """from a pod with a proxy and an account of its own, to Services"""

    @property
    def bounds(self) -> tuple[str, ...]:
        """How much of what is sent at most, as sentences for ``--mesh-plan``."""
        return tuple(_bounds("a pod of this run outside the mesh", self.unmeshed)) + tuple(
            _bounds("a pod of this run inside the mesh", self.meshed)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One target, and what the wire said of it.

    Attributes:
        target: the port of the pod.
        wire: the verdict.
        why: the observations behind it, as a clause.
        shown: the certificates of the handshake, the pod's own first; none where there was none.
        problem: what is wrong with the identity in them, as a clause; empty where it is right or was not shown.
        refused: whether plaintext was reset beside an answered handshake, so that its refusal is proved.
        taken: how plaintext was taken, as a clause; empty where it was not, or was not tried.
        silent: how a plaintext request of HTTP ended without an answer, as the end of a sentence; empty where it got one.
        control: the positive control, as a sentence; empty where there was none.
    """

    target: Target
    wire: Wire
    why: str
    shown: tuple[Certificate, ...] = ()
    problem: str = ""
    refused: bool = False
    taken: str = ""
    silent: str = ""
    control: str = ""

    @property
    def configured(self) -> Mode:
        """What the configuration makes of the port."""
        return self.target.state.mode

    @property
    def agrees(self) -> bool:
        """Whether the wire does what the configuration says."""
        return {Mode.STRICT: Wire.STRICT, Mode.PERMISSIVE: Wire.PERMISSIVE, Mode.DISABLE: Wire.PLAINTEXT}.get(self.configured) is self.wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that one run of the probes saw of the namespace."""

    snapshot: Snapshot
    targets: Targets
    seen: tuple[Seen, ...] = ()
    answers: Mapping[str, Answer]


# --- what to ask ------------------------------------------------------------------------------------------------------


def asks(targets: Targets) -> Plan:
    """The asks for everything that lines 4.2.1, 7.1.1, 7.1.2, 7.2.1, 7.2.2, 7.2.3 and 11.1.1 want to know.

    From outside: to each target two ClientHellos; five plaintext bytes only where the configuration says STRICT; a GET of the
    readiness path where plaintext is meant to be taken and the port speaks HTTP/1; a GET of each proxy's own readiness port.
    From inside: to each port of a Service one GET of the readiness path if it speaks HTTP or gRPC, a ClientHello if it speaks
    TLS, and a connection without a byte if it speaks anything else over TCP.
    """
    outside = [ask for target in targets.targets for ask in _from_outside(target)]
    ready = {target.pod: target for target in targets.targets if target.proxied}
    outside += [
        Ask(id=ready_id(pod), op=Op.HTTP, host=target.address, port=READY_PORT, path=READY_PATH, keep=256) for pod, target in ready.items()
    ]
    return Plan(unmeshed=tuple(outside), meshed=tuple(_from_inside(call) for call in targets.calls if call.targets))


def ready_id(pod: str) -> str:
    """The id of the ask whether a pod's proxy is ready."""
    return f"ready|{pod}"


def call_id(call: Call) -> str:
    """The id of the ask that calls a port of a Service."""
    return f"call|{call.key}"


def _from_outside(target: Target) -> Iterator[Ask]:
    if target.state.ambient:
        return  # the node's ztunnel answers elsewhere, and resets plaintext in its own way
    name, port = target.address, target.port
    for alpn in ("h2", "istio"):
        yield Ask(id=f"{alpn}|{target.key}", op=Op.TLS, host=name, port=port, alpn=(alpn,), read=_READ_TLS, linger=0.2)
    if target.state.mode is Mode.STRICT:
        yield Ask(id=f"plain|{target.key}", op=Op.TCP, host=name, port=port, send=PLAINTEXT, read=_READ_PLAINTEXT, linger=0.2)
    elif _may_get(target):
        yield Ask(id=f"get|{target.key}", op=Op.HTTP, host=name, port=port, path=target.path, keep=256)


def _may_get(target: Target) -> bool:
    speaks = target.protocol in HTTP_FAMILY - _GRPC - {Protocol.HTTP2}
    return speaks and bool(target.path) and target.state.mode in (Mode.PERMISSIVE, Mode.DISABLE)


def _from_inside(call: Call) -> Ask:
    id_ = call_id(call)
    if call.protocol in _GRPC:
        return Ask(id=id_, op=Op.GRPC, host=call.host, port=call.port, path=call.path or "/", keep=256)
    if call.protocol in HTTP_FAMILY or (call.protocol is Protocol.GUESSED and call.path):
        return Ask(id=id_, op=Op.HTTP, host=call.host, port=call.port, path=call.path, keep=256)
    if call.protocol in (Protocol.TLS, Protocol.HTTPS):
        return Ask(id=id_, op=Op.TLS, host=call.host, port=call.port, server_name=call.host, read=_READ_TLS, linger=0.2)
    return Ask(id=id_, op=Op.HOLD, host=call.host, port=call.port, read=_READ_SILENT)


def _bounds(who: str, sent: Sequence[Ask]) -> Iterator[str]:
    words = {
        Op.TLS: "TLS handshake without data",
        Op.TCP: "five plaintext bytes to a STRICT port",
        Op.HTTP: "GET of a readiness path",
        Op.GRPC: "GET that says gRPC and runs no method",
        Op.HOLD: "connection without a byte",
        Op.DNS: "look-up of a name",
    }
    counts = [(sum(1 for ask in sent if ask.op is op), word) for op, word in words.items()]
    if any(count for count, _ in counts):
        yield f"from {who}: {', '.join(f'{count} x {word}' for count, word in counts if count)}"


def sent_in_plaintext(targets: Targets) -> dict[str, int]:
    """How many requests and connections without mutual TLS `asks` makes to each workload, for those who count them.

    A ClientHello counts where the proxy lets it through; so this is the most that it can be.
    """
    counts: dict[str, int] = {}
    for target in targets.targets:
        counts[target.workload.name] = counts.get(target.workload.name, 0) + sum(1 for _ in _from_outside(target))
    return counts


# --- what came back ---------------------------------------------------------------------------------------------------


def observe(
    snapshot: Snapshot,
    targets: Targets,
    answers: Mapping[str, Answer],
    *,
    now: dt.datetime | None = None,
) -> Observed:
    """What the answers to `asks` say.

    Args:
        snapshot: the one that the targets were taken from.
        targets: what was asked.
        answers: by the id of the ask, of both probes together; what is missing was lost.
        now: the moment by which certificates are judged; by default that of the snapshot, by the cluster's clock.
    """
    moment = now_of(snapshot, now)
    seen = (_seen(snapshot, target, answers, moment) for target in targets.targets if not target.state.ambient)
    return Observed(snapshot=snapshot, targets=targets, seen=tuple(seen), answers=answers)


def _seen(snapshot: Snapshot, target: Target, answers: Mapping[str, Answer], now: dt.datetime | None) -> Seen:
    plain, get = answers.get(f"plain|{target.key}"), answers.get(f"get|{target.key}")
    h2, istio = answers.get(f"h2|{target.key}"), answers.get(f"istio|{target.key}")
    strict, mesh = _spiffe(h2), _spiffe(istio)
    shown = mesh or strict
    taken = _taken(plain, get)
    wire, why = _demanding(plain or get, taken) if strict else _lenient(h2, istio, plain, taken, mesh=bool(mesh))
    return Seen(
        target=target,
        wire=wire,
        why=why,
        shown=shown,
        problem=identity_problem(snapshot, target, shown, now) if shown else "",
        refused=wire is Wire.STRICT and plain is not None and plain.outcome is Outcome.RESET,
        taken=taken,
        silent=said(get) if get is not None and not get.status else "",
        control=f"the same port answered a TLS handshake with {shown[0].spiffe}" if shown else "",
    )


def _demanding(refusal: Answer | None, taken: str) -> tuple[Wire, str]:
    """A port that shows a mesh certificate to every TLS client: plaintext, where it was tried, must be reset."""
    if refusal is None:
        return Wire.STRICT, "every TLS client gets the proxy's certificate"
    if refusal.outcome is Outcome.RESET:
        return Wire.STRICT, "plaintext is reset, and every TLS client gets the proxy's certificate"
    if taken:
        return Wire.UNDECIDED, f"every TLS client gets the proxy's certificate, and yet {taken}"
    return Wire.UNDECIDED, f"every TLS client gets the proxy's certificate, but plaintext {said(refusal)}, which decides nothing"


def _lenient(h2: Answer | None, istio: Answer | None, plain: Answer | None, taken: str, *, mesh: bool) -> tuple[Wire, str]:
    """A port that does not; ``mesh``: whether it shows one to Istio's own clients, which is what tells PERMISSIVE.

    Where plaintext was reset, an ended handshake is not enough: the connection may have been cut for another reason.
    """
    if mesh:
        cut = plain is not None and plain.outcome is Outcome.RESET and h2 is not None and h2.outcome in _CUT
        if taken or (_ended(h2) and not cut):
            return Wire.PERMISSIVE, taken or "mutual TLS is offered to Istio's own clients alone, all others reach the application"
        return Wire.UNDECIDED, f"a handshake for Istio's clients was answered, one for others {said(h2)}"
    if taken and _ended(istio):
        return Wire.PLAINTEXT, f"{taken}, and no mutual TLS is offered"
    if istio is not None and _reached(istio):
        return Wire.PLAINTEXT, f"a TLS handshake for Istio's clients reached the application instead of a proxy: it {said(istio)}"
    return Wire.UNDECIDED, f"{taken}, but a handshake {said(istio)}" if taken else f"a TLS handshake {said(istio or h2)}"


def _ended(answer: Answer | None) -> bool:
    """Whether a handshake was made and no mesh certificate shown: a proxy that would show one does so at once."""
    return answer is not None and (answer.outcome in _ENDED or (answer.outcome is Outcome.OPEN and answer.connected))


def _taken(plain: Answer | None, get: Answer | None) -> str:
    """That plaintext was taken, as a clause; empty where it was not, or nothing tells."""
    if get is not None and get.status:
        return f"a plaintext request is answered with {get.status}"
    if plain is not None and plain.outcome in (Outcome.ANSWERED, Outcome.OPEN) and plain.connected:
        return "plaintext is answered" if plain.outcome is Outcome.ANSWERED else "plaintext is taken and the connection stays open"
    return ""


def _reached(answer: Answer) -> bool:
    """Whether a ClientHello got past any proxy of the mesh: to an application with TLS of its own, or with none."""
    return answer.outcome in (Outcome.NOT_TLS, Outcome.ANSWERED) or bool(answer.certificate_chain)


def said(answer: Answer | None) -> str:
    """How an ask ended, as the end of a sentence."""
    if answer is None:
        return "was not answered by the probe"
    words = {
        Outcome.ANSWERED: "was answered",
        Outcome.OPEN: "met silence",
        Outcome.EOF: "was ended (EOF)",
        Outcome.RESET: "was reset",
        Outcome.TLS_ALERT: f"was ended with the TLS alert {answer.alert or 'unknown'}",
        Outcome.NOT_TLS: "was answered without TLS",
        Outcome.TIMEOUT: "timed out" if answer.connected else "timed out: no connection was made",
        Outcome.REFUSED: "was refused: nobody listens there",
        Outcome.UNREACHABLE: "found no way there",
        Outcome.UNRESOLVED: "found no such name",
        Outcome.ERROR: f"failed in the probe ({answer.error or 'no reason given'})",
    }
    return words[answer.outcome]


def _spiffe(answer: Answer | None) -> tuple[Certificate, ...]:
    """The chain that a handshake showed, if its first certificate is one of a mesh."""
    if answer is None or not answer.certificate_chain:
        return ()
    try:
        chain = parse(answer.certificate_chain)
    except ValueError:
        return ()
    return chain if chain[0].spiffe else ()


# --- identity ---------------------------------------------------------------------------------------------------------


def expected_identity(snapshot: Snapshot, target: Target) -> SpiffeId:
    """Who the pod must prove to be."""
    return SpiffeId(trust_domain=snapshot.trust_domain, namespace=target.workload.namespace, service_account=target.account)


def identity_problem(
    snapshot: Snapshot,
    target: Target,
    chain: Sequence[Certificate],
    now: dt.datetime | None = None,
) -> str:
    """What is wrong with a shown chain, as a clause; empty if it is the pod's, holds together and is valid.

    Args:
        snapshot: for the trust domain; it is not looked at where the mesh configuration was not read.
        target: whose chain it is.
        chain: its own certificate first.
        now: the moment to judge validity by; None leaves it out.
    """
    wanted, own = expected_identity(snapshot, target), chain[0]
    found = own.spiffe
    if found is None:
        return "it shows no SPIFFE identity"
    same = (found.namespace, found.service_account) == (wanted.namespace, wanted.service_account)
    if not same or (snapshot.mesh is not None and found.trust_domain != wanted.trust_domain):
        return f"it proves to be {found}, but its pod runs as {wanted}"
    if problem := chain_problem(chain) or _stranger(snapshot, chain[-1]):
        return f"its chain does not hold: {problem}"
    outside = next((item for item in chain if now is not None and not (item.not_before - _SKEW <= now <= item.not_after)), None)
    if outside is not None:
        first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (outside.not_before, outside.not_after))
        return f"its chain is not valid now: {outside.subject or found} is valid from {first} to {last} UTC"
    return ""


def _stranger(snapshot: Snapshot, last: Certificate) -> str:
    """That the last certificate of a chain is no root of the mesh and names none as its issuer; empty where no root was read.

    Of roots the snapshot keeps public facts alone (line 11.1.3 judges them), so a signature cannot be tried here: a root that
    was shown is compared as a whole, one that was not by its name.
    """
    roots = [root for held in snapshot.rootcertificates if held.metadata.namespace == snapshot.namespace for root in held.roots]
    known = any(root.fingerprint == last.fingerprint if last.self_issued else root.subject == last.issuer for root in roots)
    if known or not roots:
        return ""
    names = ", ".join(dict.fromkeys(root.subject for root in roots))
    return f"it ends with {last.subject or 'a certificate'} of {last.issuer}, and the mesh's root is {names}"


def by_workload(seen: Iterable[Seen]) -> dict[tuple[object, ...], list[Seen]]:
    """What was seen, those of one workload, one verdict and one cause together: they become one finding."""
    found: dict[tuple[object, ...], list[Seen]] = {}
    for item in seen:
        state = item.target.state
        key = (item.target.workload, item.wire, state.gap, state.server.mode, state.server.by, state.server.scope)
        found.setdefault(key, []).append(item)
    return found
