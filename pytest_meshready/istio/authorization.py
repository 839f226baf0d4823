"""Who may call whom: lines 7.3.1 (not denied by default too early) and 11.1.2 (policies applied), as the objects say.

What the policies mean is in `pytest_meshready.istio.policy`; what is wrong with single rules of them in
`pytest_meshready.istio.policy_faults`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from pytest_meshready.cluster.objects import Pod
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import policy as policies
from pytest_meshready.istio import ports
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.once import once
from pytest_meshready.istio.policy import ANY, Action, Effective, Policy, Rule, Target, known_policies, reached, targets, unread_policies
from pytest_meshready.istio.policy_faults import rule_faults, served_ports
from pytest_meshready.istio.projection import is_ambient
from pytest_meshready.istio.servermodes import Mode, PeerPolicies
from pytest_meshready.istio.wording import shortened
from pytest_meshready.istio.workloads import READS as WORKLOADS
from pytest_meshready.istio.workloads import LabelIndex, Workload, pod_names
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `default_deny_absent` reads.
READS_731 = (*ports.READS, *policies.READS)

#: What `policies_applied` reads, besides the mesh configuration.
READS_1112 = (*ports.READS, *policies.READS, "requestauthentications", "configmaps")

#: Pods whose proxy, or whose own library, obeys AuthorizationPolicies.
_OBEYING = frozenset({DataPlane.NATIVE, DataPlane.CLASSIC, DataPlane.PROXYLESS, DataPlane.AMBIENT})


class _Survey:
    """The workloads of the run's namespace that can be called, with their policies."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.policies = known_policies(snapshot)
        self.targets = targets(snapshot)
        self.reached = reached(self.targets)
        self.unknown: tuple[Unknown, ...] = (*unread_policies(snapshot), *unread_in(snapshot, snapshot.namespace, *WORKLOADS))
        odd = dict.fromkeys(policy.name for target in self.targets for effective in target.effective for policy in effective.unknown)
        self.unknown += tuple(
            Unknown(reason=f"{name} has an action that Istio does not have, so what it does is not known") for name in odd
        )
        if not self.targets and not self.unknown:
            self.unknown += (Unknown(reason=f"namespace {snapshot.namespace} has no workload that could be called"),)

    @functools.cached_property
    def taking_plaintext(self) -> frozenset[str]:
        """The workloads of which a port takes plaintext by policy."""
        modes = PeerPolicies(self.snapshot)
        sets = ((target.name, modes.of(labels, self.snapshot.namespace)) for target in self.targets for labels in target.labels)
        return frozenset(name for name, own in sets if any(mode.mode is not Mode.STRICT for mode in (own.overall, *own.ports.values())))

    def table(self) -> Evidence:
        """Which policies reach which workload."""
        rows = [_row(target, effective) for target in self.targets for effective in target.effective]
        return Evidence(kind="table", source="AuthorizationPolicies", data=rows)


_WANTED_731 = "in this phase no policy that denies by default: callers are not all known yet"


def default_deny_absent(snapshot: Snapshot) -> Judgement:
    """Line 7.3.1, what the objects say: nothing denies by default yet.

    Errors: an ALLOW policy without rules, a DENY policy that matches everything, also for a gateway or a waypoint of the
    namespace; one that denies whoever has no identity while a port still takes plaintext; a TCP port that no ALLOW rule can
    open. Warnings: ALLOW policies that select every workload, because what they do not name is
    denied. Informations: workloads that an ALLOW policy of their own closes; policies that only run dry.
    """
    survey = _Survey(snapshot)
    findings: list[Finding] = []
    for policy, selected in survey.reached.items():
        findings += _denying(survey, policy, [target.name for target in selected])
    findings += _denying_at_proxies(survey)
    findings += [finding for target in survey.targets for finding in _closed_to_tcp(survey, target)]
    closed = [target.name for target in survey.targets if all(effective.restricted for effective in target.effective)]
    if closed and not findings:
        findings.append(_closed(snapshot, closed, whole=len(closed) == len(survey.targets)))
    findings += _dry("MR731", survey)
    return Judgement(
        summary=f"no AuthorizationPolicy denies by default to the {len(survey.targets)} workloads",
        examined=len(survey.targets),
        findings=tuple(findings),
        unknown=survey.unknown,
        evidence=(survey.table(),),
    )


def policies_applied(snapshot: Snapshot) -> Judgement:
    """Line 11.1.2, what the objects say: every workload is selected by a policy that says who may call it.

    Errors: a workload that no ALLOW or CUSTOM policy in force reaches, or whose pods have no proxy to enforce one; an ALLOW
    rule that matches everything; a CUSTOM policy of an unknown provider. Warnings: an ambient workload for which a waypoint alone
    decides; nothing denies by default; a rule that
    admits everybody, or every identity of the mesh; rules that can never match or match more than they say; policies that
    select nothing; tokens that are checked but not demanded; a provider that lets requests pass while it is down.
    """
    survey = _Survey(snapshot)
    findings: list[Finding] = []
    if not unread_policies(snapshot):
        findings += [finding for target in survey.targets for finding in _uncovered(survey, target)]
        findings += _open_by_default(survey)
    findings += [finding for target in survey.targets for finding in _unenforced(target.workload)]
    faults = rule_faults(snapshot, survey.policies, survey.targets)
    findings += [*faults.findings, *_dry("MR1112", survey)]
    return Judgement(
        summary=f"policies in force say who may call each of the {len(survey.targets)} workloads",
        examined=len(survey.targets),
        findings=tuple(findings),
        unknown=(*survey.unknown, *faults.unknown),
        evidence=(survey.table(),),
    )


def _row(target: Target, effective: Effective) -> dict[str, str]:
    kinds = {"allow": effective.allow, "deny": effective.deny, "custom": effective.custom, "dry run": effective.shadow}
    named = {kind: ", ".join(f"{item.ref.namespace}/{item.ref.name}" for item in found) for kind, found in kinds.items() if found}
    return {"workload": str(target.workload.ref), **named}


def _dry(line: str, survey: _Survey) -> Iterator[Finding]:
    """One information for each policy that enforces nothing."""
    shadows = (policy for target in survey.targets for effective in target.effective for policy in effective.shadow)
    for policy in dict.fromkeys(shadows):
        yield Finding(
            code=f"{line}-DRY-RUN",
            level=Level.INFO,
            object=policy.ref,
            found=f"the annotation {policies.DRY_RUN} makes it count what it would do, and enforce nothing",
            wanted="that this is meant",
            fix=f"to enforce it: kubectl -n {policy.ref.namespace} annotate authorizationpolicy {policy.ref.name} {policies.DRY_RUN}-",
        )


# --- 7.3.1 ------------------------------------------------------------------------------------------------------------


def _denying(survey: _Survey, policy: Policy, names: list[str]) -> Iterator[Finding]:
    """What one policy in force denies by default to these workloads."""
    if policy.allows_nothing:
        what = f"it allows nothing, so only what another policy allows is answered by {shortened(names)}"
        yield _denies(policy, Level.ERROR, what, "ALLOW-NOTHING")
    elif _denies_everything(policy):
        yield _denies(
            policy, Level.ERROR, f"one of its rules matches every request, so nobody is answered by {shortened(names)}", "DENY-ALL"
        )
    elif policy.action is Action.DENY and any(_denies_strangers(policy)):
        taking = [name for name in names if name in survey.taking_plaintext]
        if taking:
            what = f"it denies whoever has no identity, although ports still take plaintext of {shortened(taking)}"
            yield _denies(policy, Level.ERROR, what, "DENY-PLAINTEXT")
    elif policy.action is Action.ALLOW and len(names) == len(survey.targets):
        yield _denies(policy, Level.WARNING, f"it selects all {len(names)} workloads, which deny whatever no rule names", "ALLOW")


def _closed_to_tcp(survey: _Survey, target: Target) -> Iterator[Finding]:
    """TCP ports for which every ALLOW rule asks for something of HTTP: the rules are left out there, and everybody is denied."""
    ports = served_ports(survey.snapshot).get(target.workload.ref, {})
    for effective in target.effective:
        policies_ = effective.allow
        if not policies_ or effective.custom or any(policy.allows_nothing for policy in policies_):
            continue
        rules = [rule for policy in policies_ for rule in policy.rules]
        shut = [number for number, port in ports.items() if port.tcp and not any(_can_match(rule, number) for rule in rules)]
        if shut:
            yield Finding(
                code="MR731-CLOSED-TO-TCP",
                level=Level.ERROR,
                object=policies_[0].ref,
                found=f"no ALLOW rule can match on port {shortened(map(str, sorted(shut)))} of {target.name}, which is declared as TCP: "
                "rules that ask for HTTP are left out there, so everybody is denied",
                wanted="for TCP ports rules with ports, principals, namespaces and addresses alone",
                fix=f"kubectl -n {policies_[0].ref.namespace} edit authorizationpolicy {policies_[0].ref.name}",
                detail=target.name,
            )
            return


def _can_match(rule: Rule, port: int) -> bool:
    """Whether an ALLOW rule counts on a TCP port at all."""
    return not rule.http and (not rule.ports or str(port) in rule.ports)


def _denying_at_proxies(survey: _Survey) -> Iterator[Finding]:
    """Policies for a gateway or a waypoint of the namespace that let nothing through it."""
    namespace = survey.snapshot.namespace
    kinds = ("Gateway", "Service") if is_ambient(survey.snapshot, namespace) else ("Gateway",)  # only ambient Services have waypoints
    for policy in survey.policies.in_force(namespace):
        names = [f"{kind} {name}" for kind, name in policy.attached_to if kind in kinds]
        if names and not policy.dry_run and policy.ref.namespace == namespace and (policy.allows_nothing or _denies_everything(policy)):
            yield from _denying(survey, policy, names)


def _denies_everything(policy: Policy) -> bool:
    return policy.action is Action.DENY and any(rule.everything for rule in policy.rules)


def _denies_strangers(policy: Policy) -> Iterator[bool]:
    """Whether a rule matches every caller without an identity, whatever it asks for."""
    for rule in policy.rules:
        alone = [source for source in rule.sources if set(source) == {"notPrincipals"} and ANY in source["notPrincipals"]]
        yield bool(alone) and not rule.operations and not rule.conditions


def _denies(policy: Policy, level: Level, found: str, kind: str) -> Finding:
    annotate = f"kubectl -n {policy.ref.namespace} annotate authorizationpolicy {policy.ref.name} {policies.DRY_RUN}=true"
    return Finding(
        code=f"MR731-{kind}",
        level=level,
        object=policy.ref,
        found=found,
        wanted=_WANTED_731,
        fix=f"let it run dry first: {annotate}",
    )


def _closed(snapshot: Snapshot, names: list[str], *, whole: bool) -> Finding:
    """Policies for single workloads, which together may close them all."""
    who = f"each of its {len(names)} workloads" if whole else shortened(names)
    return Finding(
        code="MR731-ALL-CLOSED" if whole else "MR731-CLOSED",
        level=Level.WARNING if whole else Level.INFO,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"an ALLOW or CUSTOM policy selects {who}: whatever no rule names is denied there",
        wanted=_WANTED_731,
        fix=f"look for callers that are not named: kubectl -n {snapshot.namespace} get authorizationpolicy -o yaml",
    )


# --- 11.1.2 -----------------------------------------------------------------------------------------------------------


def _uncovered(survey: _Survey, target: Target) -> Iterator[Finding]:
    """A workload that answers whoever calls, or of which some pods do."""
    waypoint = _at_waypoint(survey, target)
    open_ = next((effective for effective in target.effective if not effective.restricted), None)
    if open_ is None:
        return
    if waypoint:
        yield _passed_by(target, waypoint)
        return
    deny, dry = open_.deny, [policy for policy in open_.shadow if policy.action in (Action.ALLOW, Action.CUSTOM)]
    if deny:
        found = f"only DENY policies reach it ({shortened(policy.ref.name for policy in deny)}), so everybody else may call it"
    elif dry:
        found = f"{shortened(policy.name for policy in dry)} would, but only runs dry, so everybody may call it"
    else:
        found = "no AuthorizationPolicy says who may call it, so everybody may"
    namespace = target.workload.ref.namespace
    yield Finding(
        code="MR1112-NO-POLICY",
        level=Level.ERROR,
        object=target.workload.ref,
        found=found,
        wanted="an ALLOW (or CUSTOM) policy in force that selects it and names its callers",
        fix=f"write one that names its callers' principals; those that exist: kubectl -n {namespace} get authorizationpolicy",
    )


def _at_waypoint(survey: _Survey, target: Target) -> list[Policy]:
    """The policies that a waypoint enforces for an ambient workload: for it, or for a Service in front of the workload."""
    if not any(dataplane_class(pod) is DataPlane.AMBIENT for pod in target.workload.pods):
        return []
    index, attached = _services(survey.snapshot), _attached(survey.snapshot)
    selecting = {name for labels in target.labels for name, selector in index.candidates(labels) if selector.items() <= labels.items()}
    found = {place: policy for name in ("", *selecting) for place, policy in attached.get(name, ())}
    return [found[place] for place in sorted(found)]


@once
def _attached(snapshot: Snapshot) -> Mapping[str, list[tuple[int, Policy]]]:
    """The policies that admit callers at a waypoint, with their place among all: by the Service that they are for, or for none (empty)."""
    found: dict[str, list[tuple[int, Policy]]] = {}
    for place, policy in enumerate(known_policies(snapshot).in_force(snapshot.namespace)):
        if policy.action in (Action.ALLOW, Action.CUSTOM) and not policy.dry_run:
            for kind, name in policy.attached_to:
                if kind in ("Gateway", "GatewayClass") or (kind == "Service" and name):
                    found.setdefault(name if kind == "Service" else "", []).append((place, policy))
    return found


@once
def _services(snapshot: Snapshot) -> LabelIndex[tuple[str, Mapping[str, str]]]:
    """The Services of the namespace, by name and by what they select."""
    index = LabelIndex[tuple[str, Mapping[str, str]]]()
    for service in in_namespace(snapshot.services, snapshot.namespace):
        if service.spec.selector:
            index.add(service.spec.selector, (service.metadata.name, service.spec.selector))
    return index


def _passed_by(target: Target, waypoint: list[Policy]) -> Finding:
    namespace = target.workload.ref.namespace
    return Finding(
        code="MR1112-ONLY-WAYPOINT",
        level=Level.WARNING,
        object=target.workload.ref,
        found=f"only its waypoint decides who may call it ({shortened(policy.ref.name for policy in waypoint)}): whoever reaches its pods "
        "past the waypoint is answered",
        wanted="beside it a policy with a selector, which ztunnel enforces, that admits the waypoint's identity alone",
        fix=f"add one that names the waypoint's principal: kubectl -n {namespace} get authorizationpolicy",
    )


def _open_by_default(survey: _Survey) -> Iterator[Finding]:
    """Without a policy for the whole namespace, a workload that comes new is open."""
    namespace = survey.snapshot.namespace
    in_force = survey.policies.in_force(namespace)
    wide = [item for item in in_force if not (item.selector or item.dry_run or item.targeted) and item.action is Action.ALLOW]
    if wide or not survey.targets:
        return
    yield Finding(
        code="MR1112-OPEN-BY-DEFAULT",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=namespace),
        found="no ALLOW policy without a selector reaches it, so a workload that comes new answers everybody",
        wanted="a policy that denies by default: an AuthorizationPolicy with an empty spec, here or in the root namespace",
        fix=f"add one, once every caller is named: kubectl -n {namespace} get authorizationpolicy",
    )


def _unenforced(workload: Workload) -> Iterator[Finding]:
    """Pods without a proxy answer whoever calls, whatever the policies say."""
    bare = [pod for pod in workload.pods if not _obeys(pod)]
    if not bare:
        return
    total = len(workload.pods)
    yield Finding(
        code="MR1112-NO-PROXY",
        level=Level.ERROR,
        object=workload.ref,
        found=f"{len(bare)} of {total} {'pod has' if total == 1 else 'pods have'} no proxy that would enforce policies: {pod_names(bare)}",
        wanted="a proxy in front of every pod",
        fix=f"see line 4.2.1, which says why: kubectl -n {workload.ref.namespace} get pods -o wide",
    )


def _obeys(pod: Pod) -> bool:
    return dataplane_class(pod) in _OBEYING
