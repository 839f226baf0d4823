"""Every rule over a snapshot, fed with mutilated and invented objects: a judgement, and never an exception.

Rules are found by what they are (a public function of ``pytest_meshready.istio`` that takes a Snapshot and returns a
Judgement), so a new rule is tested from the day it is written. Snapshots come in two ways: the recorded shop, whose objects
lose, change and swap parts as JSON and are then read as the API server's answers are; and objects invented from the structs.

More examples: ``MESHREADY_EXAMPLES=2000 pytest tests/unit/test_properties.py``; then they are new ones each time.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import os
import pkgutil
import random
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Verbosity, given, settings
from hypothesis import strategies as st

from pytest_meshready import checklist, istio
from pytest_meshready.checklist import catalogue
from pytest_meshready.cluster import decode, meshconfig
from pytest_meshready.cluster.resources import ALWAYS, RESOURCES
from pytest_meshready.cluster.snapshot import InjectorConfig, InstallValues, MeshConfig, Refusal, Snapshot, Unreadable, load
from pytest_meshready.results import Judgement, Part, Status
from tests.unit import builders as make

EXAMPLES = int(os.environ.get("MESHREADY_EXAMPLES", "0"))
FEW = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    verbosity=Verbosity.normal,
    suppress_health_check=list(HealthCheck),
)

DATA = Path(__file__).parents[1] / "data"

#: What rules need beside the snapshot, by the name of the parameter. None of these arguments is what is mutilated here.
ARGUMENTS: Mapping[str, Any] = {
    "declared": ("payments", "gone"),
    "strict": lambda _workload, _port: True,
    "plain": (),
    "mutual": (),
    "sent": (),
    "manifest": msgspec.to_builtins(make.meshed_pod()),
    "answer": None,
}

#: Rules whose first argument is something other than a snapshot: what probes saw, or what a program printed. They have
#: tests of their own, with odd answers in them.
NOT_ABOUT_SNAPSHOTS = {
    "analysis.istioctl_messages",
    "forwarded.client_identity",
    "measured.convergence",
    "measured.failures",
    "newborn.proxies_ready",
    "newborn.startup",
    "reach.reachable",
    "wire_lines.compatible",
    "wire_lines.identified",
    "wire_lines.legacy",
    "wire_lines.permissive",
    "wire_lines.strict",
    "wire_lines.strict_everywhere",
}

Rule = Callable[..., Judgement]


# --- which rules there are -----------------------------------------------------------------------------------------------


def _judging() -> Iterator[tuple[str, Rule, bool]]:
    """Every public function of ``pytest_meshready.istio`` that returns a Judgement, and whether it takes a Snapshot first."""
    for module in pkgutil.iter_modules(istio.__path__):
        loaded = importlib.import_module(f"{istio.__name__}.{module.name}")
        for name, function in vars(loaded).items():
            if name.startswith("_") or not inspect.isfunction(function) or function.__module__ != loaded.__name__:
                continue
            hints = typing.get_type_hints(function)
            if hints.get("return") is Judgement:
                first = next(iter(inspect.signature(function).parameters), "")
                yield f"{module.name}.{name}", function, hints.get(first) is Snapshot


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Every rule over a snapshot, called with the snapshot alone."""
    found = {}
    for name, function, about_snapshots in _judging():
        if about_snapshots:
            missing = [
                key for key, parameter in list(inspect.signature(function).parameters.items())[1:] if parameter.default is parameter.empty
            ]
            found[name] = functools.partial(function, **{key: ARGUMENTS[key] for key in missing})
    return found


@functools.cache
def static_rules() -> Mapping[str, str]:
    """The rule of each line's static part, read from the shipped tests: ``mesh_check(static=MODULE.RULE(...))``."""
    found = {}
    for path in Path(checklist.__path__[0]).glob("s[0-9][0-9]_*.py"):
        for test in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(test, ast.FunctionDef):
                lines = _constants(call for call in test.decorator_list if isinstance(call, ast.Call))
                called = [rule for call in ast.walk(test) if isinstance(call, ast.Call) for rule in _static(call)]
                found.update({line: rule for rule in called for line in lines})
    return found


def _constants(calls: Iterator[ast.Call]) -> list[str]:
    return [str(argument.value) for call in calls for argument in call.args if isinstance(argument, ast.Constant)]


def _static(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        given = keyword.value.func if isinstance(keyword.value, ast.Call) else None
        if keyword.arg == Part.STATIC.value and isinstance(given, ast.Attribute) and isinstance(given.value, ast.Name):
            yield f"{given.value.id}.{given.attr}"


def test_every_rule_is_fed() -> None:
    """A function that returns a Judgement is a rule over snapshots, or stands in the table of the others."""
    others = {name for name, _, about_snapshots in _judging() if not about_snapshots}
    assert others <= NOT_ABOUT_SNAPSHOTS
    assert len(rules()) >= 40


def test_the_static_rule_of_every_line_is_fed() -> None:
    """Whatever a shipped test calls for the static part of a line is among the rules (some modules only name it again)."""
    fed = {name.partition(".")[2] for name in rules()}
    assert {rule.partition(".")[2] for rule in static_rules().values()} <= fed
    assert set(static_rules()) <= {line.id for line in catalogue.load().lines}


# --- what must hold of every judgement -----------------------------------------------------------------------------------


def judge_all(snapshot: Snapshot) -> dict[str, Judgement]:
    """What every rule says of a snapshot; an exception tells which rule it came from."""
    said = {}
    for name, rule in rules().items():
        try:
            judgement = rule(snapshot)
            assert isinstance(judgement, Judgement)
            assert isinstance(judgement.status, Status)
            assert judgement.reason
            for finding in judgement.findings:
                assert finding.code.startswith("MR")
                assert finding.found
                assert finding.wanted
                assert finding.fix
                assert str(finding.object)
            msgspec.json.encode(msgspec.to_builtins(judgement))  # as it travels home from a worker
        except BaseException as error:
            error.add_note(f"the rule is {name}")
            raise
        said[name] = judgement
    return said


# --- the recorded shop, mutilated ----------------------------------------------------------------------------------------

REPLACEMENTS: tuple[Any, ...] = (
    *(None, "", " ", "x" * 5000, "\u0000\u2028", "-1", "NaN", "1e400", "ALL_OF_THEM", "*", "a/b/c", "true", "{", "[]", "{}", "٣"),
    *(0, -1, 1, 65536, 2**31, 10**18, -(10**18), 0.5, 1e308, True, False),
    *([], [None], [""], [[]], {}, {"": ""}, {"key": None}, {"matchLabels": {}}, [{"name": None}]),
)


@functools.cache
def shop(name: str = "shop.json") -> dict[str, Any]:
    """A recorded snapshot as plain data."""
    found: dict[str, Any] = msgspec.json.decode((DATA / name).read_bytes())
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every part of plain data."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def mutilate(value: Any, chance: random.Random, times: int) -> Any:
    """Plain data with some parts removed, replaced, doubled, or swapped for another part of it."""
    value = copy.deepcopy(value)
    for _ in range(times):
        every = list(places(value))
        if not every:
            return value
        *parents, last = chance.choice(every)
        parent = functools.reduce(lambda part, key: part[key], parents, value)
        match chance.randrange(6):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, list):
                parent += [copy.deepcopy(parent[last]) for _ in range(chance.randrange(1, 4))]
            case 2:
                parent[last] = copy.deepcopy(functools.reduce(lambda part, key: part[key], chance.choice(every), value))
            case _:
                parent[last] = copy.deepcopy(chance.choice(REPLACEMENTS))
    return value


def read_as_answers(data: Mapping[str, Any]) -> dict[str, Any]:
    """The lists of a snapshot, each read as an answer of the API server: what has not the shape of its kind is unreadable."""
    fields: dict[str, Any] = {}
    unreadable: list[Unreadable] = []
    for key, row in RESOURCES.items():
        field = "".join((key[0], key[1:]))
        page = decode.page(msgspec.json.encode({"items": data.get(field, [])}), row)
        fields[key] = tuple(page.items)
        unreadable += page.unreadable
    return {**fields, "unreadable": tuple(unreadable)}


def _rebuilt(plain: Any, kind: type[Any]) -> Any:
    """A struct from plain data; None where it has another shape, as a configuration that could not be understood."""
    try:
        return msgspec.convert(plain, kind, strict=False)
    except msgspec.ValidationError:
        return None


def mutilated(seed: int, name: str = "shop.json") -> Snapshot:
    """The shop with one to forty wounds in some of its kinds, sometimes with kinds that could not be read."""
    chance = random.Random(seed)
    data = dict(shop(name))
    for key in chance.sample(sorted(RESOURCES), chance.randrange(1, 8)):
        data[key] = mutilate(data.get(key, []), chance, chance.randrange(1, 40))
        if not isinstance(data[key], list):
            data[key] = []
    mesh, injector = data["mesh"], data["injector"]
    if chance.random() < 0.5:
        mesh, injector = mutilate(mesh, chance, chance.randrange(12)), mutilate(injector, chance, chance.randrange(12))
    refused = chance.sample(sorted(RESOURCES), chance.choice((0, 0, 1, 5)))
    base = load(DATA / name)
    return msgspec.structs.replace(
        base,
        **read_as_answers(data),
        mesh=_rebuilt(mesh, MeshConfig),
        injector=_rebuilt(injector, InjectorConfig),
        install=chance.choice((None, InstallValues(profile=chance.choice(("", "demo", "preview", "x" * 60))))),
        refusals=tuple(make.refusal(key, namespace="", absent=chance.random() < 0.3) for key in refused),
        read=tuple(key for key in RESOURCES if key not in refused and chance.random() < 0.98),
        taken=chance.choice((base.taken, "", "yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z")),
        istio_version=chance.choice((base.istio_version, "", "1.20.8-asm.33", "latest", "999.999.9999")),
        kubernetes_version=chance.choice((base.kubernetes_version, "", "v0.0.0", "v1")),
        namespace=chance.choice((base.namespace, base.namespace, "istio-system", "", "no-such-namespace")),
        control_plane=chance.choice((base.control_plane, base.control_plane, None)),
    )


@FEW
@given(st.integers(0, 2**32 - 1))
def test_the_mutilated_shop_is_judged(seed: int) -> None:
    """Fields that are missing, null, of another type, huge, doubled or in the wrong place end no rule."""
    judge_all(mutilated(seed))


@FEW
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(f"faults/{path.name}" for path in (DATA / "faults").glob("*.json"))))
def test_mutilated_faults_are_judged(seed: int, name: str) -> None:
    """The same with snapshots in which something is wrong already."""
    judge_all(mutilated(seed, name))


# --- objects invented from the structs -----------------------------------------------------------------------------------

WORDS = (
    *("", "payments", "istio-system", "kube-system", "orders", "ledger", "istiod", "istio-proxy", "istio-init", "discovery", "app"),
    *("Deployment", "ReplicaSet", "StatefulSet", "Job", "Pod", "Node", "Service", "Gateway", "Namespace", "ServiceEntry"),
    *("STRICT", "PERMISSIVE", "DISABLE", "ISTIO_MUTUAL", "SIMPLE", "UNSET", "ALLOW", "DENY", "HTTP", "HTTPS", "TCP", "NONE", "Always"),
    *("enabled", "default", "true", "false", "demo", "*", "~/*", "./*", "mesh", "In", "NotIn", "Exists", "DoesNotExist", "True", "False"),
    *("orders.payments.svc.cluster.local", "orders", "shop.example.com", "*.example.com", "payments/orders", "8080", "http", "grpc-web"),
    *("istio-injection", "istio.io/rev", "sidecar.istio.io/inject", "kubernetes.io/service-name", "topology.kubernetes.io/zone"),
    *("docker.io/istio/proxyv2:1.30.3", "docker.io/istio/pilot:1.31.0-dev", "proxyv2@sha256:0", "auto", "10m", "100Mi", "1e3", "50%", "-1"),
    *("2026-08-25T08:12:31Z", "yesterday", '{"tracing": {"sampling": 1}}', "{", "1s", "0s", "-5ms", "1.5h", "NaN", "x" * 3000),
)
NUMBERS = (0, 1, 2, -1, 50, 100, 443, 8080, 15020, 65536, 2**31, 10**18, -(10**18))
TEXT = st.sampled_from(WORDS) | st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@functools.cache
def invented(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that the decoder could have made of a field of this type."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        int: st.sampled_from(NUMBERS),
        float: st.sampled_from((0.0, 0.5, 5.0, 100.0, -1.0, 1e308)),
        bool: st.booleans(),
        type(None): st.none(),
        Any: JSON,
        object: JSON,
    }
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([invented(argument) for argument in arguments])
    if origin is typing.Annotated:
        return invented(arguments[0])
    if origin is tuple:
        return st.lists(invented(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(invented(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(invented(arguments[0]), invented(arguments[1]), max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        parts = {name: invented(hints[name]) for name in kind.__struct_fields__}
        needed = {f.name for f in msgspec.structs.fields(kind) if f.required}
        return st.fixed_dictionaries(
            {name: part for name, part in parts.items() if name in needed},
            optional={name: part for name, part in parts.items() if name not in needed},
        ).map(lambda fields, kind=kind: decode.redact(kind(**fields)))  # type: ignore[misc]
    message = f"no strategy for {kind}: add one"
    raise NotImplementedError(message)


def _placed(item: Any, namespace: str) -> Any:
    """The object in a namespace that is looked at: what lies elsewhere is not judged."""
    return msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, namespace=namespace))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """The healthy shop with some of its kinds replaced by invented objects, or with these beside its own."""
    base = load(DATA / "shop.json")
    changed: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(sorted(RESOURCES)), min_size=1, max_size=3, unique=True)):
        items = draw(st.lists(invented(RESOURCES[key].type), min_size=1, max_size=3))
        where = draw(st.sampled_from(("payments", "istio-system", "")))
        beside = getattr(base, key) if draw(st.booleans()) else ()
        changed[key] = (*beside, *(_placed(item, where) for item in items))
    if draw(st.booleans()):
        changed["mesh"] = draw(invented(MeshConfig))
    if draw(st.booleans()):
        changed["injector"] = draw(invented(InjectorConfig))
    return msgspec.structs.replace(base, read=tuple(RESOURCES), **changed)


@FEW
@given(snapshots())
def test_invented_objects_are_judged(snapshot: Snapshot) -> None:
    """Whatever the decoder lets through, rules can take."""
    judge_all(snapshot)


@FEW
@given(st.dictionaries(TEXT, JSON, max_size=4), TEXT)
def test_configuration_is_understood_or_refused(config: dict[str, Any], text: str) -> None:
    """Istio's ConfigMaps of any content become a configuration or a sentence."""
    written = msgspec.json.encode(config).decode()
    for value in (written, text):
        for found, problem in (meshconfig.parse_mesh({"mesh": value}), meshconfig.parse_injector({"config": value, "values": value})):
            assert (found is None) == bool(problem)
        meshconfig.parse_values({"original-values": value})
        assert isinstance(meshconfig.clean_proxy_config(value), str)
        assert isinstance(meshconfig.clean_probers(value), str)


# --- without the right to look -------------------------------------------------------------------------------------------

#: Kinds that only refine what a rule says: without them it may pass, because something else that was read decides alone.
REFINING: Mapping[str, frozenset[str]] = {
    "1.1.4": frozenset({"node_pods"}),  # where the team declared namespaces
    "10.2.2": frozenset({"peerauthentications", "configmaps"}),  # shown beside what decides
    "11.1.2": frozenset({"services", "peerauthentications", "namespaces", "mutatingwebhookconfigurations", "configmaps"}),
    "2.1.1": frozenset({"namespaces", "configmaps", "autoscaler_status", "nodepools", "nodeclaims"}),  # an autoscaler only helps
    "2.1.2": frozenset({"namespaces", "configmaps", "autoscaler_status", "nodepools", "nodeclaims"}),
    "2.1.3": frozenset({"namespaces", "configmaps"}),  # the pods show what the injector gave them
    "2.2.2": frozenset({"peerauthentications"}),  # the modes are an argument
    "2.2.3": frozenset({"peerauthentications"}),
    "3.2.2": frozenset({"node_pods"}),  # where the mesh needs agents on its nodes
    "3.2.4": frozenset({"node_pods", "secrets", "requestauthentications", "referencegrants"}),  # asked for where an object needs them
    "4.1.2": frozenset({"pods"}),  # the label decides
    "4.1.3": frozenset({"namespaces", "configmaps"}),  # the webhooks decide
    "11.1.1": frozenset({"authorizationpolicies", "rootcertificates"}),  # for the live part
    "4.2.1": frozenset({"peerauthentications", "services", "node_pods"}),  # for the live part; ambient asks for agents on its nodes
    "4.2.2": frozenset({"services"}),  # to find Prometheus
    "5.2.1": frozenset({"virtualservices", "gateways", "httproutes", "k8sgateways"}),  # the way in, for the live part
    "5.3.2": frozenset({"node_pods"}),  # in ambient mode: whether Prometheus is in the mesh
    **dict.fromkeys(("6.2.1", "6.2.2", "6.2.3"), frozenset({"sidecars"})),  # they only narrow who sees a route
    "7.1.1": frozenset({"authorizationpolicies"}),  # for the live part
    "7.2.3": frozenset({"destinationrules", "configmaps"}),  # the server's side decides
    "7.2.1": frozenset({"rootcertificates"}),  # for the live part
    "7.3.2": frozenset(
        {"services", "peerauthentications", "destinationrules", "backendtlspolicies", "rootcertificates"}
    ),  # for the live part
    "8.1.1": frozenset({"pods", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs", "namespaces", "secrets"})
    | {"mutatingwebhookconfigurations", "ingresses"},  # what serves a Gateway matters only where two are at one port
    **dict.fromkeys(("8.1.2", "8.1.3"), frozenset({"ingresses"})),  # where no Gateway leads in
    "8.2.3": frozenset({"pods", "configmaps", "sidecars"}),  # Sidecars where an entry of another namespace is in the way
}


def blind(snapshot: Snapshot, *keys: str) -> Snapshot:
    """The same cluster without the right to list some kinds."""
    rows = [RESOURCES[key] for key in keys]
    refusals = tuple(
        Refusal(key=row.key, verb="list", resource=row.rbac_name, status=403, reason=f"not permitted: list {row.rbac_name}") for row in rows
    )
    fields: dict[str, Any] = {
        **dict.fromkeys(keys, ()),
        "refusals": refusals,
        "read": tuple(key for key in snapshot.read if key not in keys),
    }
    if "configmaps" in keys:
        fields.update(mesh=None, injector=None, install=None)
    return msgspec.structs.replace(snapshot, **fields)


def rule_of(line: str) -> Rule:
    """The rule of a line's static part."""
    name = static_rules()[line].partition(".")[2]
    return next(rule for full, rule in rules().items() if full.partition(".")[2] == name)


@pytest.mark.parametrize("line", sorted(static_rules()))
def test_what_may_not_be_read_is_never_passed(line: str) -> None:
    """A line that needs a kind does not pass, and is not called inapplicable, where listing that kind was refused."""
    shop_, rule = load(DATA / "shop.json"), rule_of(line)
    if rule(shop_).status is Status.NOT_APPLICABLE:
        pytest.skip("the shop does not use what this line is about")
    needed = [key for key in catalogue.load().line(line).reads if key not in REFINING.get(line, ())]
    passed = [key for key in needed if rule(blind(shop_, key)).status in (Status.PASSED, Status.NOT_APPLICABLE)]
    assert passed == []


@pytest.mark.parametrize("line", sorted(static_rules()))
def test_without_any_right_nothing_passes(line: str) -> None:
    """Every list was refused: whatever a line reads, it is not verified and names a right."""
    judgement = rule_of(line)(blind(load(DATA / "shop.json"), *RESOURCES))
    assert judgement.status is Status.NOT_VERIFIED
    assert any(unknown.verb == "list" for unknown in judgement.unknown)


# --- what rules read ------------------------------------------------------------------------------------------------------

#: Used where it is there, by every rule that attributes pods to workloads, and asked for by none.
ANYWAY = {"replicasets"}

#: Kinds that a rule uses where other lines have read them, to name an object better; nothing depends on them.
BESIDE: Mapping[str, frozenset[str]] = {
    "1.1.3": frozenset({"deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"}),
    "3.2.4": frozenset({"deployments"}),
}

_LOOKED_AT: set[str] = set()


class Watched(Snapshot, frozen=True):
    """A snapshot that notes which of its lists are looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in RESOURCES:
            _LOOKED_AT.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("line", sorted(static_rules()))
def test_rules_read_only_what_their_line_reads(line: str) -> None:
    """From `reads` in the catalogue follow requests and rights: a rule that looks at anything else sees nothing there."""
    base = load(DATA / "shop.json")
    watched = Watched(**{name: getattr(base, name) for name in base.__struct_fields__})
    _LOOKED_AT.clear()
    rule_of(line)(watched)
    named = {*catalogue.load().line(line).reads, *ALWAYS, *ANYWAY, *BESIDE.get(line, ())}
    assert sorted(_LOOKED_AT - named) == []
