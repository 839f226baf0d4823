"""Writes ``docs/faults.md``: which fault is found by which line, and what istioctl says of it: ``python -m tests.cluster.table``.

Our half is ``faults.toml``, which the replays and the planted faults prove; istioctl's half is what ``python -m tests.cluster.peer``
recorded. A test keeps the page and the two together.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.cluster import faults, peer
from tests.cluster.altered import ALTERED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

_HEAD = """# Who finds which fault

Written by `python -m tests.cluster.table`; do not edit it. Each fault is one thing wrong in a namespace that is otherwise set up with
care. The lines are those that must fall for it, with a finding that names the object: in a replay of the recorded cluster
(`tests/cluster/test_faults.py`), or, where the line is in italics, by what probes see in a live run. Beside it stands what
`istioctl analyze` 1.31 says of the same: {planted} faults were planted, {files} were given to it as files beside the healthy shop, and
about {unasked} it was not asked: they change the whole mesh, or no cluster here can have them.

Of the {asked} faults that it was asked about it calls {errors} an error, and {words} something less. Each error of istioctl is found by
a rule of ours about the same object; `tests/unit/test_floor.py` proves it for each of its error codes that is about a running mesh
(IST0106, what Istio's validation refuses, for what is usually wrong: `pytest_meshready/istio/validation.py`).

| fault | what is wrong | lines that find it | `istioctl analyze` says |
| --- | --- | --- | --- |
"""


def text() -> str:
    """The page."""
    answers: dict[str, Any] = json.loads(peer.ANSWERS.read_text(encoding="utf-8"))
    table = sorted(faults.read(), key=lambda fault: fault.name)
    told = {fault.name: answers.get(fault.name, {"what": "", "how": "not asked", "messages": []}) for fault in table}
    ways = Counter(answer["how"] for answer in told.values())
    worst = Counter(_worst(answer["messages"]) for answer in told.values())
    head = _HEAD.format(
        planted=ways["planted"],
        files=ways["as files"],
        unasked=ways["not asked"],
        asked=len(table) - ways["not asked"],
        errors=worst["Error"],
        words=worst["Warning"] + worst["Info"],
    )
    cells = ((fault.name, _what(fault, told[fault.name]), _lines(fault), _said(told[fault.name])) for fault in table)
    return head + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _worst(messages: list[dict[str, str]]) -> str:
    levels = {message["level"] for message in messages}
    return next((level for level in ("Error", "Warning", "Info") if level in levels), "")


def _what(fault: faults.Fault, answer: dict[str, Any]) -> str:
    """What the fault's file says first, or how the healthy snapshot is altered."""
    if fault.altered:
        text = f"{ALTERED[fault.name].__doc__} (altered snapshot)"
    else:
        text = " ".join(peer.header(fault, "what")) if fault.file.exists() else str(answer["what"])
    return " ".join(text.split()).replace("|", "\\|")


def _lines(fault: faults.Fault) -> str:
    words = {line: line for line in fault.lines} | {line: f"*{line}*" for line in fault.live if line not in fault.lines}
    return ", ".join(words[line] for line in sorted(words, key=lambda line: [int(number) for number in re.findall(r"\d+", line)]))


def _said(answer: dict[str, Any]) -> str:
    if answer["how"] == "not asked":
        return "not asked"
    seen = Counter((message["code"], message["level"].lower()) for message in answer["messages"])
    words = [f"{code} ({level}{f', {number} times' if number > 1 else ''})" for (code, level), number in sorted(seen.items())]
    return ", ".join(words) or "nothing"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
