"""A study: a list of named cells, carried out side by side, each result kept in a file as it comes, and continued.

    FOLDER/setting.sha256    what the results there were worked out with: a folder belongs to one setting
    FOLDER/cells/ID.json     one result each, whole, with a checksum
    FOLDER/RECORD            what the study makes of them, when all are there or the work is interrupted

A result depends on its cell alone, so the work may be split in any way: over processes, over an executor of the user's
(`pool.share_out`), over shards on several machines that share the folder, over as many beginnings as it takes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rich.console import Console

from specverify import checksum, deadline, files, pool
from specverify.errors import InputError, SpecverifyError, Unfinished, number_of

CELLS = "cells"
"""The folder of the results, in that of the study."""
MARK = "setting.sha256"


class Named(Protocol):
    """A cell: its id names its file, and is what its seed derives from."""

    @property
    def id(self) -> str: ...  # noqa: D102


Cell = TypeVar("Cell", bound=Named)
Result = TypeVar("Result", bound=Mapping[str, Any])
"""Plain JSON."""
Record = TypeVar("Record")


@dataclass(frozen=True)
class Study(Generic[Cell, Result]):
    """What is to be carried out.

    Attributes:
        name: what messages call it, such as "campaign".
        record: the file that sums it up.
        cells: all of them; their ids differ.
        carry_out: one of them; it can be pickled, and what it draws derives from the cell.
        digest: of all that results must share to stand beside each other; see `digests.digest`.
        other: what a folder of another digest is said to be of, such as "another seed".
        failed: whether a result is not to be kept, but tried again the next time.
        limit: seconds of the processor that a cell may take; ten times as many by the clock, if it waits.
        devices: that cells share; see `pool.share_out`.
        on_device: whether a cell needs one.
        stopped: what stands for the result of a cell that took longer, which is tried again the next time, given the
            cell and what there is to say; None if nothing can.
    """

    name: str
    record: str
    cells: Sequence[Cell]
    carry_out: Callable[[Cell], Result]
    digest: str
    other: str
    failed: Callable[[Result], bool] = lambda result: False
    limit: float = deadline.LIMIT
    stopped: Callable[[Cell, str], Result] | None = None
    devices: int | None = None
    on_device: Callable[[Cell], bool] = lambda cell: True

    def __post_init__(self) -> None:
        if not (self.limit > 0 and math.isfinite(self.limit)):
            raise InputError(f"limit is {self.limit:g}; use a positive number of seconds")

    def check(self, out: Path) -> None:
        """Raise InputError if a folder is a file, or holds something else."""
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; name a folder for the {self.name} with --out")
        mark, held = out / MARK, _read(out / self.record)
        status = held.get("status")
        if mark.exists():
            if mark.read_bytes() == self.digest.encode():
                return
            state = "an unfinished" if not held or status == "partial" else "a finished" if status else "a"
            of = f" ({held['command']})" if "command" in held else ""
            raise InputError(
                f"{out} holds {state} {self.name} of {self.other}{of}; choose another folder with --out, or begin anew "
                "with --overwrite, which deletes it"
            )
        seen = [path for path in out.glob("[!.]*") if path.name != CELLS or any(path.glob("*.json"))]
        if seen:
            found = held and status != "partial"
            what = f"the record of a {self.name}, without its cells" if found else f"files that are not a {self.name}'s"
            raise InputError(f"{out} holds {what}; choose another folder with --out, or start anew with --overwrite")


class Kept(Generic[Cell, Result]):
    """The results of a study that are there."""

    def __init__(self, study: Study[Cell, Result], out: Path) -> None:
        self.study, self.folder = study, out / CELLS
        self._failed: dict[str, Result] = {}

    def keep(self, name: str, result: Result) -> None:
        """Write one down, unless it failed."""
        if self.study.failed(result):
            self.hold(name, result)
            return
        content = checksum.sealed({"study": self.study.digest, "cell": name, "result": result})
        text = json.dumps(content, allow_nan=False)
        files.write_atomically(self._path(name), text.encode(), "make room: the same command continues")

    def hold(self, name: str, result: Result) -> None:
        """Have a result stand among the others this time alone."""
        self._failed[name] = result

    def results(self, cells: Iterable[Named] | None = None) -> dict[str, Result]:
        """Those of some cells, or of the study's, in their order, by id; with those that failed just now."""
        found = {}
        for cell in self.study.cells if cells is None else cells:
            with contextlib.suppress(FileNotFoundError, ValueError):
                found[cell.id] = self._failed[cell.id] if cell.id in self._failed else self._read(cell.id)
        return found

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that are to be carried out. A file that was cut short or changed is not there, which is said."""
        todo, damaged = [], []
        for cell in cells:
            try:
                self._read(cell.id)
            except FileNotFoundError:
                todo.append(cell)
            except ValueError:
                todo.append(cell)
                damaged.append(cell.id)
        if damaged:
            some = ", ".join(damaged[:3]) + (", ..." if len(damaged) > 3 else "")
            sys.stderr.write(
                f"{number_of(len(damaged), 'result')} in {self.folder} damaged, to be worked out anew: {some}\n"
            )
        return todo

    def _read(self, name: str) -> Result:
        path = self._path(name)
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or checksum.KEY not in found:
            raise InputError(f"{path} has no checksum")
        content = checksum.opened(found, str(path), "it is worked out anew")
        if (content["study"], content["cell"]) != (self.study.digest, name):
            raise InputError(f"{path} is the result of something else")
        return content["result"]  # type: ignore[no-any-return]

    def _path(self, name: str) -> Path:
        return self.folder / (name.replace("/", "~") + ".json")


def run(
    study: Study[Cell, Result],
    out: Path,
    finish: Callable[[Kept[Cell, Result]], Record],
    *,
    jobs: int | pool.Executor | None = None,
    overwrite: bool = False,
    shard: str | None = None,
    console: Console | None = None,
) -> Record:
    """Carry out what is not there yet, and hand over what `finish` makes of all.

    Args:
        study: what.
        out: its folder; made if it is not there.
        finish: writes the record, of what there is; it is called when all cells are there, or after an interruption,
            and by nobody else at the same time.

    Other args:
        jobs: processes, or what the cells are submitted to; a process per core if None.
        overwrite: delete what the folder holds of the study.
        shard: "I/N", every N-th cell from the I-th; who finishes last makes the record.
        console: where progress is shown, if it is a terminal.

    Raises:
        InputError: for a folder that holds something else, is in use, or cannot be written; an impossible shard.
        Unfinished: a shard has done its part, and others have not.
        SpecverifyError: a worker process ended; or cells were stopped, and the study does not say what stands for them.
        KeyboardInterrupt: after `finish`.
    """
    jobs = pool.checked(jobs)
    number, of = (1, 1) if shard is None else numbers(shard, overwrite)
    part = study.cells[number - 1 :: of]  # neighbours are alike, and so are dealt out
    with _opened(study, out, overwrite, f"{number}-of-{of}" if shard else "") as kept:
        todo, late = {cell.id: cell for cell in kept.missing(part)}, []
        work = functools.partial(_named, study.carry_out, study.limit)
        try:
            done, where = len(part) - len(todo), out / study.record
            pairs = pool.share_out(
                work, list(todo.values()), jobs, console, name=_id, done=done, what="cell", where=where,
                devices=study.devices, on_device=study.on_device,
            )  # fmt: skip
            with contextlib.closing(pairs):
                for name, result in pairs:
                    if result is not None:
                        kept.keep(name, result)
                        continue
                    late.append(name)
                    if study.stopped is not None:
                        kept.hold(name, study.stopped(todo[name], _stopped(study.limit)))
        except (KeyboardInterrupt, BrokenExecutor) as error:
            with files.locked(out):
                finish(kept)
            if isinstance(error, BrokenExecutor):
                raise SpecverifyError(
                    "a worker process was ended from outside, as when memory runs out; what was finished is kept in "
                    f"{out}, and the same command continues"
                ) from None
            raise
        with files.locked(out):
            if shard is not None:
                _check_all(kept, out, shard)
            found = finish(kept)
        if late and study.stopped is None:
            raise SpecverifyError(
                f"{number_of(len(late), 'cell')} {_stopped(study.limit)}: {', '.join(late)}; {out} keeps the others"
            )
        return found


def _named(carry_out: Callable[[Cell], Result], limit: float, cell: Cell) -> tuple[str, Result | None]:
    """A cell's id and result; None if it had to be stopped."""
    try:
        return cell.id, deadline.within(limit, carry_out, cell)
    except deadline.Late:
        return cell.id, None


def _id(pair: tuple[str, Result | None]) -> str:
    return pair[0]


def _stopped(limit: float) -> str:
    return f"stopped after {limit:g} s; the same command with a larger --limit tries again"


def numbers(shard: str, overwrite: bool) -> tuple[int, int]:
    """I and N of "I/N".

    Raises:
        InputError: for anything else, and where a shard would delete what others have finished.
    """
    number, slash, of = shard.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"shard {shard!r} is not I/N with I from 1 to N; write --shard 1/3")
    if overwrite:
        raise InputError("--overwrite would delete what other shards have finished; delete the folder instead")
    return int(number), int(of)


@contextlib.contextmanager
def _opened(study: Study[Cell, Result], out: Path, overwrite: bool, shard: str) -> Iterator[Kept[Cell, Result]]:
    """The folder, held as long as this lasts: by one command, or by different shards."""
    if not overwrite or out.is_file():
        study.check(out)
    kept = Kept(study, out)
    locks = [kept.folder / ".lock", *([kept.folder / f".lock-{shard}"] if shard else [])]
    try:
        kept.folder.mkdir(parents=True, exist_ok=True)
        for lock in locks:
            lock.touch()
    except OSError as error:
        raise InputError(
            f"cannot write {out / study.record} ({error.strerror}); choose another folder with --out"
        ) from None
    with contextlib.ExitStack() as held:
        try:
            for lock in locks:  # shards share the first, and each has the second for itself
                held.enter_context(files.locked(lock, shared=bool(shard) and lock is locks[0], wait=False))
        except BlockingIOError:
            raise InputError(
                f"{out} is in use by another command; wait for its end, or choose another folder with --out"
            ) from None
        if overwrite:
            for stale in (*kept.folder.glob("*.json"), out / study.record):
                stale.unlink(missing_ok=True)
        else:
            study.check(out)  # somebody may have been faster
        if not shard:  # nobody else is at work: what a killed command was writing
            for stale in (*out.glob(f".{MARK}-*"), *out.glob(f".{study.record}-*"), *kept.folder.glob(".*.json-*")):
                stale.unlink(missing_ok=True)
        files.write_atomically(out / MARK, study.digest.encode())
        yield kept


def _check_all(kept: Kept[Cell, Result], out: Path, shard: str) -> None:
    """Raise unless all cells are there, of other shards too."""
    there, cells = kept.results(), kept.study.cells
    if wrong := [name for name, result in there.items() if kept.study.failed(result)]:
        raise SpecverifyError(
            f"{number_of(len(wrong), 'cell')} of shard {shard} failed, which it tries again: {', '.join(wrong)}"
        )
    if len(there) < len(cells):
        raise Unfinished(
            f"shard {shard} is done: {len(there)} of {number_of(len(cells), 'cell')} are in {out}, and no record "
            "yet; the last of the other shards writes it, or the same command without --shard"
        )


def _read(path: Path) -> Mapping[str, Any]:
    """A record, as far as it can be read: for messages alone."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
