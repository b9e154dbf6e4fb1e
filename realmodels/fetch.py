"""Fetching a checkpoint: what would be taken and where it goes, then taking it.

Before the last file is checked nothing opens the folder; see `specverify.fetched`.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from realmodels import hub
from realmodels.choice import Choice, choose
from realmodels.models import FILE
from specverify import fetched, files
from specverify.errors import InputError


@dataclass(frozen=True)
class Plan:
    """What a download would do.

    Attributes:
        repository: at its commit.
        choice: of its files.
        folder: where they go.
        there: bytes of them that are in the folder.
        free: bytes that its disk has left.
        done: whether all is there, and has the content that the hub lists.
    """

    repository: hub.Repository
    choice: Choice
    folder: Path
    there: int
    free: int
    done: bool

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.choice.files)

    def check_room(self) -> None:
        """Raise InputError if the disk has no room for what is to come."""
        if self.size - self.there > self.free:
            raise InputError(
                f"{self.size - self.there:,} bytes of {self.repository.id} are to come, and the disk of {self.folder} "
                f"has {self.free:,} left; make room, or give --to a folder on another disk"
            )


def plan(id: str, revision: str | None = None, to: Path | None = None, settings: Path | None = None) -> Plan:
    """What fetching a checkpoint would do. Nothing is written.

    Args:
        id: of the repository, as "org/name".
        revision: a branch, a tag or a commit; the newest of the main branch if None.
        to: the folder, which must be empty or hold the same checkpoint; one of `fetched.root()` if None.
        settings: an `image-model.json` that goes with it.

    Raises:
        InputError: as `hub.look_up` and `choose`; the folder holds something else.
    """
    if (asked := fetched.split(id)) is None or asked[1]:
        raise InputError(
            f"{id!r} is no id of a checkpoint; give ORG/NAME, such as deepseek-community/Janus-Pro-1B, and a commit "
            "with --revision"
        )
    repository = hub.look_up(id, revision)
    choice = choose(repository, settings)
    folder = fetched.place(id, repository.commit) if to is None else Path(os.path.abspath(to))
    done = _begun(folder, repository, choice) and all(hub.fits(folder / one.path, one) for one in choice.files)
    there = sum(_present(folder / file.path, file.size) for file in choice.files)
    exists = next(path for path in (folder, *folder.parents) if path.is_dir())
    return Plan(repository, choice, folder, there, shutil.disk_usage(exists).free, done)


def carry_out(plan: Plan) -> fetched.Checkpoint:
    """Download what is missing, check all of it, and say that it is finished.

    Raises:
        InputError: as `Plan.check_room` and `hub.download`; another process fetches into the same folder.
    """
    plan.check_room()
    choice, repository, folder = plan.choice, plan.repository, plan.folder
    checkpoint = fetched.Checkpoint(
        folder, repository.id, repository.commit, repository.licence, choice.adapter, choice.inside, time.time()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); give another --to") from None
    try:
        with files.locked(folder, wait=False):
            fetched.begin(checkpoint)
            found = []
            for file in choice.files:
                found.append(fetched.File(file.path, file.size, hub.download(repository, file, folder / file.path)))
            if choice.settings is not None:
                files.write_atomically(
                    folder / choice.inside / FILE, choice.settings, "make room, or give another --to"
                )
            whole = replace(checkpoint, files=tuple(found), time=time.time())
            fetched.end(whole)
    except BlockingIOError:
        raise InputError(f"another process fetches into {folder}; wait for it, or give another --to") from None
    return whole


def _begun(folder: Path, repository: hub.Repository, choice: Choice) -> bool:
    """Whether a folder holds this very checkpoint, finished; InputError if it holds anything but its beginning."""
    if (known := fetched.read(folder) or fetched.read(folder, fetched.BEGUN)) is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there and was not fetched; give --to a folder that is new or empty")
        return False
    if (known.id, known.commit) != (repository.id, repository.commit):
        raise InputError(f"{folder} holds {known.name}; give --to another folder for {repository.id}, or delete it")
    if not known.files:
        return False
    own = folder / choice.inside / FILE
    settings = own.read_bytes() if choice.settings is not None and own.is_file() else None
    if {one.path for one in known.files} != {one.path for one in choice.files} or settings != choice.settings:
        raise InputError(f"{folder} holds {known.name} with other files or settings; give another --to, or delete it")
    return True


def _present(path: Path, size: int) -> int:
    """Bytes of a file that need not come again."""
    part = path.with_name(f"{path.name}.part")
    return size if path.is_file() else min(size, part.stat().st_size) if part.is_file() else 0
