"""The phase of a rollout, guessed from what is there, for a run to which nobody said it.

A guess is shown as a guess and never gives READY (DESIGN, Verdict). It errs towards the earlier phase, whose lines ask for
less, and it never guesses ``golive``: that is a decision of people.
"""

from __future__ import annotations

from pytest_meshready.cluster.snapshot import Snapshot, in_namespace

#: The kinds that the guess looks at.
READS = ("namespaces", "peerauthentications", "authorizationpolicies")

_INJECTION = ("istio-injection", "istio.io/rev")


def guess(snapshot: Snapshot) -> tuple[str, str]:
    """The name of the phase, and the sentence that says what it was guessed from."""
    namespace = snapshot.this_namespace()
    labels = namespace.metadata.labels if namespace else {}
    ambient = labels.get("istio.io/dataplane-mode") == "ambient"
    if labels.get("istio-injection") != "enabled" and "istio.io/rev" not in labels and not ambient:
        seen = "carries no label that puts it into the mesh" if namespace else "could not be read"
        return "pre", f"namespace {snapshot.namespace} {seen}"
    strict = _strict_by(snapshot)
    if not strict:
        return "permissive", f"no PeerAuthentication makes namespace {snapshot.namespace} as a whole STRICT"
    policies = in_namespace(snapshot.authorizationpolicies, snapshot.namespace)
    if policies:
        return "hardened", f"{strict} is STRICT and {len(policies)} AuthorizationPolicies are applied"
    others = sum(1 for item in snapshot.namespaces if any(label in item.metadata.labels for label in _INJECTION))
    if others > 1:
        return "expand", f"{strict} is STRICT and {others} namespaces are in the mesh"
    return "strict", f"{strict} is STRICT"


def _strict_by(snapshot: Snapshot) -> str:
    """The namespace-wide policy that decides, if it is STRICT: the namespace's own before the mesh's, the oldest of each."""
    for namespace in (snapshot.namespace, snapshot.root_namespace):
        wide = [
            policy
            for policy in in_namespace(snapshot.peerauthentications, namespace)
            if not (policy.spec.selector and policy.spec.selector.match_labels)
        ]
        for policy in sorted(wide, key=lambda item: (item.metadata.creation_timestamp or "", item.metadata.name))[:1]:
            mode = policy.spec.mtls.mode if policy.spec.mtls else ""
            if mode not in ("", "UNSET"):
                return f"PeerAuthentication {namespace}/{policy.metadata.name}" if mode == "STRICT" else ""
    return ""
