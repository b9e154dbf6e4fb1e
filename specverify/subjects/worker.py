"""What runs in the process of a subject: see `isolation.py`, which starts it."""

from __future__ import annotations

import faulthandler
import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from specverify.claims import Claim, Lossless
from specverify.errors import InputError, OptionError
from specverify.files import write_atomically
from specverify.subjects import here, resolve
from specverify.subjects.judgement import Judgement, JudgementRow


class Reply(TypedDict, total=False):
    """What comes of a request: a judgement, or why there is none.

    Attributes:
        judgement: of the subject.
        raised: what the subject raised.
        refused: what cannot be used of what was asked for.
    """

    judgement: JudgementRow
    raised: str
    refused: str


def answer(name: str) -> NoReturn:
    """Carry out the request in a folder, write the reply there, and end."""
    folder = Path(name)
    request = json.loads((folder / "request.json").read_text())
    stack = (folder / "stack.txt").open("w")
    faulthandler.enable(stack)
    if hasattr(faulthandler, "register"):  # how the keeper asks where the subject is, before it ends it
        faulthandler.register(signal.SIGXCPU, stack)
    if request["strict"]:
        _limit_memory(request["memory"])
    write_atomically(folder / "stage.json", b"{}")
    try:
        reply = _reply(request, folder)
    except BaseException as error:  # SystemExit too: whatever the subject raises is its answer
        said = " ".join(str(error).split()) or "no message"
        reply = Reply(raised=f"raised {type(error).__name__}: {said}{resolve.place_of(error)}")
    write_atomically(folder / "reply.json", json.dumps(reply, allow_nan=False).encode())
    sys.stdout.flush()
    os._exit(0)  # threads that the subject left behind are not waited for


def _reply(request: Mapping[str, Any], folder: Path) -> Reply:
    name = request["reference"]
    try:
        subject = resolve.resolve(name)
        level, claim = here.prepared(name, subject, request["level"], request["claim"], request.get("options", {}))
    except resolve.BrokenModule as error:
        return {"raised": str(error)}
    except InputError as error:
        return {"refused": str(error)}
    own = getattr(subject, "claim", None)
    said = claim or (own if isinstance(own, Claim) else Lossless())
    write_atomically(folder / "stage.json", json.dumps({"level": level, "claim": str(said)}).encode())
    if request["certificate"] is not None:
        from specverify.subjects import certificate  # slow to import: hypothesis and a JSON schema come with it

        return {"judgement": _record(certificate.replay(request["certificate"], subject))}
    try:
        judgement = here.judged(name, subject, level, claim, request["seed"], request["seconds"], request["options"])
    except InputError as error:
        if level != "trace" and not isinstance(error, OptionError):
            raise  # from within a subject that calls specverify: its own fault, not the user's
        return {"refused": str(error)}
    return {"judgement": _record(judgement)}


def _record(judgement: Judgement) -> JudgementRow:
    record = judgement.to_json()
    plain: JudgementRow = to_plain({**record, "evidence": []})
    return {**plain, "evidence": record["evidence"]}  # plain already, with its own way of writing infinities


def _limit_memory(mebibytes: int) -> None:
    """Have an allocation beyond the limit fail, where the system can: the subject's error then says where it was."""
    try:
        import resource

        status = Path("/proc/self/status").read_text()
    except (ImportError, OSError):
        return  # the keeper still watches
    taken = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
    most = min(taken * 2**10 + mebibytes * 2**20, 2**62)
    # Not the address space: what is reserved and never used, as by torch's own threads and devices, costs nothing.
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def to_plain(value: Any) -> Any:
    """Plain data for strict JSON: tensors become lists, numbers that are not finite None, anything else its text."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
