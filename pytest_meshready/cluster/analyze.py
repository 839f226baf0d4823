"""Runs ``istioctl analyze``, where the program is on this machine, and gives back what it printed.

It reads the cluster with the same kubeconfig and changes nothing, but it lists more than a run of ours does, Secrets of all
namespaces among it. Its exit code is not trusted: with ``-o json`` it is 0 in any case (istio/istio#35054).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import msgspec

from pytest_meshready.cluster.snapshot import AnalysisMessage, IstioctlAnalysis, Snapshot

PROGRAM = "istioctl"

#: Seconds for one run; istioctl itself gives up after 30.
SECONDS = 40.0

#: How much of its last words is kept.
_LONGEST = 200


def installed() -> str:
    """The path of istioctl; empty where it is not on the PATH."""
    return shutil.which(PROGRAM) or ""


def analyze(
    namespace: str,
    *,
    istio_namespace: str,
    revision: str = "",
    kubeconfig: Path | None = None,
    context: str = "",
    program: str = PROGRAM,
    seconds: float = SECONDS,
) -> IstioctlAnalysis:
    """Run it for one namespace; never raises for what the program does.

    Args:
        namespace: to analyze; the caller knows that it exists, because istioctl says nothing of one that does not.
        istio_namespace: of the control plane.
        revision: of the control plane; empty for the default one.
        kubeconfig: the file to use, None for the program's own choice.
        context: of the kubeconfig; empty for its current one.
        program: what to run.
        seconds: after which it is ended.
    """
    command = [program, "analyze", "--namespace", namespace, "--istioNamespace", istio_namespace, "--output", "json"]
    command += ["--revision", revision] if revision not in ("", "default") else []
    command += ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    command += ["--context", context] if context else []
    try:
        done = subprocess.run(  # noqa: S603 - the program that the user installed, with arguments of ours
            command, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return IstioctlAnalysis(problem=f"{PROGRAM} analyze did not end within {seconds:g} s")
    except OSError as error:
        return IstioctlAnalysis(problem=f"{PROGRAM} could not be run: {error.strerror or type(error).__name__}")
    found = messages(done.stdout)
    if found is None:
        return IstioctlAnalysis(problem=f"{PROGRAM} analyze printed no messages (exit code {done.returncode}): {_last_line(done.stderr)}")
    return IstioctlAnalysis(messages=found)


def messages(text: str) -> tuple[AnalysisMessage, ...] | None:
    """The array in what it printed, before which there may be lines of its log; None where there is none.

    Entries that are no messages are passed over.
    """
    decoder = json.JSONDecoder()
    position = 0
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            try:
                found, _ = decoder.raw_decode(text, position + len(line) - len(line.lstrip()))
            except ValueError:
                found = None
            if isinstance(found, list):
                return tuple(made for item in found if (made := _message(item)) is not None)
        position += len(line)
    return None


def _message(item: object) -> AnalysisMessage | None:
    try:
        made = msgspec.convert(item, AnalysisMessage, strict=False)
    except msgspec.ValidationError:
        return None
    return made if made.code and made.message else None


def beside(snapshot: Snapshot, *, kubeconfig: Path | None = None, context: str = "", seconds: float = SECONDS) -> Snapshot:
    """The snapshot of a live cluster with what istioctl says of it; the same one where istioctl is not installed.

    Where a list was refused to us istioctl is not run: it would wait for what it may not list, or take it for missing.
    """
    program = installed()
    if not program:
        return snapshot
    refused = next((refusal for refusal in snapshot.refusals if not refusal.absent), None)
    if refused is not None:
        said = IstioctlAnalysis(problem=f"{PROGRAM} analyze was not run, because it needs rights that are missing ({refused.resource})")
    else:
        plane = snapshot.control_plane
        said = analyze(
            snapshot.namespace,
            istio_namespace=snapshot.istio_namespace,
            revision=plane.revision if plane else "",
            kubeconfig=kubeconfig,
            context=context,
            program=program,
            seconds=seconds,
        )
    return msgspec.structs.replace(snapshot, istioctl=said)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else "it said nothing"
