"""Asks ``istioctl analyze`` about each fault, for the table in the docs: ``python -m tests.cluster.peer [NAME ...]``.

``ist0101`` and the like are the files of ``tests/data/analyze``, one for each of its errors that no fault brings about.

A fault that changes pods, or takes something away, is planted for a moment. One that only adds or changes other objects is given
to istioctl as files beside the healthy shop, which is its own way to ask "what if": the API server merges them with what is there
(a dry run), and nothing is changed. Faults of the whole mesh are planted only where they are named, because others use it as well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pytest_meshready.cluster import analyze
from tests.cluster import faults
from tests.cluster.faults import HERE, SHARED, Fault

DATA = HERE.parent / "data" / "analyze"
ANSWERS = DATA / "faults.json"

#: Kinds whose pods istioctl looks at, and it takes no pods from files.
_WITH_PODS = frozenset({"Deployment", "Namespace"})
_HOST = "shop.example.com"

#: Where the files with pods are put for a moment.
_PLACE = "peer-files"


def header(fault: Fault, key: str) -> list[str]:
    """What the fault's file says under this key, a line each."""
    return re.findall(rf"^# {key}:\s*(.*)", fault.file.read_text(encoding="utf-8"), re.MULTILINE)


def objects(fault: Fault, namespace: str) -> list[dict[str, Any]]:
    text = fault.file.read_text(encoding="utf-8").replace("$NS", namespace).replace("$HOST", _HOST)
    return [document for document in yaml.safe_load_all(text) if document]


def way(fault: Fault) -> str:
    """``planted``, ``as files``, or ``not asked`` for what no cluster here can have."""
    if fault.altered or not fault.file.exists():
        return "not asked"
    pods = any(item["kind"] in _WITH_PODS for item in objects(fault, "payments"))
    return "planted" if fault.scope == "mesh" or pods or header(fault, "do") else "as files"


def said(namespace: str, *files: str) -> list[dict[str, str]]:
    """What istioctl says, with ``$NS`` for the namespace.

    Raises:
        RuntimeError: where it printed no messages.
    """
    command = ["istioctl", "analyze", "--namespace", namespace, "--output", "json", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = analyze.messages(done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    rows = [{"code": item.code, "level": item.level, "origin": item.origin, "message": item.message} for item in found]
    return [{key: re.sub(rf"\b{namespace}\b", "$NS", text) for key, text in row.items()} for row in rows]


def as_files(fault: Fault) -> list[dict[str, str]]:
    """The healthy shop, what if it had these objects."""
    given = yaml.safe_dump_all(objects(fault, "payments"))
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "--validate=false", "--field-manager=fault"]
    command += ["--dry-run=server", "--output=json", "-f", "-"]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    merged = json.loads(done.stdout)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fault.yaml"
        path.write_text(yaml.safe_dump_all(merged.get("items") or [merged]), encoding="utf-8")
        return said("payments", str(path))


def planted(fault: Fault) -> list[dict[str, str]]:
    """A copy of the shop with the fault, small where the fault can be told from that; in a namespace that no other test uses."""
    if fault.scope == "mesh":
        return _planted_in_the_mesh(fault)
    tool = [str(SHARED / "fault"), *(["--dir", str(HERE / "faults")] if fault.own else [])]
    namespace = f"peer-{fault.name}"
    where = [fault.name, "--namespace", namespace]

    def plant(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*tool, *words], capture_output=True, text=True, timeout=600, check=False)

    try:
        on = plant("on", *where, "--small")
        if on.returncode:
            plant("off", *where)
            on = plant("on", *where)
        if on.returncode:
            raise RuntimeError(on.stdout + on.stderr)
        return said(namespace)
    finally:
        plant("off", *where)


def _planted_in_the_mesh(fault: Fault) -> list[dict[str, str]]:
    """What it says then of the healthy shop and of the control plane, and did not say before."""
    places = ("payments", "istio-system")
    before = [message for place in places for message in said(place)]
    try:
        fault.plant("on")
        return [message for place in places for message in said(place) if message not in before]
    finally:
        fault.plant("off")


def files() -> dict[str, Path]:
    """The files by the code that they bring about, in small letters."""
    return {path.stem: path for path in sorted(DATA.glob("ist*.yaml"))}


def said_of(path: Path) -> list[dict[str, str]]:
    """The healthy shop, what if it had these objects; one with a pod is put beside nothing else for a moment."""
    text = path.read_text(encoding="utf-8")
    if "kind: Pod" not in text:
        return said("payments", str(path))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _PLACE, "labels": {"istio-injection": "enabled"}}}
    given = yaml.safe_dump(space) + "---\n" + text.replace("payments", _PLACE)
    try:
        subprocess.run(["kubectl", "apply", "-f", "-"], input=given, text=True, check=True, capture_output=True, timeout=60)
        return said(_PLACE)
    finally:
        subprocess.run(["kubectl", "delete", "namespace", _PLACE], check=True, capture_output=True, timeout=120)


def main(names: list[str]) -> None:
    for code, path in files().items():
        if not names or code in names:
            found = said_of(path)
            path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"{code}: {[message['code'] for message in found]}", flush=True)  # noqa: T201 - a command
    ask = {"planted": planted, "as files": as_files}
    for fault in faults.read():
        if fault.name in names or not (names or fault.scope == "mesh"):
            how = way(fault)
            what = " ".join(header(fault, "what")) if fault.file.exists() else ""
            found = ask[how](fault) if how in ask else []
            answers: dict[str, Any] = json.loads(ANSWERS.read_text(encoding="utf-8")) if ANSWERS.exists() else {}
            answers[fault.name] = {"what": what, "how": how, "messages": found}
            ANSWERS.write_text(json.dumps(dict(sorted(answers.items())), indent=1) + "\n", encoding="utf-8")
            print(f"{fault.name} ({how}): {[message['code'] for message in found]}", flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    main(sys.argv[1:])
