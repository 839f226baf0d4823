"""Who may call whom in the namespace, as far as AuthorizationPolicies name the callers.

Without a policy that allows by name anybody may call anything, and nothing is known of the calls: `Calls.callers` is None
then. Where every rule names service accounts, those are all that can call; which of them do is for metrics to say.
Reproduced from istiod: an ALLOW policy that selects a workload denies what no rule allows (pilot/pkg/security/authz).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.objects import AuthorizationPolicy, Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import DataPlane, counted, dataplane_class
from pytest_meshready.istio.hosts import Host
from pytest_meshready.istio.ports import target
from pytest_meshready.istio.routes import Routes
from pytest_meshready.istio.workloads import LabelIndex

#: What `Calls` reads.
READS = ("authorizationpolicies", "pods", "services")

#: Methods that change nothing, so that repeating them does no harm.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_DRY_RUN = "istio.io/dry-run"
_ANYBODY = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Who may call a port: patterns of ``namespace/service-account``; ``methods`` empty where any may be used."""

    who: tuple[str, ...]
    methods: frozenset[str]

    @property
    def anybody(self) -> bool:
        """Whether the callers are not named."""
        return any(pattern.startswith("*") for pattern in self.who)


class Calls:
    """The calls that the policies allow, between the hosts of the namespace."""

    def __init__(self, snapshot: Snapshot, routes: Routes) -> None:
        self._snapshot = snapshot
        self._pods = routes.pods
        self._services = {item.metadata.name: item for item in in_namespace(snapshot.services, snapshot.namespace)}
        self._known = not snapshot.unread("authorizationpolicies", "pods")
        self._policies = LabelIndex[tuple[int, AuthorizationPolicy]]()
        naming = (
            policy
            for policy in snapshot.authorizationpolicies
            if policy.metadata.namespace in (snapshot.namespace, snapshot.root_namespace)
            and policy.spec.action in ("", "ALLOW")
            and policy.metadata.annotations.get(_DRY_RUN) != "true"
            and not policy.spec.target_refs
            and policy.spec.target_ref is None
        )
        for place, policy in enumerate(naming):
            self._policies.add(policy.spec.selector.match_labels if policy.spec.selector else {}, (place, policy))
        self.gateways = frozenset(account(pod) for pod in snapshot.pods if counted(pod) and dataplane_class(pod) is DataPlane.GATEWAY)
        self._by_account: dict[str, dict[str, Host]] = {}
        for host, _ in routes.callable():
            for pod in self._behind(host):
                self._by_account.setdefault(account(pod), {})[host.name] = host
        self._cache: dict[tuple[str, int], Allowed | None] = {}

    def allowed(self, host: Host, port: int) -> Allowed | None:
        """Who may call a port of a Service of the namespace; None where no policy says."""
        key = (host.name, port)
        if key not in self._cache:
            self._cache[key] = self._allowed(host, port)
        return self._cache[key]

    def from_sidecars(self, host: Host, port: int) -> bool:
        """Whether anybody but gateways may call it."""
        allowed = self.allowed(host, port)
        return allowed is None or any(pattern not in self.gateways for pattern in allowed.who)

    def callers(self, host: Host, port: int) -> tuple[Host, ...] | None:
        """The hosts of the namespace whose service accounts may call a port; None where callers are not named."""
        allowed = self.allowed(host, port)
        if allowed is None or allowed.anybody:
            return None
        found: dict[str, Host] = {}
        for pattern in allowed.who:
            names = [pattern] if "*" not in pattern else fnmatch.filter(self._by_account, pattern)
            for name in names:
                found.update(self._by_account.get(name, {}))
        return tuple(other for other in found.values() if other.name != host.name)

    def _behind(self, host: Host) -> list[Pod]:
        return self._pods.select(host.labels) if host.labels and host.namespace == self._snapshot.namespace else []

    def _allowed(self, host: Host, port: int) -> Allowed | None:
        pods = self._behind(host)
        if not self._known or not pods:
            return None
        who: dict[str, None] = {}
        methods: set[str] = set()
        open_methods = False
        for pod in {frozenset(pod.metadata.labels.items()): pod for pod in pods}.values():
            candidates = sorted(self._policies.candidates(pod.metadata.labels), key=lambda found: found[0])
            policies = [policy for _, policy in candidates if _selects(policy, pod.metadata.labels)]
            if not policies:
                return None
            number = self._number(host, port, pod)
            for rule in _rules(policies):
                for operation in _operations(rule, number):
                    said = _texts(operation, "methods")
                    methods.update(said)
                    open_methods = open_methods or not said
                    who.update(dict.fromkeys(_sources(rule, self._snapshot.namespace)))
        return Allowed(who=tuple(who), methods=frozenset() if open_methods else frozenset(methods))

    def _number(self, host: Host, port: int, pod: Pod) -> int:
        """The port of the pod behind a port of its Service."""
        service = self._services.get(host.ref.name)
        found = next((one for one in service.spec.ports if one.port == port), None) if service else None
        if found is None:
            return port
        return target(pod, found.target_port if found.target_port not in (None, "", 0) else port)


def account(pod: Pod) -> str:
    """The identity of a pod, as ``namespace/service-account``."""
    return f"{pod.metadata.namespace}/{pod.spec.service_account_name or 'default'}"


def _selects(policy: AuthorizationPolicy, labels: Mapping[str, str]) -> bool:
    selector = policy.spec.selector
    return selector is None or selector.match_labels.items() <= labels.items()


def _rules(policies: Iterable[AuthorizationPolicy]) -> Iterable[Mapping[str, Any]]:
    return (rule for policy in policies for rule in policy.spec.rules or () if isinstance(rule, Mapping))


def _operations(rule: Mapping[str, Any], number: int) -> list[Mapping[str, Any]]:
    """The operations of a rule that can be ones on a port; an empty one where the rule names none."""
    written = rule.get("to")
    if not isinstance(written, list) or not written:
        return [{}]
    operations = [item.get("operation") or {} for item in written if isinstance(item, Mapping)]
    here = (item for item in operations if isinstance(item, Mapping))
    return [item for item in here if not _texts(item, "ports") or str(number) in _texts(item, "ports")]


def _sources(rule: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
    """The callers of a rule; anybody where one of its sources does not name them."""
    written = rule.get("from")
    if not isinstance(written, list) or not written:
        return _ANYBODY
    found: list[str] = []
    for item in written:
        source = item.get("source") if isinstance(item, Mapping) else None
        named = _named(source, namespace) if isinstance(source, Mapping) else ()
        if not named:
            return _ANYBODY
        found += named
    return tuple(found)


def _named(source: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
    """``principals`` (``td/ns/a/sa/b``), ``serviceAccounts`` (``a/b``, ``b``) and ``namespaces`` as patterns of ours."""
    found = []
    for principal in _texts(source, "principals"):
        parts = principal.removeprefix("spiffe://").split("/")
        exact = len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa"
        found.append(f"{parts[2]}/{parts[4]}" if exact else "*")
    found += [name if "/" in name else f"{namespace}/{name}" for name in _texts(source, "serviceAccounts")]
    found += [f"{name}/*" for name in _texts(source, "namespaces")] if not found else []
    return tuple(found)


def _texts(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = value.get(key)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list | tuple) else ()
