"""A first look at a reference: does it name anything? Nothing is run, and nothing that is slow to import is needed.

What is found here wrong is wrong. What only running the module could tell (names that it makes as it goes) is left to
`resolve.py`, in the subject's own process.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from specverify.catalogue import near
from specverify.errors import InputError
from specverify.subjects.resolve import GROUP, TRACES, named_file

_MADE_AS_IT_GOES = ("__getattr__", "__path__", "exec", "globals", "locals", "modules", "setattr", "vars")
"""Names whose use in a module means that what it holds cannot be read off its text."""

_WORD = re.compile(r'"([a-z][a-z0-9]*(?:-[a-z0-9.]+)*)"')


def check(reference: str, folder: Path | None = None) -> None:
    """Raise InputError if a reference names nothing, as far as can be told without running anything.

    Args:
        reference: as for `resolve.resolve`.
        folder: the current folder of the process that will resolve it; by default this one's.
    """
    folder = folder or Path.cwd()
    where, _, attribute = reference.rpartition(":")
    if not where:
        path = folder / reference
        if path.suffix in TRACES and not path.is_file():
            raise InputError(f"{reference}: no such file{_beside(path)}")
        if path.suffix == ".py" or (path.is_file() and path.suffix not in TRACES):
            raise InputError(named_file(reference, path))
        if reference and path.is_dir():
            raise InputError(f"{reference} is a folder; name an object in a file of it: {path / 'FILE.py'}:OBJECT")
        if path.suffix not in TRACES:
            _check_name(reference)
        return
    if not attribute:
        raise InputError(f"{reference!r} names no object; write {where}:OBJECT")
    found = source(reference, folder)
    first = attribute.split(".")[0]
    names = None if found is None else _names(found)
    if found is None or names is None or first in names or first.startswith("__") or _is_submodule(found, first):
        return
    brought = set() if found.name == "__init__.py" else set(_brought(found))
    public = sorted(name for name in names - brought if not name.startswith("_"))
    raise InputError(f"{where} has no {first!r}; {near(first, public, f'{where} holds', 20)}")


def _check_name(name: str) -> None:
    """Raise InputError for what is no plug-in, and no word in the files that name decoders and known-wrong decoders."""
    top = Path(__file__).parents[1]
    files = [top / "decoders" / "registry.py", *top.glob("defects/*.py")]
    known = {word for file in files for word in _WORD.findall(file.read_text(encoding="utf-8"))}
    known |= {entry.name for entry in metadata.entry_points(group=GROUP)}
    if files and name not in known:
        hint = near(name, sorted(known), "").strip()
        raise InputError(
            f"{name!r} is no plug-in and no decoder; {hint if hint.startswith('did') else 'see `specverify list`.'} "
            "Other subjects are named PKG.MOD:OBJECT"
        )


def source(reference: str, folder: Path) -> Path | None:
    """The file that defines the object of a reference; None if that cannot be told, or is no Python source.

    Raises:
        InputError: there is no such file or module.
    """
    where, _, _ = reference.rpartition(":")
    if not where:
        return None
    if where.endswith(".py"):
        path = folder / where
        if not path.is_file():
            raise InputError(f"{where}: no such file{_beside(path)}")
        return path
    if not all(part.isidentifier() for part in where.split(".")):
        raise InputError(f"{reference!r} is no reference; write PKG.MOD:OBJECT or path/to/file.py:OBJECT")
    spec = _module(where, folder)
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _module(name: str, folder: Path) -> ModuleSpec | None:
    """Where a module lies; None if only importing its parents could tell."""
    parts = name.split(".")
    missing = f"in {folder} or among the installed packages; a file is named by its path: path/to/file.py:OBJECT"
    spec = PathFinder.find_spec(parts[0], [str(folder)])
    try:
        spec = spec or importlib.util.find_spec(parts[0])
    except ValueError:  # of a module that was put together by hand
        return None
    if spec is None:
        raise InputError(f"no module named {parts[0]!r} {missing}")
    for number in range(1, len(parts)):
        places, inside = spec.submodule_search_locations, ".".join(parts[: number + 1])
        if places is None or (spec.origin is not None and _names(Path(spec.origin)) is None):
            return None
        spec = PathFinder.find_spec(inside, places)
        if spec is None:
            raise InputError(f"no module named {inside!r} {missing}")
    return spec


def _names(path: Path) -> set[str] | None:
    """The names that a module holds; None if its text does not tell."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # importing it will say what is wrong
    if any(_runs(node) for node in tree.body):
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            if (node.id if isinstance(node, ast.Name) else node.attr) in _MADE_AS_IT_GOES:
                return None
        elif isinstance(node, ast.FunctionDef):
            if node.name in _MADE_AS_IT_GOES:
                return None
        elif isinstance(node, ast.ImportFrom):
            if any(alias.name == "*" for alias in node.names):
                return None
        elif isinstance(node, ast.Global):
            found |= set(node.names)
    return found | {name for node in tree.body for name in _bound(node)}


def _brought(path: Path) -> Iterator[str]:
    """The names that a module only imports, none of which is meant by a name that it has not."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _bound(node)


def _runs(node: ast.stmt) -> bool:
    """Whether a statement of a module may end its import before the names below are bound."""
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement of a module binds there; those within a function or class are its own."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name is not None:
        yield node.name
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _is_submodule(package: Path, name: str) -> bool:
    return package.name == "__init__.py" and any((package.parent / each).exists() for each in (name, f"{name}.py"))


def _beside(path: Path) -> str:
    """What of that kind lies beside a file that is not there, or else the folder that is not there."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    there = sorted(other.name for other in path.parent.iterdir() if other.suffix == path.suffix)
    if not there:
        return f" in {path.parent}, which holds no {path.suffix} file"
    return f" in {path.parent}; {near(path.name, there, 'there is', 20)}"
