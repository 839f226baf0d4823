"""Writing to the API server: what may be repeated, and what its refusals mean."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.permissions import Right
from pytest_meshready.cluster.writes import CONFIG_MAP, POD, Cause, WriteError, cause_of
from pytest_meshready.waiting import skipping
from tests.unit import kubeapi
from tests.unit.apiserver import Reply, status


@pytest.fixture
def api() -> Iterator[kubeapi.Api]:
    with kubeapi.serving() as serving:
        yield serving


CM = "/api/v1/namespaces/payments/configmaps"


def config_map(name: str = "a", **labels: str) -> dict[str, Any]:
    manifest = dict(CONFIG_MAP.manifest("payments", name))
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}


SAID = [
    line.split("\t")
    for line in (Path(__file__).parents[1] / "data/refusals.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("line", SAID, ids=[f"{index}-{line[1]}" for index, line in enumerate(SAID)])
def test_causes(line: list[str]) -> None:
    """Every refusal is told apart by the server's own words, because quota, Pod Security and RBAC all answer 403."""
    code, cause, *said = line
    assert cause_of(int(code), "".join(said)) is Cause(cause)


def test_already_exists_is_told_by_the_servers_word() -> None:
    """What is just being deleted does not count as being there."""
    assert cause_of(409, 'pods "a" already exists', "AlreadyExists") is Cause.EXISTS
    assert cause_of(409, 'object is being deleted: pods "a" already exists', "AlreadyExists") is Cause.CONFLICT


def test_created_and_there_already_are_both_success(api: kubeapi.Api) -> None:
    """201 gives the object, 409 AlreadyExists gives none, and neither raises."""
    made = writes.create(api.cluster(), config_map())
    assert made is not None
    assert made["metadata"]["uid"]
    assert writes.create(api.cluster(), config_map()) is None


def test_lost_answer_is_repeated(api: kubeapi.Api) -> None:
    """A creation whose answer got lost is sent again and finds its own object."""

    def lose_first(request: kubeapi.Request) -> Reply | None:
        if request.method == "POST" and not api.objects:
            api._post(request)
            return 0, {}, b""
        return None

    api.trouble = lose_first
    with skipping():
        assert writes.create(api.cluster(), config_map()) is None
    assert api.names() == ["configmaps/a"]


def test_busy_server_and_counted_quota_are_waited_for(api: kubeapi.Api) -> None:
    """429, 503, and the 409 of a quota that is being counted pass; then the object is made."""
    answers = [
        status(429, "too many requests", retry_after="1"),
        status(503, "unavailable"),
        kubeapi.conflict('Operation cannot be fulfilled on resourcequotas "q": the object has been modified'),
    ]
    api.trouble = lambda _: answers.pop(0) if answers else None
    with skipping():
        assert writes.create(api.cluster(), config_map()) is not None
    assert not answers


def test_refusal_is_not_repeated(api: kubeapi.Api) -> None:
    """A quota answers once, and the error carries the server's whole message."""
    said = "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"
    api.trouble = lambda _: kubeapi.refusal(403, f'pods "a" is forbidden: {said}', "Forbidden")
    with pytest.raises(WriteError) as caught:
        writes.create(api.cluster(), dict(POD.manifest("payments", "a")))
    assert caught.value.cause is Cause.QUOTA
    assert caught.value.said.endswith(said)
    assert len(api.requests) == 1


def test_long_messages_are_kept_whole(api: kubeapi.Api) -> None:
    """The part that tells the cause may stand far behind in Pod Security's message."""
    api.trouble = lambda _: kubeapi.refusal(403, f'pods "a" is forbidden: violates PodSecurity "restricted:latest": {"x" * 900} end', "")
    with pytest.raises(WriteError) as caught:
        writes.create(api.cluster(), dict(POD.manifest("payments", "a")))
    assert caught.value.said.endswith("x end")


def test_update_needs_the_version_that_was_read(api: kubeapi.Api) -> None:
    """Somebody else's change in between is a conflict and not overwritten."""
    cluster = api.cluster()
    made = writes.create(cluster, config_map())
    assert made is not None
    mine = {**config_map(), "metadata": made["metadata"], "data": {"a": "1"}}
    changed = writes.update(cluster, mine)
    assert changed["data"] == {"a": "1"}
    with pytest.raises(WriteError) as caught:
        writes.update(cluster, mine)
    assert caught.value.cause is Cause.CONFLICT


def test_patch_changes_only_what_it_names(api: kubeapi.Api) -> None:
    """A merge patch leaves the other labels as they are."""
    writes.create(api.cluster(), config_map(team="payments"))
    patched = writes.patch(api.cluster(), config_map(), {"metadata": {"labels": {"more": "1"}}})
    assert patched["metadata"]["labels"] == {"team": "payments", "more": "1"}


def test_delete_says_whether_it_was_there(api: kubeapi.Api) -> None:
    """Deleting twice is no error; what it owned goes in the background."""
    cluster = api.cluster()
    writes.create(cluster, config_map())
    assert writes.delete(cluster, config_map()) is True
    assert writes.delete(cluster, config_map()) is False
    assert api.requests[-1].content["propagationPolicy"] == "Background"


def test_delete_only_what_was_seen(api: kubeapi.Api) -> None:
    """With ``unchanged`` an object that somebody has touched since stays."""
    cluster = api.cluster()
    seen = writes.create(cluster, config_map())
    assert seen is not None
    api.put(f"{CM}/a", seen | {"data": {"touched": "yes"}})  # type: ignore[operator]
    with pytest.raises(WriteError) as caught:
        writes.delete(cluster, {**config_map(), **seen}, unchanged=True)
    assert caught.value.cause is Cause.CONFLICT
    assert api.names() == ["configmaps/a"]


def test_listed_by_label(api: kubeapi.Api) -> None:
    """Only what carries the label is listed, with the kind that a list's items lack."""
    for name, run in (("a", "1"), ("b", "2")):
        writes.create(api.cluster(), config_map(name, **{"meshready.io/run": run}))
    found = writes.listed(api.cluster(), CONFIG_MAP, "payments", "meshready.io/run=2")
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [("ConfigMap", "b")]


def test_kind_that_is_not_installed_has_no_objects(api: kubeapi.Api) -> None:
    """Without Istio's definitions there are no AuthorizationPolicies to look for."""
    api.trouble = lambda _: (404, {"Content-Type": "text/plain"}, b"404 page not found\n")
    assert writes.listed(api.cluster(), writes.AUTHORIZATION_POLICY, "payments", "a=b") == []


def test_reviews_ask_for_all_and_try_nothing(api: kubeapi.Api) -> None:
    """Each right is asked for once; a right limited to names is asked for by name."""
    api.denied = {"get pods/exec"}
    create = Right(namespace="payments", resource="pods", verb="create")
    to_exec = Right(namespace="payments", resource="pods/exec", verb="get")
    lease = Right(namespace="payments", group="coordination.k8s.io", resource="leases", verb="get", names=("meshready",))
    assert writes.reviews(api.cluster(), [create, to_exec, lease, create]) == {create: True, to_exec: False, lease: True}
    assert {request.path for request in api.requests} == {kubeapi.REVIEWS}
    assert sorted(request.content["spec"]["resourceAttributes"]["name"] for request in api.requests) == ["", "", "meshready"]


def test_review_that_nobody_answers_is_unknown(api: kubeapi.Api) -> None:
    """Where access reviews are not permitted, nothing is claimed about the right."""
    api.trouble = lambda _: kubeapi.refusal(403, 'User "bob" cannot create resource "selfsubjectaccessreviews"', "Forbidden")
    right = Right(namespace="payments", resource="pods", verb="create")
    assert writes.reviews(api.cluster(), [right]) == {right: None}


def test_answer_that_is_no_json_is_no_object(api: kubeapi.Api) -> None:
    """A login page of a proxy in between is not taken for a created object."""
    api.trouble = lambda _: (200, {"Content-Type": "text/html"}, b"<html>log in</html>")
    with pytest.raises(WriteError, match="no JSON object"):
        writes.create(api.cluster(), config_map())


def test_only_known_kinds_are_created() -> None:
    """A kind that the clean-up would not look for cannot be created at all."""
    with pytest.raises(ValueError, match="kind 'Secret'"):
        writes.path_of({"kind": "Secret", "metadata": {"namespace": "payments", "name": "a"}})


def test_at_once_keeps_the_order_and_the_errors() -> None:
    """Twenty calls at the same time give twenty answers in their order; one that raises does not hurt the others."""

    def call(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    answers = writes.at_once([functools.partial(call, number) for number in range(20)])
    assert [answer for answer in answers if isinstance(answer, int)] == [number for number in range(20) if number != 7]
    assert str(answers[7]) == "seven"
