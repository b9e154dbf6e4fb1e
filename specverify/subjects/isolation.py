"""Judging a subject in a process of its own: it may raise, hang, exit, crash or print, and still gets a verdict.

A fresh interpreter is started (never a fork), with what it prints kept aside. It resolves the reference, judges the
subject and hands the judgement back as JSON: nothing that the subject made is unpickled here. When the time is up the
process is ended, and every process that it started and that did not leave its process group.

This protects from accidents, not from malice: a subject can read and write the user's files as any program can.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any, cast

from specverify.claims import Claim
from specverify.errors import InputError
from specverify.evidence.result import Evidence
from specverify.subjects import resolve
from specverify.subjects.judgement import Judgement, Level
from specverify.verdict import Kind, Verdict

STARTUP = 180.0
"""Seconds that a fresh interpreter may take to import torch."""
KEPT = 20
"""Lines kept of what a subject prints; of each, at most 500 characters."""
# The path is set first: the child must find specverify, and the subject, where this process would.
_CHILD = (
    "import json, sys; sys.path[:] = json.load(open(sys.argv[1] + '/request.json'))['path']; "
    "from specverify.subjects.worker import answer; answer(sys.argv[1])"
)


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
        limit: seconds after which the process is ended, counted from when the subject's module is imported; by
            default twice `seconds`, and 10 more.
        memory: MiB of address space that the process may take beyond what it has when it begins; where the system can
            limit it.

    Raises:
        InputError: the reference names nothing, or the level, claim or limits cannot be used. Whatever a subject does
            when it is imported or called ends in a verdict.
    """
    claim = resolve.parse_claim(claim) if isinstance(claim, str) else claim
    text = None if claim is None else resolve.claim_text(claim)
    if level is not None and level not in resolve.LEVELS:
        raise InputError(f"unknown level {level!r}; use {', '.join(resolve.LEVELS)}")
    if seed < 0:
        raise InputError(f"seed {seed}: use an integer of at least 0")
    begun = time.perf_counter()
    request = {"reference": reference, "level": level, "claim": text, "seed": seed, "certificate": None}
    reply = ask(request | {"seconds": seconds, "options": dict(options or {})}, seconds, limit, memory)
    if set(options or {}) - {"delta", "exact"}:
        arguments = f"{reference!r}, {reply.level!r}, {text!r}, seed={seed}, seconds={seconds:g}, options={options!r}"
        line = f"specverify.subjects.isolation.judge_isolated({arguments})"
    else:
        line = _command_line(reference, level, text, seed, seconds, dict(options or {}))
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
    claim = resolve.claim_text(certificate.claim_of(found))
    request = {"reference": reference, "level": "decoder", "claim": claim, "certificate": found}
    reply = ask(request, seconds, limit, memory)
    parts = ["specverify", "replay", str(path), *(["--subject", subject] if subject else [])]
    return _judgement(reply, reference, shlex.join(parts), begun)


def _judgement(reply: Reply, reference: str, line: str, begun: float) -> Judgement:
    judgement = reply.judgement or Judgement(
        subject=reference,
        level=cast(Level, reply.level),
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


def ask(request: Mapping[str, Any], seconds: float, limit: float | None = None, memory: int | None = None) -> Reply:
    """Have a process of its own carry out a request; see `judge_isolated` for the arguments.

    Raises:
        InputError: for limits that cannot be used, and for a reference, level or claim that is refused.
    """
    limit = 2 * seconds + 10 if limit is None else limit
    for name, value in (("seconds", seconds), ("limit", limit), ("memory", memory or 1)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value}; use a positive number")
    given = {**request, "path": [entry or os.getcwd() for entry in sys.path], "limit": limit, "memory": memory}
    with tempfile.TemporaryDirectory(prefix="specverify-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(given))
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
        )
        assert process.stdout is not None
        printed: deque[str] = deque(maxlen=KEPT)
        reader = threading.Thread(target=_drain, args=(process.stdout, printed), daemon=True)
        reader.start()
        try:
            stopped = _watch(process, folder, limit)
        finally:
            _end(process)
            reader.join(5)
        stage = json.loads(_read(folder / "stage.json") or "{}")
        reply = json.loads(_read(folder / "reply.json") or "{}")
        place = _place(_read(folder / "stack.txt"))
    level = stage.get("level") or request["level"] or "unknown"
    claim = stage.get("claim") or str(resolve.parse_claim(request["claim"] or "lossless"))
    if "refused" in reply:
        raise InputError(reply["refused"])
    if "judgement" in reply:
        return Reply(level, claim, judgement_from_json(reply["judgement"]))
    lines = tuple(printed)
    reason = reply.get("raised") or stopped or _ended(process.returncode)
    if place and "raised" not in reply:
        reason += f", {place}"
    if lines and "raised" not in reply:
        reason += f"; the last line that it printed: {lines[-1].strip()}"
    if memory is not None:
        reason += f" (memory limited to {memory} MiB)"
    if "level" not in stage and "raised" not in reply:
        reason = f"when imported, {reason}"
    return Reply(level, claim, None, reason, lines)


def judgement_from_json(record: Mapping[str, Any]) -> Judgement:
    """The inverse of `Judgement.to_json`, but that tuples have become lists.

    Raises:
        InputError: if a field is missing or unknown.
    """
    known = {item.name for item in fields(Judgement)}
    if set(record) != known:
        raise InputError(
            f"this is no judgement: missing {sorted(known - set(record))}, unknown {sorted(set(record) - known)}"
        )
    verdict = Verdict(Kind(record["verdict"]["kind"]), record["verdict"]["reason"])
    evidence = tuple(Evidence.from_json(item) for item in record["evidence"])
    return Judgement(**{**record, "verdict": verdict, "evidence": evidence})


def _watch(process: subprocess.Popen[bytes], folder: Path, limit: float) -> str:
    """Wait for the end of the process; if its time is up, why it has to be ended."""
    started = time.monotonic()
    begun: float | None = None
    while process.poll() is None:
        now = time.monotonic()
        if begun is None:
            if (folder / "stage.json").exists():
                begun = now
            elif now - started > STARTUP:
                return f"a fresh interpreter did not start within {STARTUP:g} s"
        elif now - begun > limit + 0.5:  # half a second for writing down where it is
            return f"gave no answer within {limit:g} s"
        time.sleep(0.02)
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its process group: what it started may outlive it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # where nobody is left
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


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
    reference: str, level: str | None, claim: str | None, seed: int, seconds: float, options: Mapping[str, Any]
) -> str:
    named = [("--claim", claim), ("--level", level), ("--seed", str(seed)), ("--seconds", f"{seconds:g}")]
    named += [("--delta", f"{options['delta']:g}")] if "delta" in options else []
    parts = [part for name, value in named if value is not None for part in (name, value)]
    parts += ["--exact"] if options.get("exact") else []
    return shlex.join(["specverify", "validate", reference, *parts])
