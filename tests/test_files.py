"""Folders that several commands write into."""

import pytest

from specverify import files
from specverify.errors import InputError


def test_a_folder_that_can_be_written_is_as_it_was(tmp_path):
    files.check_writable(tmp_path / "out" / "own")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is a file; choose another folder with --out"):
        files.check_writable(tmp_path / "file" / "own")


@pytest.mark.parametrize("when", ["before", "after", "gone"])
def test_another_command_may_make_the_same_folders_at_the_same_time(tmp_path, monkeypatch, when):
    other, make, taken = tmp_path / "out" / "other", type(tmp_path).mkdir, []

    def beside(path, *arguments, **more):
        if when == "before" and path == other.parent and not path.exists():
            make(path)
        if when == "gone" and path.parent == other.parent and not taken:
            taken.append(other.parent.rmdir())
        make(path, *arguments, **more)
        if when == "after" and path == other.parent:
            other.touch()

    monkeypatch.setattr(type(tmp_path), "mkdir", beside)
    files.check_writable(tmp_path / "out" / "own")
    assert not (tmp_path / "out" / "own").exists()
    assert other.exists() is (when == "after")
    assert other.parent.exists() is (when != "gone")
