"""Which TLS the sidecars and gateways of callers begin towards a Service, by DestinationRules and BackendTLSPolicies (checks.md 2.4).

Reproduced from istiod: the choice and the merging of rules in pilot/pkg/model/push_context.go, destination_rule.go and
sidecar.go, the levels of a rule in pilot/pkg/networking/util and pilot/pkg/xds/endpoints/mtls_checker.go. Assumed is
Istio's default for ``meshConfig.defaultDestinationRuleExportTo``, everywhere. What a DestinationRule leaves open a
BackendTLSPolicy fills, whichever is older (releasenotes/notes/60358.yaml; older versions of Istio take one of the two).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pytest_meshready.cluster.objects import ClientTls, DestinationRule, Subset, TrafficPolicy
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import backendtls
from pytest_meshready.istio.backendtls import WHOLE, BackendPolicies, BackendRule, filled
from pytest_meshready.istio.dataplane import proxies
from pytest_meshready.istio.moments import moment
from pytest_meshready.results import ObjectRef

#: What `ClientRules` reads; pods lend it the labels of callers and the domain of the cluster.
READS = ("destinationrules", *backendtls.READS, "pods")

#: A namespace of which nothing is known: its callers have no rules of their own here.
ELSEWHERE = ""

_DOMAIN = "cluster.local"
_DOMAIN_OF_PROXY = "$(POD_NAMESPACE).svc."
_NO_TIME = datetime.min.replace(tzinfo=UTC)
_EVERYWHERE, _HERE = "*", "."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMode:
    """What callers begin towards one port of a Service.

    ``mode`` is ``DISABLE``, ``SIMPLE``, ``MUTUAL`` or ``ISTIO_MUTUAL`` where the rule ``by`` says so, at ``place`` in it
    (``trafficPolicy``, ``portLevelSettings``, ``subset v1``, ``targetRefs`` ...). It is empty where automatic mTLS decides for each
    endpoint. ``subset`` is empty for callers whose route names none, ``labels`` are the pods of the subset.
    """

    mode: str = ""
    by: ObjectRef | None = None
    place: str = ""
    subset: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A DestinationRule, or several of one host that istiod merges: the oldest policy, and the subsets of all.

    ``backend``: istiod made the first of them of BackendTLSPolicies. ``tls_by`` tells whose the TLS settings of a port and of the
    whole host (`WHOLE`) are.
    """

    namespace: str
    selector: Mapping[str, str] | None
    export_to: frozenset[str]
    policy: TrafficPolicy | None
    by: ObjectRef
    subsets: Mapping[str, tuple[Subset, ObjectRef]]
    tls_by: Mapping[int, ObjectRef]
    backend: bool = False

    def joined(self, other: _Rule) -> _Rule:
        """The rule with a younger one of the same host: its policy only where there was none, its subsets that are new.

        Of a DestinationRule and a rule made of BackendTLSPolicies the latter fills what the former leaves open.
        """
        subsets = {**other.subsets, **self.subsets}
        if self.backend == other.backend:
            first = self if self.policy is not None else other
            return replace(self, policy=first.policy, by=first.by, tls_by=first.tls_by, subsets=subsets)
        user, backend = (other, self) if self.backend else (self, other)
        policy = filled(user.policy, backend.policy)
        return replace(self, policy=policy, by=user.by, tls_by={**backend.tls_by, **user.tls_by}, subsets=subsets)

    def is_for(self, namespace: str) -> bool:
        """Whether the rule is exported to a client's namespace."""
        return not self.export_to or _EVERYWHERE in self.export_to or namespace in self.export_to


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What some callers have for a host: a rule, or nothing. ``subsets`` tell of each where it is written.

    ``by`` is a DestinationRule, None also where there are BackendTLSPolicies alone, which say nothing but how TLS begins.
    ``selects`` tells that the rule is only for callers with certain labels.
    """

    policy: TrafficPolicy | None = None
    by: ObjectRef | None = None
    subsets: Mapping[str, tuple[Subset, ObjectRef]] = field(default_factory=dict)
    selects: bool = False


class _Hosts:
    """Rules by host, found by the most specific host that matches."""

    def __init__(self) -> None:
        self.exact: dict[str, list[_Rule]] = {}
        self.wild: dict[str, list[_Rule]] = {}

    def of(self, host: str) -> list[_Rule]:
        """The rules of a host as written, to add to."""
        return (self.wild if host.startswith("*") else self.exact).setdefault(host, [])

    def match(self, fqdn: str) -> list[_Rule]:
        """The rules of the most specific host that matches: the very name, or else the longest wildcard."""
        if fqdn in self.exact:
            return self.exact[fqdn]
        matching = [host for host in self.wild if fqdn.endswith(host[1:])]
        return self.wild[max(matching, key=len)] if matching else []


class ClientRules:
    """Every DestinationRule and BackendTLSPolicy of a snapshot, arranged as istiod arranges them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._root = snapshot.root_namespace
        self._domain = cluster_domain(snapshot)
        self._local: dict[str, _Hosts] = {}
        self._exported: dict[str, _Hosts] = {}
        self._root_private: _Hosts = _Hosts()
        self._labels = _labels_by_namespace(snapshot)
        named: set[str] = set()
        ordered = sorted(snapshot.destinationrules, key=_precedence)
        for rule in (rule for rule in ordered if rule.spec.workload_selector is not None):
            self._add(_as_rule(rule), self._resolved(rule))
        for made in BackendPolicies(snapshot, self._domain).rules():  # without a time of creation they count as the oldest
            self._add(_of_backend(made), made.host)
        for rule in (rule for rule in ordered if rule.spec.workload_selector is None):
            self._add(_as_rule(rule), self._resolved(rule))
        for rule in ordered:
            named |= set(rule.spec.export_to) - {_EVERYWHERE, _HERE}
        known = (snapshot.namespace, snapshot.istio_namespace, self._root, *sorted(named))
        #: The namespaces of callers that can be told apart with what was read.
        self.clients = (*dict.fromkeys(known), ELSEWHERE)

    def modes(self, service: str, namespace: str, port: int, client: str) -> tuple[ClientMode, ...]:
        """What callers in the namespace ``client`` begin towards a port of a Service, each way only once.

        Several answers come from subsets, and from rules that select some of the callers by their labels.
        """
        group = self._group(f"{service}.{namespace}.svc.{self._domain}", namespace, client)
        unique: list[ClientMode] = []
        for rule in _for_callers(group, client, self._labels.get(client, ({},))):
            found = (ClientMode(),) if rule is None else (_plain(rule, port), *_subsets(rule, port))
            unique += [mode for mode in found if mode not in unique]
        return tuple(unique)

    def in_force(self, fqdn: str, namespace: str, client: str) -> tuple[InForce, ...]:
        """The rules that callers in a namespace have for a host, each once; several where rules select callers by labels.

        Args:
            fqdn: the host in full.
            namespace: of the Service or ServiceEntry that makes the host.
            client: of the callers.
        """
        group = self._group(fqdn, namespace, client)
        chosen = _for_callers(group, client, self._labels.get(client, ({},)))
        return tuple(
            InForce()
            if rule is None
            else InForce(
                policy=rule.policy,
                by=rule.by if rule.by.kind != backendtls.KIND else None,
                subsets=rule.subsets,
                selects=rule.selector is not None,
            )
            for rule in chosen
        )

    def _add(self, made: _Rule, host: str) -> None:
        own = made.namespace
        if not made.export_to or made.export_to & {_EVERYWHERE, _HERE, own}:
            _merge(self._local.setdefault(own, _Hosts()).of(host), made)
        private = len(made.export_to) == 1 and bool(made.export_to & {_HERE, own})
        if not private:
            _merge(self._exported.setdefault(own, _Hosts()).of(host), made)
        elif own == self._root:
            _merge(self._root_private.of(host), made)

    def _resolved(self, rule: DestinationRule) -> str:
        """The host in full: only a name without a dot is completed, with the rule's own namespace."""
        host = rule.spec.host
        return host if not host or host == "*" or "." in host or ":" in host else f"{host}.{rule.metadata.namespace}.svc.{self._domain}"

    def _group(self, fqdn: str, namespace: str, client: str) -> list[_Rule]:
        """The rules of the first place that has any: the client's namespace, the Service's, the root namespace."""
        near = self._root_private if client == self._root else self._local.get(client)
        if near is not None and (found := near.match(fqdn)):
            return found
        for owner in (namespace, self._root):
            exported = self._exported.get(owner)
            if exported is not None and (found := [rule for rule in exported.match(fqdn) if rule.is_for(client)]):
                return found
        return []


def cluster_domain(snapshot: Snapshot) -> str:
    """The domain of Services, as the proxies were told it; ``cluster.local`` where none says another."""
    for pod in snapshot.pods:
        for container in proxies(pod):
            for flag, value in zip(container.args, container.args[1:], strict=False):
                if flag == "--domain" and value.startswith(_DOMAIN_OF_PROXY):
                    return value.removeprefix(_DOMAIN_OF_PROXY)
    return _DOMAIN


def _labels_by_namespace(snapshot: Snapshot) -> dict[str, tuple[Mapping[str, str], ...]]:
    """The different label sets of pods, of the namespaces in which a rule selects callers at all."""
    selecting = {rule.metadata.namespace for rule in snapshot.destinationrules if rule.spec.workload_selector is not None}
    found: dict[str, dict[frozenset[tuple[str, str]], Mapping[str, str]]] = {namespace: {} for namespace in selecting}
    for pod in snapshot.pods if selecting else ():
        if pod.metadata.namespace in selecting:
            found[pod.metadata.namespace].setdefault(frozenset(pod.metadata.labels.items()), pod.metadata.labels)
    return {namespace: tuple(labels.values()) or ({},) for namespace, labels in found.items()}


def _precedence(rule: DestinationRule) -> tuple[bool, datetime, str, str]:
    """The order in which istiod merges: rules that select callers first, then the oldest, then by name."""
    metadata = rule.metadata
    selects = rule.spec.workload_selector is not None
    return (not selects, moment(metadata.creation_timestamp) or _NO_TIME, metadata.name, metadata.namespace)


def _as_rule(rule: DestinationRule) -> _Rule:
    spec = rule.spec
    by = ObjectRef(kind="DestinationRule", namespace=rule.metadata.namespace, name=rule.metadata.name)
    subsets: dict[str, tuple[Subset, ObjectRef]] = {}
    for subset in spec.subsets:
        subsets.setdefault(subset.name, (subset, by))
    return _Rule(
        namespace=rule.metadata.namespace,
        selector=spec.workload_selector.match_labels if spec.workload_selector else None,
        export_to=frozenset({_HERE} if spec.workload_selector else spec.export_to),
        policy=spec.traffic_policy,
        by=by,
        subsets=subsets,
        tls_by=dict.fromkeys(_speaking(spec.traffic_policy), by),
    )


def _of_backend(made: BackendRule) -> _Rule:
    by = made.by[min(made.by)]
    return _Rule(
        namespace=made.namespace, selector=None, export_to=frozenset(), policy=made.policy, by=by, subsets={}, tls_by=made.by, backend=True
    )


def _speaking(policy: TrafficPolicy | None) -> Iterator[int]:
    """The ports for which a policy says how TLS begins, `WHOLE` among them."""
    if policy is not None:
        yield from (item.port.number for item in policy.port_level_settings if item.tls is not None)
        if policy.tls is not None:
            yield WHOLE


def _merge(rules: list[_Rule], new: _Rule) -> None:
    """Add a rule to those of its host, or into the one of the same callers."""
    separately = True
    for place, rule in enumerate(rules):
        same = new.export_to == rule.export_to
        if new.selector == rule.selector and (same or (rule.export_to and new.export_to > rule.export_to)):
            rules[place] = rule.joined(new)
            separately = separately and not same
    if separately:
        rules.append(new)


def _for_callers(group: list[_Rule], client: str, labels: Iterable[Mapping[str, str]]) -> Iterator[_Rule | None]:
    """The rules of a group that some callers get: those that select them, else the last that selects nobody, else none."""
    rest = next((rule for rule in reversed(group) if rule.selector is None), None)
    selecting = [rule for rule in group if rule.selector is not None and rule.namespace == client]
    seen: list[_Rule | None] = []
    for caller in labels if selecting else ({},):
        rule = next((rule for rule in selecting if _has(caller, rule.selector or {})), rest)
        if rule not in seen:
            seen.append(rule)
            yield rule


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


# --- the levels of one rule -------------------------------------------------------------------------------------------


def _plain(rule: _Rule, port: int) -> ClientMode:
    """For callers whose route names no subset."""
    return _of_rule(rule, port) or _fallback(rule.policy, port, rule) or ClientMode()


def _subsets(rule: _Rule, port: int) -> Iterator[ClientMode]:
    """For callers whose route names a subset: its port, itself, then the rule's port and the rule."""
    for name, (subset, by) in rule.subsets.items():
        tls, place, own = _of_port(subset.traffic_policy, port)
        mode = _mode(tls, f"subset {name}" if place == "trafficPolicy" else f"subset {name} {place}", by)
        if mode is None and not own:
            mode = _of_rule(rule, port)
        mode = mode or _fallback(subset.traffic_policy, port, by) or _fallback(rule.policy, port, rule) or ClientMode()
        yield replace(mode, subset=name, labels=subset.labels)


def _of_rule(rule: _Rule, port: int) -> ClientMode | None:
    """What the rule itself says, in its port or else for the whole host."""
    tls, place, own = _of_port(rule.policy, port)
    return _mode(tls, place, rule.tls_by.get(port if own else WHOLE, rule.by))


def _of_port(policy: TrafficPolicy | None, port: int) -> tuple[ClientTls | None, str, bool]:
    """The TLS settings of a port, where they stand, and whether the port has settings, which then replace all others."""
    if policy is None:
        return None, "", False
    for settings in policy.port_level_settings:
        if settings.port.number == port:
            return settings.tls, "portLevelSettings", True
    return policy.tls, "trafficPolicy", False


def _mode(tls: ClientTls | None, place: str, by: ObjectRef) -> ClientMode | None:
    """Settings without a mode mean DISABLE, the first value of the field."""
    return None if tls is None else ClientMode(mode=tls.mode or "DISABLE", by=by, place=_written(place, by))


def _written(place: str, by: ObjectRef) -> str:
    """Where settings stand: a BackendTLSPolicy has them for what it targets, all of it or a port."""
    return backendtls.PLACES.get(place, place) if by.kind == backendtls.KIND else place


def _fallback(policy: TrafficPolicy | None, port: int, whose: _Rule | ObjectRef) -> ClientMode | None:
    """What automatic mTLS is told of the endpoints, where settings of a port without TLS have replaced a policy with TLS.

    The cluster then matches endpoints by their metadata, and istiod marks them by the policy that was replaced: any mode
    but ISTIO_MUTUAL makes it plaintext.
    """
    if policy is None:
        return None
    levels = [(item.tls, "portLevelSettings", port) for item in policy.port_level_settings if item.port.number == port]
    for tls, place, level in (*levels, (policy.tls, "trafficPolicy", WHOLE)):
        if tls is not None:
            by = whose.tls_by.get(level, whose.by) if isinstance(whose, _Rule) else whose
            return ClientMode(mode=tls.mode if tls.mode == "ISTIO_MUTUAL" else "DISABLE", by=by, place=_written(place, by))
    return None
