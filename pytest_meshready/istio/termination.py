"""Where TLS ends: line 8.1.1, every port through which the namespace is entered, and the certificates shown there (checks.md 8.1.1).

Certificates are known from Secrets only where ``gateway_secrets`` of the settings names them; a handshake, the line's live part,
sees them without that. Istio's Gateway takes them from the namespace of the gateway's pods, the Gateway API's from its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from pytest_meshready.cluster.objects_certificates import Certificate, GatewaySecret
from pytest_meshready.cluster.objects_entry import GatewayServer, HttpRoute, ServerTls, VirtualService
from pytest_meshready.cluster.objects_traffic import GRPCRoute, HTTPRoute, Listener
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import gatewayapi, gateways
from pytest_meshready.istio.gateways import Way, Ways
from pytest_meshready.istio.moments import ago, moment, now_of
from pytest_meshready.istio.virtualservices import gateway_name
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `tls_terminated` reads.
READS = (*gateways.READS, "secrets")

#: What a certificate should still last: below the first it fails, below the second it warns.
LEAST = timedelta(days=14)
ENOUGH = timedelta(days=30)

_PLAIN = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
_TLS = frozenset({"HTTPS", "TLS"})
_TERMINATING = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"})
_ASKING = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})
_OLD = frozenset({"TLSV1_0", "TLSV1_1"})
_REDIRECT = "RequestRedirect"
_WANTED = "HTTPS with a certificate, and plain HTTP only to redirect to it"


def tls_terminated(snapshot: Snapshot) -> Judgement:
    """Line 8.1.1, what the objects say: whoever enters does so by TLS, with a certificate that is good.

    Errors: plain HTTP that is not redirected; TLS without a certificate, or below version 1.2; a Secret that does not exist or
    that a gateway cannot use; a certificate that is expired or will be within 14 days, or that is not for the host. Warnings: TLS
    that is passed on to the application; a certificate that lasts less than 30 days, or is self-signed; one certificate on
    several Gateways of the same pods.
    """
    ways = Ways(snapshot)
    if ways.nothing is not None:
        return ways.nothing
    look = _Look(snapshot, ways)
    findings: list[Finding] = []
    for way in ways.found:
        findings += look.of_way(way)
    findings += _twice(ways)
    findings += look.unused()
    unknown = [*ways.unread, *look.unknown]
    if not ways.found:
        unknown += [Unknown(reason=_not_found(place, name, snapshot)) for place, name in ways.missing]
    return Judgement(
        summary=f"{shortened(str(way.ref) for way in ways.found)}: TLS at every port; {look.looked_at}",
        examined=look.examined,
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="Gateways", data=look.rows),),
    )


def _not_found(place: str, name: str, snapshot: Snapshot) -> str:
    return f"VirtualServices lead to namespace {snapshot.namespace} by Gateway {place}/{name}, which does not exist: see line 3.2.4"


class _Look:
    """Looks at one way in after another."""

    def __init__(self, snapshot: Snapshot, ways: Ways) -> None:
        self._snapshot = snapshot
        self._ways = ways
        self._now = now_of(snapshot)
        self._secrets = {(item.metadata.namespace, item.metadata.name): item for item in snapshot.secrets}
        self._asked = set(snapshot.gateway_secrets)
        self._refused = {refusal.namespace: refusal for refusal in snapshot.refusals if refusal.key == "secrets"}
        self._used: set[str] = set()
        self._left_out: dict[str, None] = {}
        self._seen = 0
        self.examined = 0
        self.rows: list[dict[str, str]] = []
        self.unknown: list[Unknown] = []

    @property
    def looked_at(self) -> str:
        """What of the certificates was looked at, as the end of a sentence."""
        if not self._left_out:
            return f"{self._seen} certificates are good" if self._seen else "no certificate is read from a Secret"
        left = shortened(self._left_out)
        return f"Secrets not looked at (name them in meshready.toml: gateway_secrets): {left}"

    def of_way(self, way: Way) -> Iterator[Finding]:
        """The ports of one Gateway."""
        if way.istio is not None:
            for server in way.istio.spec.servers:
                self.examined += 1
                yield from self._server(way, server)
        if way.kubernetes is not None:
            for listener in way.kubernetes.spec.listeners:
                self.examined += 1
                yield from self._listener(way, listener)

    def _server(self, way: Way, server: GatewayServer) -> Iterator[Finding]:
        """One server of Istio's Gateway."""
        protocol, tls, port = server.port.protocol.upper(), server.tls, server.port.number
        mode = (tls.mode or "PASSTHROUGH") if tls is not None else ""
        self.rows.append(
            {
                "gateway": str(way.ref),
                "port": f"{port}/{protocol}",
                "hosts": ", ".join(server.hosts),
                "tls": mode if protocol in _TLS else "",
            }
        )
        hosts = [host.rpartition("/")[2] for host in server.hosts]
        if protocol in _PLAIN:
            if not (tls is not None and tls.https_redirect) and not self._redirected(way, port, hosts):
                yield _plain(way, port, hosts)
            return
        if protocol not in _TLS and tls is None:
            return  # TCP, MONGO and their like, whose encryption is their own affair
        if tls is None:
            yield _no_certificate(way, port, "it is declared as TLS without any tls settings")
            return
        if tls.min_protocol_version in _OLD:
            yield _old(way, port, tls.min_protocol_version)
        if mode == "PASSTHROUGH":
            yield _passed_on(way, port, hosts)
        if mode in _TERMINATING:
            yield from self._terminating(way, port, hosts, tls)

    def _terminating(self, way: Way, port: int, hosts: list[str], tls: ServerTls) -> Iterator[Finding]:
        names = [name for name in (tls.credential_name, *tls.credential_names) if name]
        if not names and not tls.server_certificate and not tls.tls_certificates:
            yield _no_certificate(way, port, f"tls.mode {tls.mode} names no credentialName and no file")
        places = list(dict.fromkeys(workload.ref.namespace for workload in way.workloads))
        if names and not places and self._asked:
            self.unknown += self._snapshot.unread(*WORKLOADS) or [self._ways.elsewhere()]
        for place in places:
            for name in names:
                yield from self._secret(way, port, hosts, (place, name.rpartition("/")[2]))
                if tls.mode in _ASKING:
                    yield from self._authority(way, port, (place, name.rpartition("/")[2]), tls)

    def _authority(self, way: Way, port: int, name: tuple[str, str], tls: ServerTls) -> Iterator[Finding]:
        """Whether clients' certificates can be checked: by the Secret itself, by NAME-cacert, or by what the server names."""
        found = self._secrets.get(name)
        if found is None or found.problem or found.authorities or tls.ca_certificates:
            return
        other = (name[0], tls.ca_cert_credential_name.rpartition("/")[2] or f"{name[1]}-cacert")
        word = "/".join(other)
        self._used.add(word)
        if word not in self._asked:
            self._left_out[word] = None
        elif other not in self._secrets and name[0] not in self._refused:
            yield _no_authority(way, port, name, word, tls.mode)

    def _redirected(self, way: Way, port: int, hosts: list[str]) -> bool:
        """Whether the VirtualServices of a plain port do nothing but redirect."""
        routes = [
            route
            for item in self._snapshot.virtualservices
            if _uses(item, way, hosts)
            for route in item.spec.http
            if _at(route, port, way, item.metadata.namespace)
        ]
        return bool(routes) and all(route.redirect is not None for route in routes)

    def _listener(self, way: Way, listener: Listener) -> Iterator[Finding]:
        """One listener of the Gateway API's Gateway."""
        protocol, mode = listener.protocol.upper(), (listener.tls.mode if listener.tls else None) or "Terminate"
        hosts = [listener.hostname or "*"]
        tls = mode if protocol in _TLS else ""
        self.rows.append({"gateway": str(way.ref), "port": f"{listener.port}/{protocol}", "hosts": hosts[0], "tls": tls})
        if protocol in _PLAIN:
            every: tuple[HTTPRoute | GRPCRoute, ...] = (*self._snapshot.httproutes, *self._snapshot.grpcroutes)
            routes = [item for item in every if _attached(item, way, listener)]
            if not routes or not all(_only_redirects(item) for item in routes):
                yield _plain(way, listener.port, hosts)
            return
        if protocol not in _TLS:
            return
        if mode == "Passthrough":
            yield _passed_on(way, listener.port, hosts)
            return
        references = listener.tls.certificate_refs if listener.tls else ()
        if not references:
            yield _no_certificate(way, listener.port, f"listener {listener.name} names no certificateRefs")
        yield from _unresolved(way, listener)
        for reference in references:
            if reference.kind in (None, "Secret"):
                yield from self._secret(way, listener.port, hosts, (reference.namespace or way.ref.namespace, reference.name))

    # --- certificates ---

    def _secret(self, way: Way, port: int, hosts: list[str], name: tuple[str, str]) -> Iterator[Finding]:
        """The certificate of one port, where its Secret may be looked at."""
        word = "/".join(name)
        if word not in self._asked:
            self._left_out[word] = None
            return
        self._used.add(word)
        found = self._secrets.get(name)
        if found is None and name[0] in self._refused:
            refusal = self._refused[name[0]]
            self.unknown.append(Unknown(reason=refusal.reason, verb=refusal.verb, resource=refusal.resource, namespace=name[0]))
        elif found is None:
            yield _no_secret(way, port, name, [other for other in self._secrets if other[1] == name[1]])
        elif found.problem or found.key_matches is False:
            yield _unusable(way, found)
        else:
            self._seen += 1
            yield from self._certificate(way, found, hosts)

    def _certificate(self, way: Way, secret: GatewaySecret, hosts: list[str]) -> Iterator[Finding]:
        leaf = secret.chain[0]
        yield from _dated(way, secret, self._now)
        wrong = [host for host in hosts if host != "*" and not covers(leaf, host)]
        if wrong:
            yield _of_secret(
                way,
                secret,
                "WRONG-NAME",
                Level.ERROR,
                found=f"its certificate is for {shortened(leaf.names) or leaf.subject}, not for {shortened(wrong)}",
                wanted="a certificate with the host among its alternative names",
            )
        if leaf.self_signed:
            yield _of_secret(
                way,
                secret,
                "SELF-SIGNED",
                Level.WARNING,
                found=f"its certificate is self-signed ({leaf.subject}), so no client trusts it by itself",
                wanted="a certificate of an authority that clients trust",
            )

    def unused(self) -> Iterator[Finding]:
        """Secrets that the settings name and no Gateway uses: a name that is misspelt, or old."""
        for word in sorted(self._asked - self._used):
            namespace, _, name = word.partition("/")
            yield Finding(
                code="MR811-UNUSED-SECRET",
                level=Level.INFO,
                object=ObjectRef(kind="Secret", namespace=namespace, name=name),
                found="the settings name it (gateway_secrets), but no Gateway that leads into the namespace does",
                wanted="the Secrets that Gateways name, each in the namespace of the gateway's pods",
                fix="correct gateway_secrets in meshready.toml",
            )


def covers(certificate: Certificate, host: str) -> bool:
    """Whether a certificate is for a host: the very name, or a wildcard for its first label. Without names, the subject counts."""
    common = [word.partition("=")[2] for word in certificate.subject.split(",") if word.startswith("CN=")]
    names = [name.lower() for name in certificate.names or common]
    host = host.lower()
    return host in names or f"*.{host.partition('.')[2]}" in names


def _dated(way: Way, secret: GatewaySecret, now: datetime | None) -> Iterator[Finding]:
    """A certificate that is over, soon over, or not valid yet; the first of the chain that is so."""
    for certificate in secret.chain:
        begins, ends = moment(certificate.not_before), moment(certificate.not_after)
        if now is None or begins is None or ends is None:
            continue
        wanted = f"a certificate that lasts {ENOUGH.days} days or more, and is renewed before"
        about = "its certificate" if certificate is secret.chain[0] else f"in its chain, the certificate of {certificate.subject}"
        left = ends - now
        if left.total_seconds() <= 0:
            what = f"{about} expired {ago(-left.total_seconds())} ago ({certificate.not_after})"
            yield _of_secret(way, secret, "EXPIRED", Level.ERROR, found=what, wanted=wanted)
        elif begins > now:
            what = f"{about} is not valid before {certificate.not_before}"
            yield _of_secret(way, secret, "NOT-YET-VALID", Level.ERROR, found=what, wanted="a certificate that is valid now")
        elif left < ENOUGH:
            what = f"{about} ends in {ago(left.total_seconds())} ({certificate.not_after})"
            yield _of_secret(way, secret, "ENDS-SOON", Level.ERROR if left < LEAST else Level.WARNING, found=what, wanted=wanted)
        else:
            continue
        return


# --- routes that only redirect ----------------------------------------------------------------------------------------


def _uses(route: VirtualService, way: Way, hosts: Iterable[str]) -> bool:
    """Whether a VirtualService is bound to a Gateway for one of its hosts."""
    bound = any(_names(name, way, route.metadata.namespace) for name in route.spec.gateways)
    return bound and any(_meet(one, other) for one in route.spec.hosts for other in hosts)


def _names(name: str, way: Way, namespace: str) -> bool:
    """Whether a name of a gateway, in a VirtualService of a namespace, means this one."""
    return gateway_name(name, namespace) == f"{way.ref.namespace}/{way.ref.name}"


def _meet(one: str, other: str) -> bool:
    """Whether two names of hosts, either of which may begin with a wildcard, have one in common."""
    if one.startswith("*"):
        return other.endswith(one[1:]) or one.endswith(other.removeprefix("*"))
    return one.endswith(other[1:]) if other.startswith("*") else one == other


def _at(route: HttpRoute, port: int, way: Way, namespace: str) -> bool:
    """Whether a route may apply to requests at a port of the gateway."""
    return not route.match or any(
        item.port in (0, port) and (not item.gateways or any(_names(name, way, namespace) for name in item.gateways))
        for item in route.match
    )


def _attached(route: HTTPRoute | GRPCRoute, way: Way, listener: Listener) -> bool:
    return any(
        gatewayapi.is_gateway(parent)
        and (parent.namespace or route.metadata.namespace, parent.name) == (way.ref.namespace, way.ref.name)
        and parent.section_name in (None, listener.name)
        and parent.port in (None, listener.port)
        for parent in route.spec.parent_refs
    )


def _only_redirects(route: HTTPRoute | GRPCRoute) -> bool:
    return bool(route.spec.rules) and all(any(item.type == _REDIRECT for item in rule.filters) for rule in route.spec.rules)


# --- findings ---------------------------------------------------------------------------------------------------------


def _of_port(way: Way, port: int, kind: str, level: Level, *, found: str, wanted: str = _WANTED, fix: str) -> Finding:
    return Finding(code=f"MR811-{kind}", level=level, object=way.ref, found=found, wanted=wanted, fix=fix, detail=f"port {port}")


def _plain(way: Way, port: int, hosts: Iterable[str]) -> Finding:
    how = "tls.httpsRedirect: true" if way.istio is not None else "an HTTPRoute with a RequestRedirect to https"
    return _of_port(
        way,
        port,
        "PLAIN-HTTP",
        Level.ERROR,
        found=f"port {port} answers {shortened(hosts)} by plain HTTP and does not redirect to HTTPS",
        fix=f"give it {how}, or waive it if a load balancer in front ends TLS: {way.command}",
    )


def _no_certificate(way: Way, port: int, why: str) -> Finding:
    what = f"port {port} has no certificate to show: {why}"
    return _of_port(way, port, "NO-CERTIFICATE", Level.ERROR, found=what, fix=f"name a Secret with the certificate: {way.command}")


def _old(way: Way, port: int, version: str) -> Finding:
    return _of_port(
        way,
        port,
        "OLD-TLS",
        Level.ERROR,
        found=f"port {port} accepts {version}, which is broken",
        wanted="minProtocolVersion TLSV1_2 or later; Istio's default is TLS 1.2",
        fix=f"take minProtocolVersion out or raise it: {way.command}",
    )


def _passed_on(way: Way, port: int, hosts: Iterable[str]) -> Finding:
    return _of_port(
        way,
        port,
        "PASSED-ON",
        Level.WARNING,
        found=f"port {port} passes TLS for {shortened(hosts)} on, so the application shows the certificate and no rule sees the requests",
        wanted="TLS that ends at the gateway, or an application that is known to end it",
        fix=f"if it is meant, accept it with a waiver that says who renews that certificate; else: {way.command}",
    )


def _unresolved(way: Way, listener: Listener) -> Iterator[Finding]:
    """What the controller says of a listener's references."""
    statuses = way.kubernetes.status.listeners if way.kubernetes is not None else ()
    for status in statuses:
        bad = [item for item in status.conditions if item.type == "ResolvedRefs" and item.status == "False"]
        if status.name == listener.name and bad:
            yield _of_port(
                way,
                listener.port,
                "UNRESOLVED",
                Level.ERROR,
                found=f"listener {listener.name} has a reference that does not resolve ({bad[0].reason or 'ResolvedRefs is False'})",
                wanted="certificateRefs to Secrets that exist, with a ReferenceGrant where they lie in another namespace",
                fix=f"kubectl -n {way.ref.namespace} describe gateways.gateway.networking.k8s.io {way.ref.name}",
            )


def _no_secret(way: Way, port: int, name: tuple[str, str], others: list[tuple[str, str]]) -> Finding:
    where = f"; one of that name lies in {others[0][0]}, where its pods do not look" if others else ""
    return _of_port(
        way,
        port,
        "NO-SECRET",
        Level.ERROR,
        found=f"port {port} takes its certificate from Secret {'/'.join(name)}, which does not exist{where}: every handshake ends at once",
        wanted="a Secret of type kubernetes.io/tls in the namespace of the gateway's pods",
        fix=f"kubectl -n {name[0]} create secret tls {name[1]} --cert=FILE --key=FILE",
    )


def _no_authority(way: Way, port: int, name: tuple[str, str], other: str, mode: str) -> Finding:
    return _of_port(
        way,
        port,
        "NO-CLIENT-CA",
        Level.ERROR,
        found=f"port {port} is {mode}, but Secret {'/'.join(name)} holds no ca.crt and there is no Secret {other}: no handshake succeeds",
        wanted="the authority of the clients' certificates",
        fix=f"kubectl -n {name[0]} create secret generic {other.rpartition('/')[2]} --from-file=cacert=FILE",
    )


def _unusable(way: Way, secret: GatewaySecret) -> Finding:
    why = f"it {secret.problem}" if secret.problem else "its private key is not the one of its certificate"
    return _of_secret(way, secret, "UNUSABLE", Level.ERROR, found=why, wanted="tls.crt and tls.key (or cert and key) that belong together")


def _of_secret(way: Way, secret: GatewaySecret, kind: str, level: Level, *, found: str, wanted: str) -> Finding:
    namespace, name = secret.metadata.namespace, secret.metadata.name
    return Finding(
        code=f"MR811-{kind}",
        level=level,
        object=ObjectRef(kind="Secret", namespace=namespace, name=name),
        found=f"{found}; Gateway {way.ref.namespace}/{way.ref.name} shows it",
        wanted=wanted,
        fix=f"renew it (with cert-manager: kubectl get certificates -A), or: kubectl -n {namespace} create secret tls {name} "
        "--cert=FILE --key=FILE --dry-run=client -o yaml | kubectl apply -f -",
        detail=str(way.ref),
    )


def _twice(ways: Ways) -> Iterator[Finding]:
    """One certificate on several Gateways of the same pods: browsers then reuse a connection for a host of the other (404)."""
    found: dict[tuple[ObjectRef, str], dict[ObjectRef, Way]] = {}
    for way in ways.found:
        for server in way.istio.spec.servers if way.istio is not None else ():
            tls = server.tls
            names = dict.fromkeys(name for name in (tls.credential_name, *tls.credential_names) if name) if tls is not None else ()
            for workload in way.workloads:
                for name in names:
                    found.setdefault((workload.ref, name), {})[way.ref] = way
    for (_, name), sharing in found.items():
        if len(sharing) > 1:
            first = next(iter(sharing.values()))
            yield Finding(
                code="MR811-SHARED-CERTIFICATE",
                level=Level.WARNING,
                object=first.ref,
                found=f"{len(sharing)} Gateways of the same pods show certificate {name} ({shortened(map(str, sharing))}): "
                "a browser may send requests for one over the connection of another and get 404",
                wanted="one Gateway with all hosts of a certificate",
                fix=f"join them: {first.command}",
                detail=name,
            )
