"""Service identities: line 7.3.2, whose they are and whether policies name the right ones (checks.md 7.3.2).

An identity is ``TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT``, without ``spiffe://``. How principals match is istiod's own rule
(pilot/pkg/security/authz/model/generator.go), and so is that ``cluster.local`` stands for the mesh's trust domain and its
aliases (pilot/pkg/security/trustdomain).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.istio import membership
from pytest_meshready.istio import policy as policies
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.membership import Member, members
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.policy import ANY, IDENTITIES, Action, Policies, Policy, Rule, known_policies, negative, unread_policies
from pytest_meshready.istio.sidecar_faults import edit
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import workloads
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `identities_validated` reads, besides the mesh configuration.
READS = tuple(dict.fromkeys((*membership.READS, *policies.READS, "serviceaccounts", "namespaces", "configmaps")))

_DEFAULT = "default"
_LOCAL = "cluster.local"
_PREFIX = "spiffe://"

#: Labels that say to which application a workload belongs, the most explicit first.
_APPLICATION = ("app.kubernetes.io/name", "app", "service.istio.io/canonical-name")

#: Fields of sources and keys of conditions that name identities.
_KEYS = {
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.serviceAccount": "serviceAccounts",
    "source.trustDomain": "trustDomains",
}

#: Below this version of Istio, a dot or a bracket in some fields matches more than itself (istio issue 59992).
_ESCAPED_SINCE = (1, 30)
_METACHARACTERS = re.compile(r"[.+?()\[\]{}^$|\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """One value by which a policy names callers."""

    policy: Policy
    rule: int
    field: str
    value: str
    excludes: bool

    @property
    def level(self) -> Level:
        """A caller that an ALLOW rule names wrongly is denied; other rules then only do nothing."""
        return Level.ERROR if self.policy.action is Action.ALLOW and not self.excludes else Level.WARNING


def identities_validated(snapshot: Snapshot) -> Judgement:
    """Line 7.3.2, what the objects say: each workload has an identity of its own, and policies name identities that exist.

    Errors: a policy that allows an account, or a namespace, that does not exist, an account that no workload uses, another
    trust domain, or something that is no identity; a workload whose account does not exist. Warnings: the same where the rule
    denies or excludes; a workload on the account ``default``; an account that several applications share. Accounts of
    namespaces that the run does not read are only listed.
    """
    look = _Look(snapshot)
    found = [item for item in members(snapshot) if item.meshed]
    findings: list[Finding] = []
    for member in found:
        findings += look.account_of(member)
    findings += _shared(snapshot, found)
    findings += [finding for named in look.named for finding in look.judge(named)]
    if look.elsewhere:
        findings.append(_elsewhere(snapshot, list(look.elsewhere)))
    unknown = (*look.unknown, *unread_in(snapshot, snapshot.namespace, *membership.READS, "serviceaccounts"))
    if not found and not unknown:
        unknown = (Unknown(reason=f"no workload of namespace {snapshot.namespace} has an identity of the mesh"),)
    return Judgement(
        summary=f"{len(found)} workloads have accounts of their own; the {len(look.named)} identities in policies exist",
        examined=len(found),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(Evidence(kind="table", source="service accounts", data=[_row(item) for item in found]),),
    )


def account(member: Member) -> str:
    """The service account of a workload: of its pods, or of its template where it has none."""
    specs = [pod.spec for pod in member.workload.pods] or [member.workload.template.spec]
    return specs[0].service_account_name or _DEFAULT


def _row(member: Member) -> dict[str, str]:
    return {"workload": str(member.workload.ref), "account": account(member)}


class _Look:
    """What is there, and what policies say of it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._read = [name for name in held_namespaces(snapshot) if not unread_in(snapshot, name, *WORKLOADS, "serviceaccounts")]
        self._namespaces = None if snapshot.unread("namespaces") else {item.metadata.name for item in snapshot.namespaces}
        self._accounts = {(item.metadata.namespace, item.metadata.name) for item in snapshot.serviceaccounts}
        self._used = {
            (name, spec.service_account_name or _DEFAULT)
            for name in self._read
            for item in workloads(snapshot, name)
            for spec in (*(pod.spec for pod in item.pods), item.template.spec)
        }
        self._domains = (snapshot.trust_domain, *(snapshot.mesh.trust_domain_aliases if snapshot.mesh else ()))
        self.named = tuple(_every_name(known_policies(snapshot), snapshot.namespace))
        self.elsewhere: dict[str, None] = {}
        self.unknown: tuple[Unknown, ...] = unread_policies(snapshot)
        if self.named and snapshot.mesh is None:
            self.unknown += snapshot.unread("configmaps") or (
                Unknown(reason="the mesh configuration, which names the trust domain, is not known"),
            )
        if self.named and self._namespaces is None:
            self.unknown += snapshot.unread("namespaces")

    def account_of(self, member: Member) -> Iterator[Finding]:
        """What is wrong with the account of one workload."""
        name, ref = account(member), member.workload.ref
        if name == _DEFAULT:
            yield Finding(
                code="MR732-DEFAULT-ACCOUNT",
                level=Level.WARNING,
                object=ref,
                found="it runs as the service account default, so no policy can tell it from whatever else runs so in the namespace",
                wanted="a service account of its own",
                fix=f"kubectl -n {ref.namespace} create serviceaccount {ref.name}; then set serviceAccountName: {edit(member.workload)}",
            )
        elif ref.namespace in self._read and (ref.namespace, name) not in self._accounts:
            yield Finding(
                code="MR732-NO-ACCOUNT",
                level=Level.ERROR,
                object=ref,
                found=f"it runs as service account {name}, which does not exist, so no new pod can start",
                wanted="a service account that exists",
                fix=f"kubectl -n {ref.namespace} create serviceaccount {name}",
            )

    def judge(self, named: _Named) -> Iterator[Finding]:
        """What is wrong with one name in a policy."""
        if named.value == ANY:
            return
        yield from self._unescaped(named)
        if named.field == "principals":
            yield from self._principal(named)
        elif named.field == "serviceAccounts":
            namespace, slash, name = named.value.partition("/")
            yield from self._account(named, namespace if slash else named.policy.ref.namespace, name if slash else namespace)
        elif named.field == "trustDomains":
            yield from self._domain(named, named.value)
        elif self._namespaces is not None and not any(_matches(named.value, item) for item in self._namespaces):
            yield _wrong(named, "NO-NAMESPACE", "is a namespace that does not exist")

    def _principal(self, named: _Named) -> Iterator[Finding]:
        """A principal: whole, or with a ``*`` at its beginning or end."""
        value = named.value
        if value.startswith(_PREFIX):
            yield _wrong(named, "NO-IDENTITY", f"begins with {_PREFIX}, which principals are written without, so it matches nobody")
            return
        whole = re.fullmatch(r"([^/]*)/ns/([^/]+)/sa/([^/]+)", value)
        if whole is None and ANY not in value:
            yield _wrong(named, "NO-IDENTITY", "is not of the form TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, so it matches nobody")
            return
        if whole is not None and whole[1] != ANY:
            yield from self._domain(named, whole[1])
        if whole is not None and ANY not in whole[2] + whole[3]:
            yield from self._account(named, whole[2], whole[3])
            return
        known = (f"{domain}/ns/{namespace}/sa/{name}" for domain in self._domains for namespace, name in self._used)
        if not any(_matches(value, principal) for principal in known):
            inside = re.search(r"/ns/([^/*]+)/", value)
            yield from self._none_matches(named, inside[1] if inside else "")

    def _none_matches(self, named: _Named, namespace: str) -> Iterator[Finding]:
        """A pattern that no identity in the namespaces that were read has; without a namespace it may mean another one's."""
        if namespace in self._read:
            yield _wrong(named, "UNUSED-ACCOUNT", "is an identity that no workload has")
        elif namespace and self._namespaces is not None and namespace not in self._namespaces:
            yield _wrong(named, "NO-NAMESPACE", f"is in namespace {namespace}, which does not exist")
        else:
            self.elsewhere[named.value] = None

    def _account(self, named: _Named, namespace: str, name: str) -> Iterator[Finding]:
        if self._namespaces is not None and namespace not in self._namespaces:
            yield _wrong(named, "NO-NAMESPACE", f"is in namespace {namespace}, which does not exist")
        elif namespace not in self._read:
            self.elsewhere[f"{namespace}/{name}"] = None
        elif (namespace, name) not in self._accounts:
            yield _wrong(named, "NO-ACCOUNT", f"names service account {namespace}/{name}, which does not exist")
        elif (namespace, name) not in self._used:
            yield _wrong(named, "UNUSED-ACCOUNT", f"names service account {namespace}/{name}, which no workload uses")

    def _domain(self, named: _Named, domain: str) -> Iterator[Finding]:
        if self._snapshot.mesh is None or domain == _LOCAL or any(_matches(domain, own) for own in self._domains):
            return
        yield _wrong(named, "TRUST-DOMAIN", f"is of trust domain {domain}, but the mesh has {shortened(dict.fromkeys(self._domains))}")

    def _unescaped(self, named: _Named) -> Iterator[Finding]:
        """Before Istio 1.30 the fields below were put into a regular expression as they are."""
        version = re.match(r"(\d+)\.(\d+)", self._snapshot.istio_version)
        affected = named.field == "namespaces" or (named.field == "principals" and named.value.startswith(ANY))
        if not version or not affected or (int(version[1]), int(version[2])) >= _ESCAPED_SINCE:
            return
        if _METACHARACTERS.search(named.value):
            what = f"is read as a regular expression by Istio {self._snapshot.istio_version}, so it may match other identities too"
            yield _wrong(named, "UNESCAPED", what, Level.WARNING)


def _every_name(policies_: Policies, namespace: str) -> Iterator[_Named]:
    """Every name of a caller in the policies that can reach the namespace and enforce something."""
    for policy in policies_.in_force(namespace):
        if policy.dry_run:
            continue
        for number, rule in enumerate(policy.rules, start=1):
            for field, excludes, values in _of_rule(rule):
                yield from (_Named(policy=policy, rule=number, field=field, value=value, excludes=excludes) for value in values)


def _of_rule(rule: Rule) -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """The fields of a rule that name callers, whether they exclude them, and their values."""
    for source in rule.sources:
        for field in IDENTITIES:
            yield field, False, source.get(field, ())
            yield field, True, source.get(negative(field), ())
    for condition in rule.conditions:
        if condition.key in _KEYS:
            yield _KEYS[condition.key], False, condition.values
            yield _KEYS[condition.key], True, condition.not_values


def _matches(pattern: str, text: str) -> bool:
    """Istio's match of strings: whole, ``prefix*``, ``*suffix``, and ``*`` for anything."""
    if pattern.startswith(ANY):
        return text.endswith(pattern[1:])
    if pattern.endswith(ANY):
        return text.startswith(pattern[:-1])
    return pattern == text


def _wrong(named: _Named, kind: str, what: str, level: Level | None = None) -> Finding:
    ref = named.policy.ref
    effect = "" if level or named.level is Level.WARNING else "; the callers that it means are denied"
    return Finding(
        code=f"MR732-{kind}",
        level=level or named.level,
        object=ref,
        found=f"in its rule {named.rule}, {named.value} {what}{effect}",
        wanted="identities that workloads have: TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
        fix=f"correct it: kubectl -n {ref.namespace} edit authorizationpolicy {ref.name}",
        detail=f"{named.field} {named.value}",
    )


def _shared(snapshot: Snapshot, found: list[Member]) -> Iterator[Finding]:
    """Accounts of several applications: a policy for one of them admits the others too."""
    by_account: dict[str, dict[str, Member]] = {}
    for member in found:
        if account(member) != _DEFAULT:
            by_account.setdefault(account(member), {}).setdefault(_application(member), member)
    for name, applications in sorted(by_account.items()):
        if len(applications) > 1:
            yield Finding(
                code="MR732-SHARED-ACCOUNT",
                level=Level.WARNING,
                object=ObjectRef(kind="ServiceAccount", namespace=snapshot.namespace, name=name),
                found=f"{len(applications)} applications share it ({shortened(item.name for item in applications.values())}), "
                "so a policy that admits one admits all",
                wanted="a service account for each application",
                fix=f"give each its own serviceAccountName: kubectl -n {snapshot.namespace} get pods "
                "-o custom-columns=POD:.metadata.name,ACCOUNT:.spec.serviceAccountName",
            )


def _application(member: Member) -> str:
    labels = member.workload.labels
    return next((labels[key] for key in _APPLICATION if labels.get(key)), member.name)


def _elsewhere(snapshot: Snapshot, names: list[str]) -> Finding:
    return Finding(
        code="MR732-ELSEWHERE",
        level=Level.INFO,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"policies name identities in namespaces that this run does not read: {shortened(sorted(names))}",
        wanted="that these exist, too",
        fix="look for each: kubectl -n NAMESPACE get serviceaccount,pods",
    )
