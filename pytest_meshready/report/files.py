"""Writes the report's files: readiness.json, readiness.md, readiness.html."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pytest_meshready.report import html, markdown
from pytest_meshready.report.model import Readiness, dumps

JSON, MARKDOWN, HTML = "readiness.json", "readiness.md", "readiness.html"


class ReportError(Exception):
    """The report could not be written; the message is one sentence for the user."""


def write(readiness: Readiness, directory: Path | str) -> tuple[Path, ...]:
    """Write all files of the report and return their paths; an older report is replaced file by file, never half.

    Raises:
        ReportError: if the directory cannot be made or written.
    """
    folder = Path(directory)
    contents = {JSON: dumps(readiness), MARKDOWN: markdown.render(readiness).encode(), HTML: html.render(readiness).encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _replace(folder / name, content)
    except OSError as error:
        why = error.strerror or str(error)
        raise ReportError(f"the report cannot be written to {folder}: {why}; give another directory with --mesh-report=DIR") from error
    return tuple(folder / name for name in contents)


def _replace(path: Path, content: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _umask() -> int:
    """The process's mask, which temporary files ignore; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
