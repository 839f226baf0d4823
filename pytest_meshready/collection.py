"""How the shipped checklist joins a pytest session, and how a team's class takes the place of a shipped one.

The packaged modules are children of the Session through a collector of our own, with node ids that do not depend on where
the package lies: ``meshready/s04_namespace.py::TestInjectionValidation::test_exactly_one_sidecar``. Adding the package's
path to the arguments instead would lose the whole checklist, silently, wherever a virtual environment lies inside the
repository (style.md 2.1). Every decision here follows from the command line and the ini file alone, because xdist's
workers and the controller must decide the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import pytest

#: The first part of every shipped node id, and the argument that asks for the checklist beside explicit paths.
ROOT = "meshready"
PACKAGE = Path(__file__).parent / "checklist"
MODULES = "s[0-9][0-9]_*.py"
ITEM_MARK = "mesh_item"


class Checklist(pytest.Collector):
    """The shipped checklist: one module for each section."""

    def collect(self) -> Iterator[pytest.Collector]:
        """The modules in the order of the sections."""
        for path in sorted(PACKAGE.glob(MODULES)):
            yield ChecklistModule.from_parent(self, path=path, nodeid=f"{ROOT}/{path.name}")


class _OwnNames:
    """The shipped modules keep their own naming rules: a user's ``python_functions`` must not lose them (style.md 2.3.2)."""

    def classnamefilter(self, name: str) -> bool:
        """Shipped classes begin with ``Test``."""
        return name.startswith("Test")

    def funcnamefilter(self, name: str) -> bool:
        """Shipped tests begin with ``test_``."""
        return name.startswith("test_")


class ChecklistModule(_OwnNames, pytest.Module):
    """One section."""


class ChecklistClass(_OwnNames, pytest.Class):
    """One subsection."""


class Collection:
    """Collection hooks; registered only when a run is asked for.

    Args:
        wanted: whether the checklist is collected at all (explicit paths leave it out).
        node_ids: shipped node ids from the command line; only these run, when there are any.
        items: ids of the selected lines, None for all.
        known: ids of every line, with the team's own.
    """

    def __init__(self, *, wanted: bool, node_ids: tuple[str, ...], items: frozenset[str] | None, known: frozenset[str]) -> None:
        self.wanted = wanted
        self.node_ids = node_ids
        self.items = items
        self.known = known
        self.replaced: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the checklist to the session, after the user's own tests; undo what ``--lf`` does to it."""
        report = yield
        if isinstance(collector, pytest.Session) and self.wanted:
            checklist = Checklist.from_parent(collector, name=ROOT, path=PACKAGE, nodeid=ROOT)
            report.result = [*report.result, checklist]
        elif isinstance(collector, ChecklistModule) and report.passed and not report.result:
            # --lf empties modules that lie outside the rootdir as soon as a test of the user's failed too (style.md 2.3.5)
            report.result = list(collector.collect())
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Module | pytest.Class, name: str, obj: object) -> pytest.Class | None:
        """Classes of shipped modules follow the shipped naming rules."""
        if isinstance(collector, ChecklistModule) and isinstance(obj, type) and collector.istestclass(obj, name):
            return ChecklistClass.from_parent(collector, name=name, obj=obj)
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Let a team's classes replace shipped ones, then leave out the lines that were not selected.

        First of all hooks, so that an override replaces its original even where ``-k`` deselects the override.
        """
        for item in items:
            _restore_marks(item)
            _label(item, self.known)
        replaced, self.replaced = _replaced(items)
        dropped = [item for item in items if _class_of(item) in replaced and is_shipped(item)]
        gone = set(dropped)
        dropped += [item for item in items if item not in gone and not self._selected(item)]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            gone = set(dropped)
            items[:] = [item for item in items if item not in gone]

    def _selected(self, item: pytest.Item) -> bool:
        lines = line_ids(item)
        if is_shipped(item) and self.node_ids and not any(_below(item.nodeid, node_id) for node_id in self.node_ids):
            return False
        return not lines or self.items is None or not self.items.isdisjoint(lines)

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say which shipped classes a team's classes replaced."""
        return [f"meshready: {note}" for note in self.replaced]


def shipped_arguments(args: Iterable[str], invocation_dir: Path) -> tuple[list[str], tuple[str, ...]]:
    """Split pytest's arguments into the user's and the shipped node ids, as pytest printed them.

    ``meshready`` alone asks for the whole checklist and comes back as an id too. An existing file of that name wins.
    """
    users: list[str] = []
    shipped: list[str] = []
    for arg in args:
        path = arg.partition("::")[0]
        ours = path == ROOT or path.startswith(f"{ROOT}/")
        (shipped if ours and not (invocation_dir / path).exists() else users).append(arg)
    return users, tuple(shipped)


def is_shipped(item: pytest.Item) -> bool:
    """Whether the item was collected from the package, not from a team's file."""
    return any(isinstance(node, ChecklistModule) for node in item.listchain())


def line_ids(item: pytest.Item) -> tuple[str, ...]:
    """The lines that this test decides, or helps to decide: the ids in its ``mesh_item`` marks, sorted in their order."""
    return tuple(dict.fromkeys(str(line) for mark in item.iter_markers(ITEM_MARK) for line in mark.args))


def _label(item: pytest.Item, known: frozenset[str]) -> None:
    """Check the item's marks and make its lines known to JUnit, to ``-k`` and to whoever reads properties.

    Raises:
        pytest.UsageError: for a mark that names no line; an unchecked one ended in an INTERNALERROR (style.md 2.3.12).
    """
    for mark in item.iter_markers(ITEM_MARK):
        where = f"{item.location[0]}:{(item.location[1] or 0) + 1} ({item.name})"
        if not mark.args or not all(isinstance(line, str) for line in mark.args) or not set(mark.kwargs) <= {"part"}:
            raise pytest.UsageError(
                f'{where}: mesh_item takes the ids of lines as text, such as mesh_item("4.2.1") or mesh_item("4.2.1", part="live"); '
                f"it was given {_arguments(mark)}. See: meshready explain"
            )
        unknown = [line for line in mark.args if line not in known]
        if unknown:
            raise pytest.UsageError(
                f"{where}: mesh_item({unknown[0]!r}) names no line of the checklist and no [[item]] of meshready.toml; "
                "see: meshready explain"
            )
        part = mark.kwargs.get("part")
        if part is not None and part not in PARTS:
            raise pytest.UsageError(f"{where}: mesh_item(part={part!r}) is not one of {', '.join(PARTS)}")
    for line in line_ids(item):
        item.user_properties.append((ITEM_MARK, line))
        item.extra_keyword_matches.add(line)


#: The parts that a team's test may stand for; a drill or an aggregate is decided by what was run, never by a mark.
PARTS = ("static", "live", "metrics", "attest")


def _arguments(mark: pytest.Mark) -> str:
    words = [repr(arg) for arg in mark.args] + [f"{key}={value!r}" for key, value in mark.kwargs.items()]
    return f"({', '.join(words)})"


def _restore_marks(item: pytest.Item) -> None:
    """Give a method that overrides a shipped test without repeating its mark the mark of the original."""
    if not isinstance(item, pytest.Function) or item.cls is None or item.get_closest_marker(ITEM_MARK):
        return
    for base in item.cls.__mro__[1:]:
        for mark in getattr(base.__dict__.get(item.originalname), "pytestmark", ()):
            if mark.name == ITEM_MARK:
                item.add_marker(getattr(pytest.mark, ITEM_MARK)(*mark.args, **mark.kwargs))
                return


def _replaced(items: list[pytest.Item]) -> tuple[set[type], list[str]]:
    """The shipped classes from which a class of somebody else's derives (or which it is), and a sentence for each."""
    shipped = {cls for item in items if is_shipped(item) and (cls := _class_of(item))}
    others = {cls: item for item in items if not is_shipped(item) and (cls := _class_of(item))}
    replaced: set[type] = set()
    notes = set()
    for cls, item in others.items():
        for base in shipped:
            if issubclass(cls, base):
                replaced.add(base)
                notes.add(f"{base.__name__} replaced by {item.nodeid.rpartition('::')[0]}")
    return replaced, sorted(notes)


def _class_of(item: pytest.Item) -> type | None:
    return item.cls if isinstance(item, pytest.Function) else None


def _below(nodeid: str, ancestor: str) -> bool:
    return nodeid == ancestor or nodeid.startswith((f"{ancestor}::", f"{ancestor}[", f"{ancestor}/"))
