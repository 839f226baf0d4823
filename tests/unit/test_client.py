"""The client against a real HTTP server on loopback, and kubeconfigs as people have them."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import kubeconfig
from pytest_meshready.cluster.answers import ReadError
from pytest_meshready.cluster.client import Cluster, ClusterError, connect
from pytest_meshready.waiting import Deadline, Deadlines, skipping
from tests.unit.apiserver import TAKEN, Api, Reply, Request, serving, status, write_kubeconfig

PODS = "/api/v1/namespaces/payments/pods"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as server:
        yield server


@pytest.fixture
def cluster(api: Api, tmp_path: Path) -> Cluster:
    return connect(api.kubeconfig(tmp_path), None, Deadlines(request=5))


def names(body: bytes) -> tuple[list[str], str]:
    """What the tests keep of a page."""
    page = msgspec.json.decode(body)
    return [item["metadata"]["name"] for item in page["items"]], page["metadata"]["continue"]


def pods(count: int) -> list[dict[str, Any]]:
    return [{"metadata": {"name": f"pod-{number}"}} for number in range(count)]


# --- one request ---


def test_an_answer_has_the_body_and_the_clock_of_the_cluster(api: Api, cluster: Cluster) -> None:
    """A GET returns the bytes, and the server's Date as RFC 3339."""
    api.objects["/livez"] = b"ok"
    answer = cluster.get("/livez")
    assert (answer.body, answer.status, answer.date) == (b"ok", 200, TAKEN)


def test_every_request_names_us_and_logs_in(api: Api, cluster: Cluster) -> None:
    """The User-Agent is ours, the token is the kubeconfig's, and on loopback nothing is compressed."""
    api.objects["/version"] = {"gitVersion": "v1.34.4"}
    assert cluster.get("/version", {"timeout": "5s"}).json() == {"gitVersion": "v1.34.4"}
    (request,) = api.requests
    assert request.headers["User-Agent"].startswith("pytest-meshready/")
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers.get("Accept-Encoding") in (None, "identity")
    assert request.query == {"timeout": "5s"}


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_out(api: Api, cluster: Cluster, code: int) -> None:
    """A server that is busy or broken for a while is asked again."""
    api.objects["/livez"] = b"ok"
    api.trouble = lambda _: status(code, "not now") if len(api.requests) < 4 else None
    with skipping():
        assert cluster.get("/livez").body == b"ok"
    assert len(api.requests) == 4


def test_retry_after_is_honoured(api: Api, cluster: Cluster) -> None:
    """The server says how long to wait, and that long is waited."""
    api.objects["/livez"] = b"ok"
    api.trouble = lambda _: status(429, "too many requests", retry_after="2") if len(api.requests) < 3 else None
    with skipping() as clock:
        cluster.get("/livez")
    assert clock.slept == [2.0, 2.0]


def test_retry_after_beyond_the_deadline_is_not_waited_for(api: Api, cluster: Cluster) -> None:
    """A pause longer than the deadline ends the request at once, and the sentence says so."""
    api.trouble = lambda _: status(429, "too many requests", retry_after="60")
    with skipping() as clock, pytest.raises(ReadError) as caught:
        cluster.get("/livez")
    assert clock.slept == []
    assert str(caught.value) == (
        "the API server answered GET /livez with 429: too many requests; it asks to wait 60 s, the deadline is 5 s"
    )


def test_trouble_that_stays_ends_at_the_deadline(api: Api, cluster: Cluster) -> None:
    """The error has the server's own message and tells how long it was tried."""
    api.trouble = lambda _: status(500, "etcdserver: leader changed")
    with skipping(), pytest.raises(ReadError) as caught:
        cluster.get(PODS)
    assert str(caught.value) == (
        f"the API server answered GET {PODS} with 500: etcdserver: leader changed, tried 5 times until the deadline of 5 s"
    )
    assert (caught.value.status, caught.value.lasted, caught.value.everywhere) == (500, True, False)
    assert caught.value.about("list pods in payments").startswith("the API server answered list pods in payments with 500")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (403, f"not permitted: GET {PODS} (403: pods is forbidden)"),
        (404, f"not found: GET {PODS} (404: pods is forbidden)"),
        (501, f"the API server refused: GET {PODS} (501: pods is forbidden)"),
        (302, f"the API server refused: GET {PODS} (302: pods is forbidden)"),
    ],
)
def test_a_real_answer_is_not_repeated(api: Api, cluster: Cluster, code: int, sentence: str) -> None:
    """A refusal is an answer: one request, and the server's own words."""
    api.trouble = lambda _: status(code, "pods is\n  forbidden")
    with pytest.raises(ReadError) as caught:
        cluster.get(PODS)
    assert str(caught.value) == sentence
    assert (caught.value.status, caught.value.everywhere, len(api.requests)) == (code, False, 1)


def test_refused_credentials_say_what_to_do(api: Api, cluster: Cluster, tmp_path: Path) -> None:
    """An expired token is named as such, with the command that shows it, and concerns every request."""
    api.trouble = lambda _: status(401, "Unauthorized")
    with pytest.raises(ReadError) as caught:
        cluster.get(PODS)
    assert str(caught.value) == (
        f"the API server {api.server} does not accept the credentials of context test (401: Unauthorized): they are expired or invalid, "
        f"log in again, then try: kubectl --kubeconfig={tmp_path}/config --context=test auth whoami"
    )
    assert caught.value.everywhere
    assert len(api.requests) == 1


def test_html_of_a_proxy_is_not_quoted(api: Api, cluster: Cluster) -> None:
    """Something in between that answers with a page gives the status' own words; plain text is quoted."""
    api.trouble = lambda _: (403, {"Content-Type": "text/html"}, b"<html>log in here</html>")
    with pytest.raises(ReadError, match=r"\(403: Forbidden\)"):
        cluster.get(PODS)
    api.trouble = lambda _: (404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")
    with pytest.raises(ReadError, match=r"\(404: 404 page not found\)"):
        cluster.get(PODS)


def test_a_server_that_hangs_is_left_at_the_deadline(api: Api, tmp_path: Path) -> None:
    """No answer within the deadline is an error that says so."""
    api.hangs.add(PODS)
    cluster = connect(api.kubeconfig(tmp_path), None, Deadlines(request=0.3))
    began = time.monotonic()
    with pytest.raises(ReadError) as caught:
        cluster.get(PODS)
    assert time.monotonic() - began < 3
    assert str(caught.value) == f"the API server {api.server} did not answer within 0.3 s: GET {PODS}"
    assert (caught.value.lasted, caught.value.everywhere) == (True, False)


def test_a_shorter_deadline_of_the_caller_counts(api: Api, cluster: Cluster) -> None:
    """A caller may leave less time than one request may take."""
    api.hangs.add(PODS)
    with pytest.raises(ReadError, match=r"did not answer within 0\.2 s"):
        cluster.get(PODS, deadline=Deadline(0.2))


def test_nobody_listening(tmp_path: Path) -> None:
    """A refused connection is tried until the deadline and named in the operating system's words."""
    cluster = connect(write_kubeconfig(tmp_path / "config", {"gone": "http://127.0.0.1:9"}), None, Deadlines(request=5))
    with skipping(), pytest.raises(ReadError) as caught:
        cluster.get("/livez")
    assert str(caught.value) == (
        "the API server http://127.0.0.1:9 cannot be reached (Connection refused), tried 5 times until the deadline of 5 s; "
        f"try: kubectl --kubeconfig={tmp_path}/config --context=gone cluster-info"
    )
    assert caught.value.everywhere


# --- lists ---


def test_a_list_comes_in_pages(api: Api, cluster: Cluster) -> None:
    """Two thousand objects to a request, and every object once."""
    api.lists[PODS] = pods(4201)
    kept, answer = cluster.pages(PODS, names)
    assert [len(page) for page in kept] == [2000, 2000, 201]
    assert [name for names_ in kept for name in names_] == [f"pod-{number}" for number in range(4201)]
    assert [request.query for request in api.requests] == [
        {"limit": "2000"},
        {"limit": "2000", "continue": "2000"},
        {"limit": "2000", "continue": "4000"},
    ]
    assert answer.date == TAKEN


def test_an_expired_list_is_begun_once_more(api: Api, cluster: Cluster) -> None:
    """After 410 the list starts again, and what was read before is not counted twice."""
    api.lists[PODS] = pods(3)
    api.trouble = lambda _: status(410, "The provided continue parameter is too old") if len(api.requests) == 2 else None
    kept, _ = cluster.pages(PODS, names, page=2)
    assert kept == [["pod-0", "pod-1"], ["pod-2"]]
    assert len(api.requests) == 4


def test_a_list_that_expires_again_is_given_up(api: Api, cluster: Cluster) -> None:
    """The second 410 is an error, not an endless loop."""
    api.lists[PODS] = pods(3)

    def expire(request: Request) -> Reply | None:
        return status(410, "too old") if "continue" in request.query else None

    api.trouble = expire
    with pytest.raises(ReadError, match=r"the list expired while it was read: GET .*pods \(410: too old\)"):
        cluster.pages(PODS, names, page=2)
    assert len(api.requests) == 4


# --- which cluster ---


def choose(option: Path | None = None, context: str | None = None, /, **environ: str) -> kubeconfig.Kubeconfig:
    return kubeconfig.choose(option, context, {"HOME": "/nonexistent", "PATH": os.environ["PATH"], **environ})


def test_connecting_sends_nothing_and_runs_nothing(tmp_path: Path) -> None:
    """Context and address are known before the first request and before any credential plugin ran, so they can be refused."""
    ran = tmp_path / "ran"
    plugin = script(tmp_path, f"touch {ran}; exit 1")
    path = write_kubeconfig(
        tmp_path / "config", {"prod": "https://prod.example:6443/", "test": "https://test.example:6443"}, user=exec_user(plugin)
    )
    cluster = connect(path, "test", Deadlines())
    assert (cluster.context, cluster.context_names, cluster.server) == ("test", ("prod", "test"), "https://test.example:6443")
    assert connect(path, None, Deadlines()).server == "https://prod.example:6443"
    assert not ran.exists()


def test_no_kubeconfig_at_all() -> None:
    """The sentence lists the places that were looked at."""
    with pytest.raises(ClusterError) as caught:
        choose()
    assert str(caught.value) == (
        "no kubeconfig found: KUBECONFIG is not set, ~/.kube/config does not exist, and this is not a pod with a service account; "
        "give --mesh-kubeconfig=FILE (to see what kubectl uses: kubectl config view)"
    )


def test_the_usual_place(tmp_path: Path) -> None:
    """Without option and variable, ~/.kube/config is used."""
    (tmp_path / ".kube").mkdir()
    write_kubeconfig(tmp_path / ".kube" / "config", {"home": "https://home.example"})
    assert choose(HOME=str(tmp_path)).context == "home"


def test_kubeconfig_variable_with_several_files(tmp_path: Path) -> None:
    """As kubectl merges them: the first file that names a context, or a current context, wins; missing files are skipped."""
    first = write_kubeconfig(tmp_path / "a", {"one": "https://a.example"}, current=None)
    second = write_kubeconfig(tmp_path / "b", {"two": "https://b.example", "one": "https://other.example"})
    third = write_kubeconfig(tmp_path / "c", {"three": "https://c.example"})
    chosen = choose(KUBECONFIG=os.pathsep.join(map(str, (tmp_path / "missing", first, second, third))))
    assert (chosen.context, chosen.context_names) == ("two", ("one", "two", "three"))
    assert choose(None, "one", KUBECONFIG=f"{first}{os.pathsep}{second}").server == "https://a.example"


def test_a_merged_kubeconfig_reaches_the_same_server(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen from several files is what the client then uses."""
    api.objects["/livez"] = b"ok"
    write_kubeconfig(tmp_path / "a", {"one": "http://127.0.0.1:9"}, current=None)
    write_kubeconfig(tmp_path / "b", {"two": api.server}, user={"username": "jane", "password": "doe"})
    write_kubeconfig(tmp_path / "c", {"three": "http://127.0.0.1:9"})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / name) for name in "abc"))
    assert connect(None, None, Deadlines()).get("/livez").body == b"ok"
    assert api.requests[0].headers["authorization"] == "Basic amFuZTpkb2U="


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any kubeconfig the pod's service account is used; a context has no meaning there."""
    token = tmp_path / "token"
    token.write_text("t")
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT_TOKEN", token)
    place = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    chosen = choose(**place)
    assert (chosen.context, chosen.server, chosen.kubectl) == ("in-cluster", "https://[fd00::1]:443", "kubectl")
    with pytest.raises(ClusterError, match=r"^--mesh-context=prod: there is no kubeconfig, only the service account of this pod"):
        choose(None, "prod", **place)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("contexts: [", r"^--mesh-kubeconfig=.*config is not YAML \(line \d\); wanted a kubeconfig$"),
        ("- a\n", r"config is no kubeconfig: wanted a mapping with clusters, users and contexts$"),
        ("", r"config is no kubeconfig"),
        (
            "contexts: []\n",
            r"has no current context; choose one with --mesh-context=NAME, it has none \(see: kubectl config get-contexts\)$",
        ),
        ("current-context: x\n", r"its current context 'x' does not exist, it has none; give --mesh-context=NAME$"),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]",
            r"context 'x' refers to cluster 'y', which is not defined there",
        ),
        ("current-context: x\ncontexts: [{name: x, context: null}]", r"context 'x' refers to cluster None, which is not defined there"),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]\nclusters: [{name: y, cluster: {}}]",
            r"cluster 'y' of context 'x' has no server address$",
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: y, user: z}}]\nclusters: [{name: y, cluster: {server: 'http://a'}}]",
            r"context 'x' refers to user 'z', which is not defined there \(see: kubectl config view\)$",
        ),
    ],
)
def test_a_file_that_is_no_good(tmp_path: Path, content: str, sentence: str) -> None:
    """Every mistake in a kubeconfig has its own sentence, which begins with the option."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ClusterError, match=sentence) as caught:
        choose(path)
    assert str(caught.value).startswith(f"--mesh-kubeconfig={path}")


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    """A wrong path and a path that cannot be read are told apart."""
    with pytest.raises(ClusterError, match=r"^--mesh-kubeconfig=.*/nope: there is no such file; give the path of a kubeconfig"):
        choose(tmp_path / "nope")
    with pytest.raises(ClusterError, match=r"cannot be read: Is a directory; give --mesh-kubeconfig=FILE$"):
        choose(tmp_path)
    with pytest.raises(ClusterError, match=r"^KUBECONFIG=.*/nope names no file that exists; correct it, or give --mesh-kubeconfig=FILE$"):
        choose(KUBECONFIG=str(tmp_path / "nope"))


def test_an_unknown_context_lists_the_known_ones(tmp_path: Path) -> None:
    """The user sees what can be chosen."""
    path = write_kubeconfig(tmp_path / "config", {"staging": "https://s.example", "prod": "https://p.example"})
    with pytest.raises(ClusterError) as caught:
        choose(None, "stagin", KUBECONFIG=str(path))
    assert str(caught.value) == (
        f"--mesh-context=stagin: KUBECONFIG={path} has no such context, it has staging, prod (see: kubectl config get-contexts)"
    )


# --- credential plugins ---


def script(folder: Path, body: str) -> Path:
    path = folder / "login"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def exec_user(command: Path | str, **more: str) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(command), "interactiveMode": "Never", **more}}


def credential(token: str, expires: str = "") -> str:
    content: dict[str, Any] = {"token": token, **({"expirationTimestamp": expires} if expires else {})}
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": content})


def test_a_missing_plugin_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    """The command is looked for on the PATH, and the kubeconfig's own hint is passed on."""
    path = write_kubeconfig(
        tmp_path / "config", {"eks": "https://e.example"}, user=exec_user("no-such-login", installHint="brew install\n it")
    )
    with pytest.raises(ClusterError) as caught:
        choose(path)
    assert str(caught.value) == (
        f"--mesh-kubeconfig={path}: context 'eks' logs in with the command 'no-such-login', which is not on the PATH; "
        f"install it (brew install it), then try: kubectl --kubeconfig={path} --context=eks auth whoami"
    )


def test_a_plugin_gives_the_token_and_is_asked_again_when_it_expired(api: Api, tmp_path: Path) -> None:
    """Credentials are asked for before every request, so a token that expired is renewed."""
    api.objects["/livez"] = b"ok"
    count = tmp_path / "count"
    plugin = script(
        tmp_path,
        f"echo x >> {count}\ncat <<END\n{credential('TOKEN', '2020-01-01T00:00:00Z')}\nEND".replace("TOKEN", f"t$(wc -l < {count})"),
    )
    cluster = connect(api.kubeconfig(tmp_path, exec_user(plugin)), None, Deadlines())
    cluster.get("/livez")
    first = len(count.read_text().split())
    cluster.get("/livez")
    assert len(count.read_text().split()) > first
    assert all(request.headers["authorization"].startswith("Bearer t") for request in api.requests)
    assert api.requests[0].headers["authorization"] != api.requests[1].headers["authorization"]


def test_a_plugin_that_fails_is_named_and_not_quoted(api: Api, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The exit code is told; what the plugin printed is not, because it may hold anything; nothing is sent."""
    plugin = script(tmp_path, "echo s3cret >&2; exit 3")
    cluster = connect(api.kubeconfig(tmp_path, exec_user(plugin)), None, Deadlines())
    handlers = list(logging.getLogger().handlers)
    for _ in range(2):
        with pytest.raises(ReadError) as caught:
            cluster.get("/livez")
    assert f"the command '{plugin}' of context 'test' gave no credentials (exit code 3); log in first" in str(caught.value)
    assert caught.value.everywhere
    assert "s3cret" not in str(caught.value) + "".join(capfd.readouterr())
    assert api.requests == []
    assert logging.getLogger().handlers == handlers


def test_a_plugin_that_hangs_is_left_at_the_deadline(api: Api, tmp_path: Path) -> None:
    """Logging in has a deadline of its own: half of the snapshot's."""
    plugin = script(tmp_path, "exec sleep 2")
    cluster = connect(api.kubeconfig(tmp_path, exec_user(plugin)), None, Deadlines(snapshot=0.4))
    with pytest.raises(ReadError, match=r"the credentials of context test were not there within 0\.2 s"):
        cluster.get("/livez")


def test_a_kubeconfig_that_the_client_refuses(api: Api, tmp_path: Path) -> None:
    """What only the official client notices is told in one sentence, too."""
    path = write_kubeconfig(tmp_path / "config", {"test": "https://a.example"}, user={"client-certificate": "missing.crt"})
    with pytest.raises(ReadError, match=r"context 'test' cannot be used: File does not exist: .*missing\.crt"):
        connect(path, None, Deadlines()).get("/livez")
