"""A calibration's rows depend on the seed alone, and are kept."""

import pytest

from specverify import calibration
from specverify.calibration import (
    Setting,
    book,
    carry_out,
)  # fmt: skip
from specverify.errors import InputError
from tests.calibration.trials import LEVEL, without_times


class TestRuns:
    @pytest.mark.slow
    def test_rows_do_not_depend_on_the_number_of_processes(self, few, tmp_path):
        one = calibration.run(Setting(3), tmp_path / "one", jobs=1)
        two = calibration.run(Setting(3), tmp_path / "two", jobs=2)
        assert without_times(one) == without_times(two)
        assert [(row["check"], row["what"]) for row in one] == [(trial.check, trial.what) for trial in few]
        other = [carry_out(trial, seed=4, level=LEVEL) for trial in few]
        assert [row["p_value"] for row in other] != [row["p_value"] for row in one]

    def test_finished_rows_are_kept(self, few, here, tmp_path, monkeypatch):
        first = calibration.run(Setting(), tmp_path, only="*/misses/*")
        assert [row["what"] for row in first] == ["misses"]
        stopped = []

        def stop(trial, **_):
            stopped.append(trial.id)
            if len(stopped) == 2:
                raise KeyboardInterrupt
            return carry_out(trial, **_)

        monkeypatch.setattr(book, "carry_out", stop)
        with pytest.raises(KeyboardInterrupt):
            calibration.run(Setting(), tmp_path)
        assert stopped == [few[0].id, few[2].id]
        assert len(book.load(tmp_path / "calibration.json")["rows"]) == 2
        monkeypatch.setattr(book, "carry_out", carry_out)
        rows = calibration.run(Setting(), tmp_path)
        assert rows[1] == first[0]
        kept = book.load(tmp_path / "calibration.json")
        assert kept["rows"] == rows
        assert kept["level"] == pytest.approx(1e-6 / 3)
        stopped[:] = [""]  # nothing is left to do, or this would stop
        monkeypatch.setattr(book, "carry_out", stop)
        assert calibration.run(Setting(), tmp_path) == rows

    def test_a_folder_of_another_calibration_is_left_alone(self, few, here, tmp_path):
        rows = calibration.run(Setting(), tmp_path)
        for setting in (Setting(1), Setting(quick=True)):
            with pytest.raises(InputError, match="holds a calibration of another seed, version or extent; choose"):
                calibration.run(setting, tmp_path)
        assert book.load(tmp_path / "calibration.json")["rows"] == rows
        again = calibration.run(Setting(1), tmp_path, overwrite=True)
        assert without_times(again) != without_times(rows)

    @pytest.mark.parametrize(
        ("content", "message"), [("[1]", "is no calibration"), ("{", "cannot be read"), ('{"rows": []}', "is no calib")]
    )
    def test_a_file_of_something_else_is_left_alone(self, few, here, tmp_path, content, message):
        (tmp_path / "calibration.json").write_text(content)
        with pytest.raises(InputError, match=message):
            calibration.run(Setting(), tmp_path)
        assert (tmp_path / "calibration.json").read_text() == content
