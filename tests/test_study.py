"""The runner: what it keeps, whom it lets into a folder, and that nothing depends on how the work was split."""

import concurrent.futures
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from specverify import files, pool, study
from specverify.errors import InputError, SpecverifyError, Unfinished

HOLDER = """
import sys, time
from pathlib import Path
from specverify import files

path = Path(sys.argv[1])
path.touch()
with files.locked(path, wait=False):
    print("held", flush=True)
    time.sleep(600)
"""


@dataclass(frozen=True)
class Cell:
    id: str


CELLS = tuple(Cell(f"kind/{number}") for number in range(7))


@pytest.fixture
def carried():
    """The ids of what was carried out, in order."""
    return []


@pytest.fixture
def asked(carried):
    def carry_out(cell):
        carried.append(cell.id)
        return {"squared": int(cell.id.split("/")[1]) ** 2, "failed": False}

    return study.Study("count", "count.json", CELLS, carry_out, "digest", "another seed", lambda row: row["failed"])


def run(asked, out, *, jobs=1, **options):
    def finish(kept):
        found = kept.results()
        files.write_atomically(out / asked.record, json.dumps(found).encode())
        return found

    return study.run(asked, out, finish, jobs=jobs, **options)


def changed(asked, **changes):
    return study.Study(**{**vars(asked), **changes})


def stopping(asked, after):
    """The same study, interrupted when so many cells are done."""
    left = [after]

    def carry_out(cell):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return asked.carry_out(cell)

    return changed(asked, carry_out=carry_out)


def test_an_interrupted_study_goes_on(asked, carried, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(stopping(asked, 3), tmp_path)
    assert list(json.loads((tmp_path / "count.json").read_text())) == ["kind/0", "kind/1", "kind/2"]
    found = run(asked, tmp_path)
    assert carried == list(found) == [cell.id for cell in CELLS]
    assert [row["squared"] for row in found.values()] == [0, 1, 4, 9, 16, 25, 36]
    assert run(asked, tmp_path) == found
    assert len(carried) == len(CELLS)
    run(asked, tmp_path, overwrite=True)
    assert len(carried) == 2 * len(CELLS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:30],
        lambda whole: whole.replace(b'"squared": 4', b'"squared": 5'),
        lambda whole: whole.replace(b"kind/2", b"kind/3"),
        lambda whole: b'{"squared": 4, "failed": false}',
        lambda whole: b"[1]",
        lambda whole: b"\xff",
        lambda whole: b"",
    ],
)
def test_a_result_that_is_not_what_was_written_is_worked_out_anew_and_that_is_said(
    asked, carried, tmp_path, capsys, damage
):
    found = run(asked, tmp_path)
    path = tmp_path / "cells" / "kind~2.json"
    path.write_bytes(damage(path.read_bytes()))
    carried.clear()
    assert run(asked, tmp_path) == found
    assert carried == ["kind/2"]
    said = f"1 result in {tmp_path / 'cells'} damaged, to be worked out anew: kind/2\n"
    assert capsys.readouterr().err == said


def test_a_result_of_another_cell_or_study_is_not_taken_over(asked, carried, tmp_path):
    run(asked, tmp_path / "one")
    run(changed(asked, digest="another"), tmp_path / "two")
    one, two = (tmp_path / name / "cells" for name in ("one", "two"))
    (one / "kind~1.json").write_bytes((two / "kind~1.json").read_bytes())
    (one / "kind~2.json").write_bytes((one / "kind~3.json").read_bytes())
    carried.clear()
    run(asked, tmp_path / "one")
    assert carried == ["kind/1", "kind/2"]


def test_what_failed_is_handed_over_and_tried_again(asked, carried, tmp_path):
    broken = changed(asked, carry_out=lambda cell: asked.carry_out(cell) | {"failed": cell.id == "kind/4"})
    assert run(broken, tmp_path)["kind/4"]["failed"]
    carried.clear()
    assert not run(asked, tmp_path)["kind/4"]["failed"]
    assert carried == ["kind/4"]
    with pytest.raises(SpecverifyError, match="1 cell of shard 1/1 failed, which it tries again: kind/4"):
        run(broken, tmp_path / "shards", shard="1/1")


def hanging(asked, **changes):
    """The same study; one of its cells does not come to an end."""

    def carry_out(cell):
        if cell.id == "kind/2":
            while True:
                pass
        return asked.carry_out(cell)

    return changed(asked, carry_out=carry_out, limit=0.3, **changes)


def test_a_cell_that_hangs_is_told_and_tried_again(asked, carried, tmp_path):
    def stopped(cell, reason):
        return {"squared": None, "failed": False, "reason": reason}

    found = run(hanging(asked, stopped=stopped), tmp_path)
    assert list(found) == [cell.id for cell in CELLS]
    assert found["kind/2"]["reason"] == "stopped after 0.3 s; the same command with a larger --limit tries again"
    assert found["kind/6"] == {"squared": 36, "failed": False}
    carried.clear()
    assert run(asked, tmp_path)["kind/2"]["squared"] == 4
    assert carried == ["kind/2"]


def test_where_nothing_can_stand_for_a_cell_that_hangs_the_others_are_kept(asked, carried, tmp_path):
    with pytest.raises(
        SpecverifyError,
        match=r"1 cell stopped after 0\.3 s; the same command with a larger --limit tries again: kind/2",
    ):
        run(hanging(asked), tmp_path)
    assert len(json.loads((tmp_path / "count.json").read_text())) == len(CELLS) - 1
    carried.clear()
    run(asked, tmp_path)
    assert carried == ["kind/2"]


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_limits(asked, limit):
    with pytest.raises(InputError, match=r"limit is .*; use a positive number of seconds"):
        changed(asked, limit=limit)


@pytest.mark.parametrize("of", [1, 2, 3, 9])
def test_shards_do_each_cell_once_and_the_last_one_sums_up(asked, carried, tmp_path, of):
    whole = run(asked, tmp_path / "whole")
    carried.clear()
    for number in range(of, 1, -1):
        with pytest.raises(Unfinished, match=rf"shard {number}/{of} is done: \d of 7 cells are in .*, and no record"):
            run(asked, tmp_path / "shards", shard=f"{number}/{of}")
        assert not (tmp_path / "shards" / "count.json").exists()
    assert run(asked, tmp_path / "shards", shard=f"1/{of}") == whole
    assert sorted(carried) == [cell.id for cell in CELLS]
    assert (tmp_path / "shards" / "count.json").read_bytes() == (tmp_path / "whole" / "count.json").read_bytes()


def test_a_command_without_a_shard_does_what_shards_left(asked, carried, tmp_path):
    with pytest.raises(Unfinished):
        run(asked, tmp_path, shard="2/2")
    carried.clear()
    assert list(run(asked, tmp_path)) == [cell.id for cell in CELLS]
    assert carried == ["kind/0", "kind/2", "kind/4", "kind/6"]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "/2", "a/b", "-1/2", "1/2/3", "1.0/2", ""])
def test_impossible_shards(asked, tmp_path, shard):
    with pytest.raises(InputError, match=r"is not I/N with I from 1 to N; write --shard 1/3"):
        run(asked, tmp_path / "out", shard=shard)
    assert not (tmp_path / "out").exists()


def test_a_shard_does_not_delete_the_work_of_others(asked, tmp_path):
    with pytest.raises(InputError, match="would delete what other shards have finished; delete the folder instead"):
        run(asked, tmp_path, shard="1/2", overwrite=True)


class TestFolders:
    def test_of_another_setting(self, asked, carried, tmp_path):
        run(asked, tmp_path)
        other = changed(asked, digest="another")
        with pytest.raises(InputError, match="holds a count of another seed; choose another folder with --out, or beg"):
            run(other, tmp_path)
        record = tmp_path / "count.json"
        record.write_text(json.dumps({"status": "complete", "command": "count --seed 1"}))
        with pytest.raises(InputError, match=r"holds a finished count of another seed \(count --seed 1\); choose"):
            run(other, tmp_path)
        for content in ('{"status": "partial"}', "{"):
            record.write_text(content)
            with pytest.raises(InputError, match="holds an unfinished count of another seed; choose"):
                run(other, tmp_path)
        assert len(carried) == len(CELLS)
        run(other, tmp_path, overwrite=True)
        assert len(carried) == 2 * len(CELLS)

    def test_of_something_else(self, asked, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="file is a file; name a folder for the count with --out"):
            run(asked, tmp_path / "file")
        with pytest.raises(InputError, match="holds files that are not a count's; choose another folder with --out"):
            run(asked, tmp_path)
        (tmp_path / "count.json").write_text('{"status": "complete"}')
        with pytest.raises(InputError, match="holds the record of a count, without its cells"):
            run(asked, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["count.json", "file"]

    def test_what_a_killed_command_was_writing_is_removed(self, asked, tmp_path):
        run(asked, tmp_path)
        for name in ("cells/.kind~2.json-1a2b", ".count.json-1a2b", ".setting.sha256-1a2b"):
            (tmp_path / name).write_text("{")
        run(asked, tmp_path)
        assert [path.name for path in tmp_path.rglob(".*")] == [".lock"]
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / ".setting.sha256-1a2b").write_text("")
        assert len(run(asked, tmp_path / "new")) == len(CELLS)


class TestLocks:
    def test_the_second_command_is_told(self, asked, tmp_path):
        def meddle(cell):
            for shard in (None, "1/2"):
                with pytest.raises(InputError, match="is in use by another command; wait for its end, or choose"):
                    run(asked, tmp_path, shard=shard)
            return asked.carry_out(cell)

        assert len(run(changed(asked, carry_out=meddle), tmp_path)) == len(CELLS)

    def test_shards_share_a_folder_but_not_a_shard(self, asked, carried, tmp_path):
        def meddle(cell):
            if not any(name in carried for name in ("kind/1", "kind/3", "kind/5")):
                with pytest.raises(Unfinished):
                    run(asked, tmp_path, shard="2/2")
            for shard in (None, "1/2"):
                with pytest.raises(InputError, match="is in use by another command"):
                    run(asked, tmp_path, shard=shard)
            return asked.carry_out(cell)

        assert len(run(changed(asked, carry_out=meddle), tmp_path, shard="1/2")) == len(CELLS)
        assert sorted(carried) == [cell.id for cell in CELLS]

    def test_a_lock_ends_with_its_process(self, asked, tmp_path):
        (tmp_path / "cells").mkdir()
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "cells" / ".lock")], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is in use by another command"):
            run(asked, tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
        assert len(run(asked, tmp_path)) == len(CELLS)


def test_a_full_disk_loses_nothing(asked, carried, tmp_path, monkeypatch):
    replace, left = os.replace, [4]  # of the mark, and of three results

    def full(source, target):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(
        InputError, match=r"cannot write .*kind~3.json \(No space left on device\); make room: the same"
    ):
        run(asked, tmp_path)
    monkeypatch.setattr(files.os, "replace", replace)
    run(asked, tmp_path)
    assert carried == ["kind/0", "kind/1", "kind/2", "kind/3", *(cell.id for cell in CELLS[3:])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "count.json", "setting.sha256"]


def test_a_lost_worker_is_told_and_loses_nothing(asked, tmp_path, monkeypatch):
    def lost(work, units, *_, **__):
        yield work(units[0])
        raise concurrent.futures.BrokenExecutor

    with monkeypatch.context() as patch:
        patch.setattr(pool, "share_out", lost)
        with pytest.raises(SpecverifyError, match=r"a worker process was ended from outside.*the same command cont"):
            run(asked, tmp_path)
    assert list(json.loads((tmp_path / "count.json").read_text())) == ["kind/0"]
    assert len(run(asked, tmp_path)) == len(CELLS)


def test_any_executor_carries_out_the_same_cells(asked, tmp_path):
    here = run(asked, tmp_path / "here")
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        assert run(asked, tmp_path / "there", jobs=executor) == here
        assert run(asked, tmp_path / "again", jobs=executor) == here  # it is the user's, and goes on
        assert pool.width(executor) == 3


def test_a_lock_on_what_is_not_there_makes_nothing(tmp_path):
    with files.locked(tmp_path / "nowhere"):
        assert not list(tmp_path.iterdir())
