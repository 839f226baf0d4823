"""Line 11.1.3: the mesh's root certificate lasts, and all trust the same one (checks.md 11.1.3)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_meshready.cluster.objects_certificates import Certificate, RootCertificates
from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio.certificates import NAME, rotation
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import shop as written_shop

OLD = "2026-08-20T00:00:00Z"


def root(**fields: Any) -> Certificate:
    """A root of a company's own; snapshots are of 2026-08-25."""
    defaults: dict[str, Any] = {
        "subject": "CN=Example Root,O=Example",
        "issuer": "CN=Example Root,O=Example",
        "not_before": "2020-01-01T00:00:00Z",
        "not_after": "2030-01-01T00:00:00Z",
        "fingerprint": "aa",
        "self_signed": True,
        "authority": True,
    }
    return Certificate(**{**defaults, **fields})


def bundle(*roots: Certificate, namespace: str = make.NAMESPACE, problem: str = "") -> RootCertificates:
    return RootCertificates(metadata=make.metadata(NAME, namespace), roots=roots, problem=problem)


def shop(*roots: Certificate, central: tuple[Certificate, ...] | None = None, **fields: Any) -> Snapshot:
    """The shop whose pods trust these roots, as istiod's own namespace does unless it is said otherwise."""
    both = (bundle(*roots), bundle(*(roots if central is None else central), namespace=make.ISTIO))
    return written_shop("", **{"rootcertificates": both, **fields})


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, item.object.name): item.level for item in judgement.findings}


def test_a_root_that_lasts() -> None:
    """A root from outside, for years, the same everywhere."""
    judgement = rotation(shop(root()))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 1, ())
    assert "lasts until 2030-01-01" in judgement.summary


@pytest.mark.parametrize(
    ("fields", "code", "level"),
    [
        ({"not_after": "2026-08-24T00:00:00Z"}, "MR1113-EXPIRED", Level.ERROR),
        ({"not_after": "2026-09-20T00:00:00Z"}, "MR1113-ENDS-SOON", Level.ERROR),
        ({"not_after": "2027-08-20T00:00:00Z"}, "MR1113-ENDS-SOON", Level.WARNING),
        ({"not_before": "2026-09-01T00:00:00Z"}, "MR1113-NOT-YET-VALID", Level.ERROR),
        ({"subject": "O=cluster.local", "issuer": "O=cluster.local"}, "MR1113-SELF-SIGNED", Level.WARNING),
    ],
)
def test_roots(fields: dict[str, str], code: str, level: Level) -> None:
    """30 and 365 days are the bounds; istiod's own root has an organization and no name."""
    assert found(rotation(shop(root(**fields)))) == {(code, NAME): level}


def test_two_roots_are_a_rotation_that_has_not_ended() -> None:
    """While a root is changed both are trusted."""
    assert found(rotation(shop(root(), root(fingerprint="bb")))) == {("MR1113-SEVERAL-ROOTS", NAME): Level.WARNING}


def test_another_root_than_istiods() -> None:
    """Pods that start in such a namespace do not trust istiod."""
    assert found(rotation(shop(root(), central=(root(fingerprint="bb"),)))) == {("MR1113-OTHER-ROOT", NAME): Level.ERROR}


def test_a_config_map_without_a_root() -> None:
    """What is there and holds no certificate fails; what is not there may have another name."""
    broken = (bundle(problem="has no key root-cert.pem"),)
    assert found(rotation(shop(rootcertificates=broken))) == {("MR1113-NO-ROOT", NAME): Level.ERROR}
    absent = rotation(shop(rootcertificates=()))
    assert absent.status is Status.NOT_VERIFIED
    assert "trustBundleName" in absent.reason


def test_trust_domains_of_running_proxies() -> None:
    """A proxy of a trust domain that the mesh no longer knows is denied everywhere, unless it is an alias."""
    orders = make.deployment("orders")
    pods = tuple(make.injected(pod, proxy_env={"TRUST_DOMAIN": "old.example"}) for pod in make.pods_of(orders, meshed=False))
    fields: dict[str, Any] = {"deployments": (orders,), "pods": pods}
    assert found(rotation(shop(root(), **fields))) == {("MR1113-TRUST-DOMAIN", "orders"): Level.ERROR}
    known = MeshConfig(root_namespace=make.ISTIO, trust_domain="cluster.local", trust_domain_aliases=("old.example",))
    assert found(rotation(shop(root(), mesh=known, **fields))) == {}


def test_pods_that_have_outlived_a_certificate() -> None:
    """A ready pod older than a day has renewed its certificate; it is told how many there are."""
    orders = make.deployment("orders")
    pods = (*make.pods_of(orders, count=1, created=OLD), *make.pods_of(orders, count=1, hash_="5f5f5f5f5f"))
    judgement = rotation(shop(root(), deployments=(orders,), pods=pods))
    assert "1 of 2 pods with a proxy are ready and older than a certificate lasts" in judgement.summary


@pytest.mark.parametrize(
    ("key", "namespace"), [("rootcertificates", make.NAMESPACE), ("rootcertificates", make.ISTIO), ("pods", make.NAMESPACE)]
)
def test_what_may_not_be_read(key: str, namespace: str) -> None:
    """A refused read leaves the line not verified."""
    judgement = rotation(shop(root(), refusals=(make.refusal(key, namespace=namespace),)))
    assert judgement.status is Status.NOT_VERIFIED
    assert rotation(shop(root(), mesh=None)).status is Status.NOT_VERIFIED
