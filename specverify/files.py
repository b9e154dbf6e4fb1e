"""Files that are written whole or not at all, folders that can be written to, and locks that end with their process."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specverify.errors import InputError


def write_atomically(path: Path, content: bytes, remedy: str = "make room, or choose another --out") -> None:
    """Write a file by way of a temporary one beside it: whoever reads it sees the old one or the new one.

    Args:
        path: its folder is made if it is not there.
        content: all of it.
        remedy: what to do where it cannot be written.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else the name may outlive a loss of power, and the content not
                temporary.chmod(0o644)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error}); {remedy}") from None


def check_writable(folder: Path) -> None:
    """Raise InputError unless files can be written into a folder; afterwards all is as it was.

    To be called before work whose outcome goes there.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    blocked = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocked is not None:
        raise InputError(f"cannot write to {folder}: {blocked} is a file; choose another folder with --out")
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another command has just made it, or taken away what it made
                path.mkdir(parents=True)
                made.append(path)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".specverify-"):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from None
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # another command writes there already
                path.rmdir()


def check_own(schema: str, record: Path, *written: Path) -> None:
    """Raise InputError if a file is there that would be written, and not by the command whose record this is.

    Args:
        schema: what its records say that they are.
        record: where it stands, if there is one; what is written with it is then the command's own.
        written: all files that would be.
    """
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(record.read_bytes())
        if isinstance(found, dict) and found.get("schema") == schema:
            return
    if foreign := [path for path in written if path.exists()]:
        raise InputError(
            f"{foreign[0]} is there, and not from this command; choose another --out, or replace it with --overwrite"
        )


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock, where the system has them; it ends with the process that holds it, however that ends.

    Args:
        path: a folder or a file; where there is none, nothing is held.

    Other args:
        shared: others may hold it too, if they share it.
        wait: until it is free.

    Raises:
        BlockingIOError: somebody else holds it, and it was not to be waited for.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        yield  # whoever reads or writes there will say what is wrong
        return
    try:
        with contextlib.suppress(OSError) if wait else _unless_held():
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _unless_held() -> Iterator[None]:
    """A file system without locks is no reason to stop; a lock that is held is."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError:
        pass


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        InputError: it is missing or holds no object; followed by the remedy.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {remedy}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__} where an object is due; {remedy}")
    return found
