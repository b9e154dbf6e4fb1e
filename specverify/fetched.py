"""Checkpoints that `specverify fetch` laid down: where they are, and that none is opened before all of it is there.

A folder of it holds, from the beginning, a file that says that it is not finished. When every file is there and was
checked, another one takes its place that lists them with their sizes and hashes. It is written last, and whole.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from specverify import checksum
from specverify.errors import InputError
from specverify.files import write_atomically

VARIABLE = "SPECVERIFY_CHECKPOINTS"
"""Names the folder of all checkpoints, where it is not the usual one."""
MARKER, BEGUN = "specverify-checkpoint.json", ".specverify-unfinished.json"
SCHEMA = "specverify-checkpoint"
READ = (".json", ".txt", ".model", ".safetensors", ".pt", ".pth", ".ckpt")
"""Endings of files that adapters read."""
BESIDE = ("image-model.json", "processor")
"""Settings, whose values may name files elsewhere; a folder beside a model's, where one of these has its tokenizer."""
_ID = re.compile(r"(?P<id>[\w][\w.-]*/[\w][\w.-]*)(@(?P<commit>[0-9a-f]{7,40}))?", re.ASCII)


@dataclass(frozen=True)
class File:
    """A file of a checkpoint, as it was checked.

    Attributes:
        path: within the folder.
        size: in bytes.
        sha256: of its content, in hexadecimal digits.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds.

    Attributes:
        folder: it.
        id: of the repository that it comes from, as "org/name".
        commit: of the repository, 40 hexadecimal digits.
        licence: as the repository states it.
        adapter: what reads it.
        inside: the folder within, as "vision_language_encoder", in which the adapter reads; none if empty.
        time: when it was finished, in seconds since 1970; when it was begun, if it is not finished.
        files: all of them; none before it is finished.
    """

    folder: Path
    id: str
    commit: str
    licence: str
    adapter: str
    inside: str
    time: float
    files: tuple[File, ...] = ()

    @property
    def name(self) -> str:
        """What opens it and nothing else."""
        return f"{self.id}@{self.commit}"

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def remedy(self) -> str:
        """The command that goes on with it, or mends it."""
        there = place(self.id, self.commit)
        to = "" if self.folder == there else f" --to {self.folder}"
        return f"specverify fetch {self.id} --revision {self.commit}{to}"


def root() -> Path:
    """The folder of all checkpoints."""
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "specverify" / "checkpoints"


def place(id: str, commit: str) -> Path:
    """The folder of a checkpoint, unless it was put elsewhere."""
    return root() / f"{id}@{commit}"


def split(name: str) -> tuple[str, str] | None:
    """The id and the (beginning of a) commit of "org/name" or "org/name@commit"; None for what is no id."""
    found = _ID.fullmatch(name)
    return None if found is None else (found["id"], found["commit"] or "")


def find(name: str | Path) -> Checkpoint | None:
    """The newest finished checkpoint of an id, or that of "org/name@commit"; None where nothing was fetched.

    Raises:
        InputError: there are unfinished or damaged ones alone.
    """
    if (asked := split(str(name))) is None:
        return None
    id, commit = asked
    folders = [folder for folder in root().glob(f"{id}@{commit}*") if folder.is_dir()]
    found = [checkpoint for folder in folders if (checkpoint := read(folder)) is not None]
    if not found:
        for folder in folders:
            settled(folder)
    return max(found, key=lambda one: one.time, default=None)


def pinned(name: str) -> str:
    """The same with the commit, so that a record says which checkpoint it was; anything but an id as it is."""
    found = None if Path(name).is_dir() else find(name)
    return name if found is None else found.name


def everyone() -> list[tuple[Checkpoint, bool]]:
    """All checkpoints by their names, and whether each is finished; folders that cannot be read are left out."""
    found = []
    for folder in root().glob("*/*@*"):
        for name in (MARKER, BEGUN):
            with contextlib.suppress(InputError):
                if (checkpoint := read(folder, name)) is not None:
                    found.append((checkpoint, name == MARKER))
                    break
    return sorted(found, key=lambda one: one[0].name)


def read(folder: Path, name: str = MARKER) -> Checkpoint | None:
    """What a folder says of itself; None if it was not fetched, or is not finished.

    Args:
        folder: any.
        name: `BEGUN` for one that is not finished.

    Raises:
        InputError: what it says was changed or is of another version.
    """
    path, remedy = folder / name, f"delete {folder}, and fetch the checkpoint again (specverify fetch ID)"
    try:
        written = json.loads(path.read_bytes())
        content = checksum.opened(written, str(path), remedy)
        if checksum.KEY not in written:
            raise ValueError("it has no checksum")
        if (content.pop("schema"), content.pop("version")) != (SCHEMA, 1):
            raise ValueError("another version")
        files = tuple(File(**file) for file in content.pop("files"))
        return Checkpoint(folder=folder, files=files, **content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except InputError:  # which is a ValueError
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error!r}); {remedy}") from None


def digest(model: str) -> str:
    """Of all that is read of a folder, or of a checkpoint that was fetched; empty for what is neither.

    Args:
        model: what `realmodels.models.open_model` opens.
    """
    known = None if not model or Path(model).is_dir() else find(model)
    sums = {} if known is None else {known.folder / file.path: file.sha256 for file in known.files}
    found = hashlib.sha256()
    files = stamps(model)
    for path, size, written in files:
        old = known is not None and written <= known.time * 1e9  # since it was checked
        found.update(f"{path.name} {sums[path] if old and path in sums else _sha256(path, size, written)}\n".encode())
    return found.hexdigest() if files else ""


def stamps(model: str) -> tuple[tuple[Path, int, int], ...]:
    """What is read of a folder, or of a checkpoint that was fetched: files, their sizes, and when they were written."""
    known = None if not model or Path(model).is_dir() else find(model)
    if not model or (known is None and not Path(model).is_dir()):
        return ()
    folder = settled(Path(os.path.abspath(model)) if known is None else known.folder)
    each = [(path, path.stat()) for path in sorted(set(_files(folder)))]
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in each)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, written: int) -> str:
    """Of a file as it is since it was written."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """What is read of a folder, of the one beside it, and of others that its settings name."""
    for place in (folder, folder.parent / BESIDE[1]):
        yield from (
            path
            for path in place.glob("*")
            if path.is_file() and path.suffix in READ and path.name not in (MARKER, BEGUN)
        )
    settings = folder / BESIDE[0]
    if settings.is_file():
        try:
            named = json.loads(settings.read_bytes())
        except ValueError:
            return  # which whoever opens it is told
        for value in named.values() if isinstance(named, dict) else ():
            with contextlib.suppress(OSError, ValueError):  # what is no path, such as a prompt
                if isinstance(value, str) and (path := folder / value).is_file():
                    yield path


def begin(checkpoint: Checkpoint) -> None:
    """Say in its folder that it is not finished: nothing opens it from now on."""
    _write(checkpoint, BEGUN)
    (checkpoint.folder / MARKER).unlink(missing_ok=True)


def end(checkpoint: Checkpoint) -> None:
    """Say that it is finished."""
    _write(checkpoint, MARKER)
    (checkpoint.folder / BEGUN).unlink(missing_ok=True)


def settled(folder: Path) -> Path:
    """The folder in which an adapter reads: for what was not fetched, the same.

    Sizes are compared, which takes no time; hashes were when it was fetched.

    Raises:
        InputError: it is not finished, or files are missing or of other sizes.
    """
    whole = Path(os.path.abspath(folder))
    checkpoint = read(whole) or read(whole, BEGUN)
    if checkpoint is None:
        above = read(whole.parent) or read(whole.parent, BEGUN)
        if above is None or above.inside != whole.name:
            return folder
        checkpoint = above
    if not checkpoint.files:
        raise InputError(
            f"{checkpoint.folder} is not finished: {checkpoint.id} was not fetched to its end; {checkpoint.remedy} "
            "goes on"
        )
    for file in checkpoint.files:
        path = checkpoint.folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            raise InputError(
                f"{path} is {'missing' if size is None else f'{size:,} bytes'}, and {file.size:,} bytes were fetched; "
                f"{checkpoint.remedy} mends it"
            )
    return folder / checkpoint.inside if checkpoint.folder == whole else folder


def _write(checkpoint: Checkpoint, name: str) -> None:
    content = {key: value for key, value in asdict(checkpoint).items() if key != "folder"}
    sealed = checksum.sealed({"schema": SCHEMA, "version": 1, **content})
    write_atomically(
        checkpoint.folder / name, (json.dumps(sealed, indent=1) + "\n").encode(), "make room, or give another --to"
    )
