"""Judging a subject in a process of its own: it may raise, hang, exit, crash or print, and still gets a verdict.

A fresh interpreter is started (never a fork), with what it prints kept aside. It judges the subject and hands the
judgement back as JSON: nothing that the subject made is unpickled here. When it takes more time or memory than it may,
or when this process ends, the subject is ended with all that it started, and nothing of it is left (`keeper.py`).

This protects from accidents, not from malice: a subject can read and write the user's files as any program can.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from specverify import checksum
from specverify.claims import Claim
from specverify.errors import InputError
from specverify.subjects import reference as references
from specverify.subjects import resolve
from specverify.subjects.machine import memory as machine_memory

if TYPE_CHECKING:  # they need torch: a subject that cannot be found is said before, and both processes load it at once
    from specverify.subjects.judgement import Judgement

TOLD = ("delta", "suite", "toy", "target", "gamma")  # options that a command line takes as they are
FLAGS = ("exact", "reproducible")
KEPT = 20  # lines of what a subject prints; of each, at most 500 characters


def judge_isolated(
    reference: str,
    level: str | None = None,
    claim: Claim | str | None = None,
    *,
    seed: int = 0,
    seconds: float = 60.0,
    options: Mapping[str, Any] | None = None,
    limit: float | None = None,
    memory: int | None = None,
) -> Judgement:
    """Judge a subject by name, in a process of its own.

    Args:
        reference: `PKG.MOD:OBJECT`, `path/to/file.py:OBJECT`, a plug-in or a trace; see `resolve.py`.
        level: a name of `resolve.LEVELS`; None to tell by looking at the subject, where that is possible.
        claim: what is claimed, also as text (`resolve.parse_claim`); None for the subject's own claim, or lossless.

    Other args:
        seed: all randomness derives from it.
        seconds: what the checks may take.
        options: further arguments of the level's `judge_...` function; plain data.
        limit: processor seconds, of the subject's processes together, after which they are ended, counted from when
            the subject's module is imported; by default twice `seconds`, and 60 more. So many by the clock in which
            they computed nothing end them too, and ten times as many in any case.
        memory: MiB for its processes together, beyond a fresh interpreter's; by default half of what there is.

    Raises:
        InputError: the reference names nothing, or the level, claim, options or limits cannot be used. Whatever a
            subject does when it is imported or called ends in a verdict.
    """
    claim = resolve.parse_claim(claim) if isinstance(claim, str) else claim
    text = None if claim is None else resolve.claim_text(claim)
    level, given = resolve.by_todays_name(level, options)
    if seed < 0:
        raise InputError(f"seed {seed}: use an integer of at least 0")
    if (delta := given.get("delta")) is not None and not 0 < delta <= 1:
        raise InputError(f"delta is {delta}; use a number above 0 and at most 1")
    references.check(reference)
    begun = time.perf_counter()
    request = {"reference": reference, "level": level, "claim": text, "seed": seed, "certificate": None}
    reply = ask(request | {"seconds": seconds, "options": given}, seconds, limit, memory)
    line = _command_line(reference, level, text, seed, seconds, dict(options or {}), limit, memory)
    return _judgement(reply, reference, line, begun)


def replay_isolated(
    path: Path | str,
    subject: str | None = None,
    *,
    seconds: float = 60.0,
    limit: float | None = None,
    memory: int | None = None,
) -> Judgement:
    """Replay a certificate (`certificate.replay`) in a process of its own.

    Args:
        path: the file.
        subject: the reference of another subject to try it on; by default the certificate's.
        seconds, limit, memory: as for `judge_isolated`.

    Raises:
        InputError: no certificate, no subject, or limits that cannot be used.
    """
    from specverify.subjects import certificate

    begun = time.perf_counter()
    found = certificate.load(path)
    reference = subject or found["subject"]
    if reference is None:
        raise InputError(f"{path} does not say where its subject {found['name']!r} is; name it with --subject REF")
    folder, note = (Path.cwd(), "") if subject else certificate.find_subject(found, Path(path))
    references.check(reference, folder)
    claim = resolve.claim_text(certificate.claim_of(found))
    request = {"reference": reference, "level": "decoder", "claim": claim, "certificate": found}
    reply = ask(request, seconds, limit, memory, folder)
    named = [
        ("subject", subject),
        ("seconds", None if seconds == 60 else seconds),
        ("limit", limit),
        ("memory", memory),
    ]
    judgement = _judgement(reply, reference, shlex.join(["specverify", "replay", str(path), *_options(named)]), begun)
    return replace(judgement, notes=[*judgement.notes, note]) if note else judgement


def _judgement(reply: Reply, reference: str, line: str, begun: float) -> Judgement:
    from specverify.subjects.judgement import Judgement
    from specverify.verdict import Kind, Verdict

    judgement = reply.judgement or Judgement(
        subject=reference,
        level=reply.level,  # type: ignore[arg-type]
        claim=reply.claim,
        verdict=Verdict(Kind.ERROR, reply.reason),
        notes=reply.printed,
    )
    found = judgement.certificate
    if found is not None and judgement.level == "decoder":
        found = {**found, "subject": reference}  # where it is found again, also for an object that cannot say so
    seconds = time.perf_counter() - begun
    return replace(judgement, subject=reference, certificate=found, reproduce=line, seconds=seconds)


@dataclass(frozen=True)
class Reply:
    """What came back from a process.

    Attributes:
        level, claim: at which level the subject was judged, and for which claim.
        judgement: None if there was no answer.
        reason: why not.
        printed: the last lines that the process printed, where there was no answer.
    """

    level: str
    claim: str
    judgement: Judgement | None = None
    reason: str = ""
    printed: tuple[str, ...] = ()


def ask(
    request: Mapping[str, Any],
    seconds: float,
    limit: float | None = None,
    memory: int | None = None,
    folder: Path | None = None,
) -> Reply:
    """Have a process of its own carry out a request; see `judge_isolated` for the arguments.

    Args:
        folder: the current folder of that process; by default this one's.

    Raises:
        InputError: for limits that cannot be used, and for a reference, level or claim that is refused.
    """
    limit = 2 * seconds + 60 if limit is None else limit
    for name, value in (("seconds", seconds), ("limit", limit), ("memory", 1 if memory is None else memory)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value}; use a positive number")
    folder = folder or Path.cwd()
    given = {
        **request,
        "path": [entry or str(folder) for entry in sys.path],
        "limit": limit,
        "memory": machine_memory() // 2 if memory is None else memory,
        "strict": memory is not None,
        "share": "half of what this machine has" if memory is None else "its limit",
    }
    with _kept(given, folder) as (keeper, place):
        printed: deque[str] = deque(maxlen=KEPT)
        assert keeper.stdout is not None
        reader = threading.Thread(target=_drain, args=(keeper.stdout, printed), daemon=True)
        reader.start()
        while not (place / "end.json").exists() and keeper.poll() is None:
            time.sleep(0.02)
        end, stage, reply = (json.loads(_read(place / f"{name}.json") or "{}") for name in ("end", "stage", "reply"))
        where = _place(_read(place / "stack.txt"))
    reader.join(5)
    stopped = end.get("stopped") or ("" if "code" in end else "what kept watch over it was ended")
    level = stage.get("level") or request["level"] or "unknown"
    claim = stage.get("claim") or str(resolve.parse_claim(request["claim"] or "lossless"))
    if "refused" in reply:
        raise InputError(reply["refused"])
    limited = "" if memory is None else f" (memory limited to {memory} MiB with --memory)"
    if "judgement" in reply:
        judgement = judgement_from_json(reply["judgement"])
        if judgement.verdict.kind.value == "ERROR":
            judgement = replace(
                judgement, verdict=replace(judgement.verdict, reason=judgement.verdict.reason + limited)
            )
        return Reply(level, claim, judgement)
    lines = tuple(printed)
    reason = reply.get("raised") or stopped or _ended(end["code"])
    if where and "raised" not in reply:
        reason += f", {where}"
    if lines and "raised" not in reply:
        reason += f"; the last line that it printed: {lines[-1].strip()}"
    reason += limited
    if "level" not in stage and "raised" not in reply:
        reason = f"when imported, {reason}"
    return Reply(level, claim, None, reason, lines)


def judgement_from_json(record: Mapping[str, Any]) -> Judgement:
    """The inverse of `Judgement.to_json`, but that tuples have become lists; of a judgement.json too.

    Raises:
        InputError: if a field is missing or unknown, or the checksum of a file does not fit.
    """
    from specverify.evidence.result import Evidence
    from specverify.subjects.judgement import Judgement
    from specverify.verdict import Kind, Verdict

    record = checksum.opened(dict(record), "this judgement", "judge the subject again")
    known = {item.name for item in fields(Judgement)}
    if set(record) != known:
        raise InputError(
            f"this is no judgement: missing {sorted(known - set(record))}, unknown {sorted(set(record) - known)}"
        )
    verdict = Verdict(Kind(record["verdict"]["kind"]), record["verdict"]["reason"])
    evidence = tuple(Evidence.from_json(item) for item in record["evidence"])
    return Judgement(**{**record, "verdict": verdict, "evidence": evidence})


@contextlib.contextmanager
def _kept(request: Mapping[str, Any], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A keeper at work on a request, in a folder; afterwards neither is left.

    Args:
        request: what `worker.answer` reads.
        folder: the current folder of the subject.
    """
    place = Path(tempfile.mkdtemp(prefix="specverify-"))
    try:
        (place / "request.json").write_text(json.dumps(request))
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what ends this process and its group leaves the keeper to clean up
            cwd=folder,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
        )
        assert keeper.stdin is not None
        try:
            yield keeper, place
        finally:
            keeper.stdin.close()
            keeper.wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)  # the keeper's work, unless it was ended


def _drain(stream: IO[bytes], kept: deque[str]) -> None:
    """Read all that is printed, and keep the end of it."""
    rest = b""
    with stream:
        while chunk := stream.read1(1 << 16):  # type: ignore[attr-defined]  # a BufferedReader has it
            *lines, rest = (rest + chunk).split(b"\n")
            kept.extend(text for line in lines[-KEPT:] if (text := _text(line)))
            rest = rest[-500:]
    if text := _text(rest):
        kept.append(text)


def _text(line: bytes) -> str:
    readable = line.decode(errors="replace").rstrip()[-500:]
    return "".join(x if x.isprintable() else " " for x in readable)


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was ended by {name}, without an answer"
    return f"its process exited with code {code}, without an answer"


def _place(stack: str) -> str:
    """Where the main thread was, from what faulthandler wrote: the last thread listed, or the one that crashed."""
    blocks = re.split(r"^(?=(?:Current thread|Thread) 0x)", stack, flags=re.MULTILINE)
    chosen = next((block for block in blocks if block.startswith("Current")), blocks[-1])
    frame = re.search(r'^  File "(.*)", line (\d+) in (.*)$', chosen, flags=re.MULTILINE)
    return f"in {frame[3]} ({Path(frame[1]).name}:{frame[2]})" if frame else ""


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _command_line(
    reference: str,
    level: str | None,
    claim: str | None,
    seed: int,
    seconds: float,
    options: Mapping[str, Any],
    limit: float | None,
    memory: int | None,
) -> str:
    """What leads here again, with all that was not left to its default."""
    if set(options) - {*TOLD, *FLAGS}:
        limits = "".join(f", {name}={value!r}" for name, value in (("limit", limit), ("memory", memory)) if value)
        given = f"{reference!r}, {level!r}, {claim!r}, seed={seed}, seconds={seconds!r}, options={dict(options)!r}"
        return f"specverify.subjects.isolation.judge_isolated({given}{limits})"
    named: list[tuple[str, Any]] = [("claim", claim), ("level", level), ("seed", seed), ("seconds", seconds)]
    named += [(name, options.get(name)) for name in TOLD] + [("limit", limit), ("memory", memory)]
    flags = [f"--{'' if options[name] else 'no-'}{name}" for name in FLAGS if options.get(name) is not None]
    return shlex.join(["specverify", "validate", reference, *_options(named), *flags])


def _options(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Options of a command line, those left out that are None; numbers in full, so that they come back as they were."""
    told = (
        (name, f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value))
        for name, value in named
        if value is not None
    )
    return [part for name, text in told for part in (f"--{name}", text)]
