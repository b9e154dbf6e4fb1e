"""Subjects that once got a wrong verdict or a wrong figure, judged by `specverify validate` as a user runs it.

Each file of `subjects/` belongs to one test module here, `test_NAME.py`, which says what is right of each subject, and
why. This module checks that none is left out.
"""

from pathlib import Path

HERE = Path(__file__).parent


def test_every_file_of_subjects_is_judged_by_a_module_of_its_name() -> None:
    subjects = {path.stem for path in (HERE / "subjects").glob("*.py") if not path.stem.startswith("_")}
    assert subjects <= {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")}
