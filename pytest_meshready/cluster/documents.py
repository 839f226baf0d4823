"""Kubernetes objects in YAML files, with the place of each: what ``kubectl apply -f`` would read, without a cluster.

Files are looked through as a person would: hidden ones are left out, and so is whatever is no Kubernetes object (Helm values,
pipelines, ``package.json``). What would be read wrongly is refused instead: templates that Helm has not rendered, and folders
that kustomize builds. No sentence here quotes what stands in a file, beside names.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pytest_meshready.cluster.meshconfig import plain

#: The source that is read from standard input, and the name of its file in findings.
STDIN = "-"
STDIN_NAME = "stdin"

_SUFFIXES = (".yaml", ".yml", ".json")

#: Files that tell that their folder has to be built first, and the command that does it.
_BUILT = {
    "kustomization.yaml": "kustomize build",
    "kustomization.yml": "kustomize build",
    "Kustomization": "kustomize build",
    "Chart.yaml": "helm template",
}

_TEMPLATE = "{{"


class ManifestError(Exception):
    """Manifests that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object as it stands in a file; ``line`` is that of its first key, and counts from 1."""

    file: str
    line: int
    value: dict[str, Any]

    @property
    def place(self) -> str:
        """``deploy/orders.yaml:12``."""
        return f"{self.file}:{self.line}"

    @property
    def group(self) -> str:
        """The API group; empty for the core's."""
        version = str(self.value.get("apiVersion") or "")
        return version.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """``Deployment``."""
        return str(self.value.get("kind") or "")

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata; empty where there is none."""
        found = self.value.get("metadata")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A file: how a person calls it, and what stands in it. ``named`` tells that the user named this very file."""

    name: str
    text: str
    named: bool = False


def read(source: str, *, base: Path, stdin: Callable[[], str], wanted: Callable[[str, str], bool]) -> list[Document]:
    """The objects of a folder, a file or standard input, in the order of files and lines.

    Args:
        source: a folder, a file, or ``-``.
        base: the folder by which file names are shown, and to which ``source`` is relative.
        stdin: what reads standard input; called only for ``-``.
        wanted: tells by group and kind which objects to read; the others are left out (``List`` is always unfolded).

    Raises:
        ManifestError: with one sentence, for what cannot be read, is no YAML, or was not rendered yet.
    """
    texts = [_Text(name=STDIN_NAME, text=stdin(), named=True)] if source == STDIN else list(_texts(base / source, base))
    documents = [document for text in texts for document in _documents(text, wanted)]
    return [document for found in documents for document in _unfolded(found, wanted)]


def _texts(path: Path, base: Path) -> Iterator[_Text]:
    shown = _shown(path, base)
    if path.is_file():
        yield _Text(name=shown, text=_text(path, shown), named=True)
        return
    if not path.is_dir():
        raise ManifestError(f"there is no such file or folder: {shown}")
    files = list(_files(path, base))
    if not files:
        raise ManifestError(f"there is no file *.yaml, *.yml or *.json in {shown}")
    for file in files:
        yield _Text(name=_shown(file, base), text=_text(file, _shown(file, base)))


def _files(folder: Path, base: Path) -> Iterator[Path]:
    """The manifests below a folder, sorted; links to folders are not followed."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name in _BUILT:
                where = shlex.quote(_shown(Path(at), base))
                raise ManifestError(
                    f"{_shown(Path(at) / name, base)} tells that this folder has to be built before it means anything: "
                    f"{_BUILT[name]} {where} | pytest --mesh-manifests=-"
                )
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                yield Path(at) / name


def _shown(path: Path, base: Path) -> str:
    """A path as a person in ``base`` would type it."""
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return path.as_posix()


def _text(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{shown} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{shown} is not UTF-8 text (byte {error.start + 1})") from None


# --- YAML -------------------------------------------------------------------------------------------------------------


def _documents(text: _Text, wanted: Callable[[str, str], bool]) -> Iterator[Document]:
    """The objects of one file.

    Raises:
        ManifestError: where it is no YAML although it holds manifests, or holds templates.
    """
    import yaml

    may_hold = text.named or ("apiVersion" in text.text and "kind" in text.text)
    if not may_hold:
        return
    try:
        found = list(_parsed(text, wanted))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        as_json = _json(text)
        if as_json is None:
            raise _broken(text, error) from None
        found = [Document(file=text.name, line=1, value=as_json)]
    for document in found:
        if any(_TEMPLATE in str(document.metadata.get(key, "")) for key in ("name", "namespace")):
            raise ManifestError(_unrendered(document.place))
        yield document


def _parsed(text: _Text, wanted: Callable[[str, str], bool]) -> Iterator[Document]:
    loader = _loader()(text.text)
    try:
        while loader.check_node():
            node = loader.get_node()
            kind, version = _scalar(node, "kind"), _scalar(node, "apiVersion")
            if kind.endswith("List") or (kind and wanted(version.rpartition("/")[0], kind)):
                yield from _constructed(loader, node, text.name)
    finally:
        loader.dispose()


def _constructed(loader: Any, node: Any, file: str) -> Iterator[Document]:  # noqa: ANN401 - PyYAML has no types
    """A document; a List as its items, because each of these has a line of its own."""
    items = next((value for key, value in node.value if key.value == "items"), None)
    listed = items if _scalar(node, "kind").endswith("List") and items is not None and items.id == "sequence" else None
    for one in [node] if listed is None else listed.value:
        value = plain(loader.construct_document(one))
        if isinstance(value, dict):
            yield Document(file=file, line=one.start_mark.line + 1, value=value)


def _scalar(node: Any, name: str) -> str:  # noqa: ANN401 - PyYAML has no types
    """The text of a key of a document; empty where it has none."""
    if node.id != "mapping":
        return ""
    return next((str(value.value) for key, value in node.value if key.id == "scalar" and key.value == name and value.id == "scalar"), "")


@functools.cache
def _loader() -> Any:  # noqa: ANN401 - PyYAML has no types
    """YAML as Kubernetes reads it: dates and sexagesimal numbers are text, ``1e3`` is a number."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    left_out = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value", "int", "float")}
    kept = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in left_out]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    loader: Any = type("ManifestLoader", (base,), {"yaml_implicit_resolvers": kept})
    numbers = (
        ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    )
    for name, pattern in numbers:
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), list("-+0123456789."))
    return loader


def _json(text: _Text) -> dict[str, Any] | None:
    """The object of a file with JSON that is no YAML, as with tabs; None where it is neither."""
    try:
        value = msgspec.json.decode(text.text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _broken(text: _Text, error: Exception) -> ManifestError:
    """Why a file is no YAML: where, and if templates are the cause, what to do about it."""
    mark = getattr(error, "problem_mark", None)
    place = f"{text.name}:{mark.line + 1}" if mark else text.name
    if _TEMPLATE in text.text:
        return ManifestError(_unrendered(place))
    what = getattr(error, "problem", None) or ("it is nested too deeply" if isinstance(error, RecursionError) else "a value has no meaning")
    return ManifestError(f"{place} is not YAML: {what}")


def _unrendered(place: str) -> str:
    return f"{place} holds a template that Helm has not rendered; render it first: helm template CHART | pytest --mesh-manifests=-"


def _unfolded(document: Document, wanted: Callable[[str, str], bool]) -> Iterator[Document]:
    """The objects of a List that was in a file of JSON, or in another List; only what is wanted."""
    items = document.value.get("items")
    if document.kind.endswith("List") and isinstance(items, list):
        for item in items:
            if isinstance(item, dict):
                yield from _unfolded(Document(file=document.file, line=document.line, value=item), wanted)
    elif wanted(document.group, document.kind):
        yield document
