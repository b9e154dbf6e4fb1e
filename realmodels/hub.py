"""Repositories of checkpoints on the Hugging Face Hub: what one holds, and its files, checked.

Transport is huggingface_hub's: `HfApi.model_info` lists files with their sizes and hashes at a commit, and `http_get`
takes up a connection that broke. Three things are added. A part of a file stays when the process ends, and the next one
goes on behind it (2.4 deletes it). All content is compared with its hash: that of LFS, or git's (2.4 compares sizes
alone). Whatever goes wrong is one error that says what to do.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import specverify
from specverify.errors import InputError

USUAL = "https://huggingface.co"
SECONDS = 30.0
"""That the hub has to answer a question."""
LARGEST = 1 << 24
"""Bytes of a file that is read into memory."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file of a repository.

    Attributes:
        path: within the repository.
        size: in bytes.
        digest: SHA-256 (64 hexadecimal digits) of what is kept by LFS, git's blob id (40) of the rest.
    """

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """A repository at a commit.

    Attributes:
        id: as "org/name".
        revision: as it was asked for; None for the main branch.
        commit: what that is, 40 hexadecimal digits.
        licence: as its card states it.
        gated: whether its owner gives access on request alone.
        files: all.
    """

    id: str
    revision: str | None
    commit: str
    licence: str
    gated: bool
    files: tuple[Remote, ...]

    def file(self, path: str) -> Remote | None:
        """One of its files."""
        return next((file for file in self.files if file.path == path), None)


def look_up(id: str, revision: str | None = None) -> Repository:
    """What a repository holds at a revision.

    Args:
        id: as "org/name".
        revision: a branch, a tag or a commit; None for the newest of the main branch.

    Raises:
        InputError: huggingface_hub is not installed, or any error of the hub, with its remedy.
    """
    api = _library().HfApi(endpoint=_endpoint(), library_name="specverify", library_version=specverify.__version__)
    try:
        info = api.model_info(id, revision=revision, files_metadata=True, timeout=SECONDS)
        files = tuple(_listed(one) for one in info.siblings or ())
        commit, licence = str(info.sha), _licence(info)
    except Exception as error:  # what a server that is no hub answers is anything
        raise _explained(error, id, revision) from error
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise InputError(f"the hub does not say which commit of {id} that is (it says {commit!r}); try again later")
    return Repository(id, revision, commit, licence, bool(info.gated), files)


def content(repository: Repository, file: Remote) -> bytes:
    """A small file, checked, without writing it anywhere.

    Raises:
        InputError: as `look_up`; it is large, or not what the hub lists.
    """
    if file.size > LARGEST:
        raise InputError(f"{file.path} of {repository.id} has {file.size:,} bytes, which is no file of settings")
    url, headers, tools = *_asked(repository, file), _library("utils")
    try:
        response = tools.get_session().get(url, headers=headers, timeout=SECONDS)
        tools.hf_raise_for_status(response)
        data = bytes(response.content)
    except Exception as error:
        raise _explained(error, repository.id, repository.revision) from error
    _check(repository, file, len(data), *_digests(io.BytesIO(data), len(data)))
    return data


def download(repository: Repository, file: Remote, path: Path) -> str:
    """A file, checked; what is there already, all or a part of it, is not downloaded again.

    Until all of it was checked it is called `path` with .part behind it.

    Args:
        repository: whose it is.
        file: which one.
        path: where it goes; its folder is made.

    Returns:
        Its SHA-256, in hexadecimal digits.

    Raises:
        InputError: as `look_up`; the disk is full; the content is not what the hub lists.
    """
    if (known := fits(path, file)) is not None:
        return known
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if part.is_file() and part.stat().st_size > file.size:
            part.unlink()
        with part.open("ab") as target:
            _get(repository, file, target, part.stat().st_size)
            os.fsync(target.fileno())  # else its name may outlive a loss of power, and the content not
        size = part.stat().st_size
        with part.open("rb") as source:
            sha256, blob = _digests(source, size)
        try:
            _check(repository, file, size, sha256, blob)
        except InputError:
            part.unlink()  # to go on behind it would not make it right
            raise
        part.replace(path)
    except OSError as error:
        raise _explained(error, repository.id, repository.revision) from error
    return sha256


def fits(path: Path, file: Remote) -> str | None:
    """The SHA-256 of a file on this machine if it has the content that the hub lists, else None."""
    if not path.is_file() or path.stat().st_size != file.size:
        return None
    with path.open("rb") as source:
        sha256, blob = _digests(source, file.size)
    return sha256 if file.digest == (sha256 if len(file.digest) == 64 else blob) else None


def _get(repository: Repository, file: Remote, target: io.BufferedIOBase, begin: int) -> None:
    """The bytes of a file from `begin` on, behind what the target holds."""
    url, headers = _asked(repository, file)
    try:
        _library("file_download").http_get(
            url,
            target,
            resume_size=begin,
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.path,
        )
        target.flush()
    except Exception as error:
        if type(error) is OSError and error.errno is None:  # its own check; the content is compared anyway
            target.flush()
            return
        raise _explained(error, repository.id, repository.revision) from error


def _asked(repository: Repository, file: Remote) -> tuple[str, dict[str, str]]:
    """The address of a file, and the headers with which it is asked for."""
    url = str(_library().hf_hub_url(repository.id, file.path, revision=repository.commit, endpoint=_endpoint()))
    said = {"library_name": "specverify", "library_version": specverify.__version__}
    headers = _library("utils").build_hf_headers(**said)
    return url, {**headers, "Accept-Encoding": "identity"}  # so that a range of bytes is one of the file's


def _check(repository: Repository, file: Remote, size: int, sha256: str, blob: str) -> None:
    kind, found = ("SHA-256", sha256) if len(file.digest) == 64 else ("git blob id", blob)
    wrong = f"its {kind} is {found}, and {file.digest} is due" if found != file.digest else ""
    if size != file.size:
        wrong = f"it has {size:,} bytes, and {file.size:,} are due"
    if wrong:
        raise InputError(
            f"{file.path} of {repository.id} is not what the hub lists: {wrong}. Nothing of it was kept; give the same "
            "command again, and if that ends like this, take another network or --revision"
        )


def _digests(source: io.BufferedIOBase, size: int) -> tuple[str, str]:
    """SHA-256, and git's blob id, which is the SHA-1 of the size and the content."""
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    while chunk := source.read(CHUNK):
        sha256.update(chunk)
        blob.update(chunk)
    return sha256.hexdigest(), blob.hexdigest()


def _listed(sibling: Any) -> Remote:
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return Remote(str(sibling.rfilename), int(size), str(digest))


def _licence(info: Any) -> str:
    card = info.card_data
    stated = None if card is None else (card.get("license_name") or card.get("license"))
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    text = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or ", ".join(tags) or "not stated")
    return " ".join(text.split())[:100]


def _library(part: str = "") -> Any:
    """huggingface_hub, or a module of it."""
    try:
        return importlib.import_module(f"huggingface_hub.{part}".rstrip("."))
    except ImportError as error:
        raise InputError(
            "fetching needs the package huggingface_hub; install it with pip install 'specverify[transformers]' "
            f"(importing it said: {error})"
        ) from error


def _endpoint() -> str:
    """The hub's address; huggingface_hub reads the variable when it is imported alone."""
    return (os.environ.get("HF_ENDPOINT") or str(_library("constants").ENDPOINT) or USUAL).rstrip("/")


def _explained(error: Exception, id: str, revision: str | None) -> InputError:
    """What went wrong, and what to do about it."""
    errors, address = _library("errors"), f"{_endpoint()}/{id}"
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, InputError):
        return error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return InputError(f"{id} cannot be fetched: huggingface_hub is offline; unset HF_HUB_OFFLINE")
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{id} is gated: ask for access at {address}, then log in (hf auth login, or the variable HF_TOKEN) and "
            "give the same command again"
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{id} has no revision {revision!r}; leave --revision out for the newest, or take a branch, a tag or a "
            f"commit of {address}/commits/main"
        )
    if isinstance(error, errors.HFValidationError) or (
        status == 404 and not isinstance(error, errors.EntryNotFoundError)
    ):
        return InputError(f"the hub has no model {id!r}; look for its id, ORG/NAME, at {_endpoint()}/models")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return InputError(
            f"the hub shows no model {id!r} to you ({status}); look whether the id is right, and if it is private or "
            "gated, log in (hf auth login, or the variable HF_TOKEN)"
        )
    if status is not None:
        return InputError(f"the hub answers {status} for {id}; try again later: what is there is kept ({said})")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"the disk is full ({error.strerror}); make room and give the same command again, which goes on, or give "
            "another --to"
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return InputError(f"cannot write {error.filename} ({error.strerror}); give another --to")
    return InputError(
        f"the hub cannot be reached at {_endpoint()}, or its answer cannot be read ({said}); look at the network and "
        "its proxy, and give the same command again: what is there is kept"
    )
