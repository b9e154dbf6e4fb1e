"""`specverify sample` and `specverify bench` on models that ship and on a folder, and what they refuse."""

import json
import math
import sys

import pytest
import torch
from commands import ran
from matplotlib.image import imread

from realmodels import pictures
from specverify import fetched
from specverify.errors import InputError


def test_samples_are_a_picture_and_a_record(tmp_path):
    out = tmp_path / "some" / "grid.png"
    said = ran("sample", "digits-s", "--n", 12, "--columns", 5, "--out", out, "--guidance", 1.5, "--condition", 3)
    record = json.loads(out.with_suffix(".json").read_text())
    assert "12 images of digits-s-guidance-1.5 by scd-mc" in said
    assert (record["window"], record["conditions"]) == (16, ["3"] * 12)
    assert torch.tensor(record["tokens"]).shape == (12, 64)
    assert 5 < sum(record["passes"]) / 12 < 40
    first = torch.tensor(record["tokens"][0]).view(8, 8) / 16
    shown = torch.from_numpy(imread(out)[:, :, 0])[:56, :56]
    assert (shown - first.repeat_interleave(7, 0).repeat_interleave(7, 1)).abs().max() < 0.01
    before = out.read_bytes()
    ran("sample", "digits-s", "--n", 12, "--columns", 5, "--out", out, "--guidance", 1.5, "--condition", 3)
    assert out.read_bytes() == before


def test_a_folder_is_sampled_and_timed_with_its_prompts(made, tmp_path):
    where = [made["janus"], "--condition", "[1, 7, 2]", "--condition", "[1, 2]", "--guidance", 3]
    ran("sample", *where, "--decoder", "sjd", "--n", 3, "--batch", 2, "--out", tmp_path / "janus.png")
    record = json.loads((tmp_path / "janus.json").read_text())
    assert record["conditions"] == ["[1, 7, 2]", "[1, 2]", "[1, 7, 2]"]
    out = tmp_path / "bench.json"
    said = ran("bench", *where, "--decoder", "scd-mc", "--batch", 2, "--rounds", 1, "--out", out)
    found = json.loads(out.read_text())
    assert found["model"] == "janus|guidance=3"
    assert found["checkpoint"] == record["checkpoint"] == fetched.digest(str(made["janus"]))
    assert [row["window"] for row in found["rows"]] == [None, 4, 8, 16]
    assert "drafts in a pass" in said


def test_rounds_of_a_bench_take_the_conditions_in_turn(tmp_path):
    def passes(*conditions):
        out = tmp_path / "bench.json"
        given = [word for one in conditions for word in ("--condition", one)]
        where = ["digits-s", "--batch", 2, "--rounds", 3, "--window", 8, "--decoder", "scd-mc", "--out", out, *given]
        ran("bench", *where)
        return json.loads(out.read_text())["rows"][1]["passes"]

    one, other = (passes(condition) for condition in (0, 4))
    assert one != other
    assert passes(0, 0, 4, 4, 0, 0) not in (one, other)  # the second round is of another class
    assert passes(0, 0, 0, 0, 0, 0, 4) == one


def test_what_a_draft_model_costs_is_told(tmp_path):
    common = ["digits-s", "--decoder", "sd", "--draft", "digits-s", "--window", 4, "--condition", 3]
    said = ran(
        "sample",
        *common,
        "--n",
        4,
        "--batch",
        2,
        "--guidance",
        2,
        "--processors",
        "top_k=9",
        "--out",
        tmp_path / "a.json",
    )
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["guidance"], record["processors"]) == (2.0, "top_k=9")
    drafts = sum(record["draft_passes"]) / 4
    assert drafts > sum(record["passes"]) / 4
    assert f"{drafts:.1f} passes of digits-s beside" in said
    said = ran("bench", *common, "--batch", 2, "--rounds", 1, "--out", tmp_path / "b.json")
    row = json.loads((tmp_path / "b.json").read_text())["rows"][1]
    told = f"passes of the draft model an image, which take {row['drafting']:.0%} of its seconds"
    assert told in " ".join(said.split())


def test_passes_that_a_decoder_leaves_out_are_told(tmp_path):
    (tmp_path / "cheat.py").write_text(
        "import dataclasses\n"
        "from specverify.decoders.registry import Settings, build\n"
        "from specverify.decoders.speculative import Speculative\n"
        "class Cheat(Speculative):\n"
        "    def step(self, state, model, draws):\n"
        "        model.laws(state.context, state.tokens[:, :0])\n"
        "        return super().step(state, model, draws)\n"
        "own = build('scd-mc', Settings(4))\n"
        "DECODER = Cheat(own.drafting, own.window, own.judging, own.claim)\n"
    )
    cheat = f"{tmp_path / 'cheat.py'}:DECODER"
    for command in (
        ["sample", "digits-s", "--n", 4],
        ["bench", "digits-s", "--batch", 4, "--rounds", 1, "--window", 4],
    ):
        said = ran(*command, "--decoder", cheat, "--out", tmp_path / f"{command[0]}.json")
        assert "passes are not what it says" in " ".join(said.split())
        said = ran(*command, "--decoder", "scd-mc", "--out", tmp_path / f"{command[0]}.json")
        assert "passes are not what it says" not in " ".join(said.split())


def test_a_folder_may_be_the_one_where_the_command_is_given(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made["causal"])
    out = tmp_path / "bench.json"
    where = [".", "--condition", "[1,2]", "--decoder", "scd-mc", "--window", 4]
    ran("bench", *where, "--rounds", 1, "--out", out)
    assert json.loads(out.read_text())["model"].startswith("causal")
    assert "3 images of causal" in ran("sample", *where, "--n", 3, "--out", tmp_path / "codes.json")


def test_relaxed_rules_and_draft_models_go_along(tmp_path):
    out = tmp_path / "bench.json"
    common = ["digits-s", "--batch", 2, "--rounds", 1, "--window", 4, "--out", out]
    ran("bench", *common, "--decoder", "sjd,sd", "--rule", "gsd-static=5", "--draft", "digits-s")
    rows = json.loads(out.read_text())["rows"]
    assert all(row["claim"] != "lossless" for row in rows[1:])
    assert rows[2]["draft_passes"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "digits-s", "--decoder", "scdmc"], "unknown decoder 'scdmc'; did you mean scd-mc"),
        (["sample", "digits-s", "--decoder", "sd"], "drafts with a second model; name one with --draft"),
        (["sample", "digits-s", "--window", "65"], "window 65 of digits-s: choose 1 to 64"),
        (["sample", "digits-s", "--out", "grid.jpg"], "grid.jpg is neither a .png"),
        (["sample", "digits-z"], "unknown image model 'digits-z'; did you mean digits-s"),
        (["sample", "digits-gmm"], "digits-gmm is a model of vectors, which specverify tradeoff --model digits-gmm"),
        (["sample", "digits-s", "--rule", "gsd=x"], "'x' is not a number; write --rule gsd=VALUE"),
        (["bench", "digits-s", "--decoder", "sjd-race", "--rule", "gsd"], "does not go with sjd-race; rules go with"),
        (["bench", "digits-s", "--window", "8;16"], "window '8;16' is not a list of numbers"),
        (["bench", "org/model"], "there is no folder org/model, .*specverify fetch org/model"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        ran(*arguments)
    assert not list(tmp_path.rglob("*.png"))


def test_codes_without_a_renderer_are_written_alone_and_no_picture_is_begun(made, tmp_path, monkeypatch):
    asked = ["sample", made["causal"], "--condition", "[1, 2]", "--n", 2, "--guidance", 1]
    said = ran(*asked, "--out", tmp_path / "codes.json")
    record = json.loads((tmp_path / "codes.json").read_text())
    assert len(record["tokens"]) == 2
    assert "codes.json" in said
    monkeypatch.setattr(sys.modules["specverify.decoders.run"], "sample", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"open_model a renderer=; or write tokens alone, with --out .*grid\.json"):
        ran(*asked, "--out", tmp_path / "grid.png")
    assert [path.name for path in tmp_path.iterdir()] == ["codes.json"]


def test_files_of_others_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "grid.png").write_bytes(b"mine")
    (tmp_path / "bench.json").write_text('{"schema": "mine"}')
    asked = ["digits-s", "--decoder", "sjd", "--window", 4, "--batch", 1]
    sample = ["sample", *asked, "--n", 1, "--out", tmp_path / "grid.png"]
    bench = ["bench", *asked, "--rounds", 1, "--out", tmp_path / "bench.json"]
    for command, name in ((sample, "grid.png"), (bench, "bench.json")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match=rf"{name} is there, and not from this command; .* --overwrite"):
            ran(*command)
        assert (tmp_path / name).read_bytes() == before
        ran(*command, "--overwrite")
        ran(*command)  # its own
        assert (tmp_path / name).read_bytes() != before


def test_samples_have_the_guidance_that_is_recommended(made, tmp_path):
    common = ["--n", 1, "--decoder", "ar", "--out", tmp_path / "grid.png"]
    assert "1 image of digits-s-guidance-1.5 by ar" in ran("sample", "digits-s", *common)
    assert "1 image of digits-s by ar" in ran("sample", "digits-s", *common, "--guidance", 1)
    assert "|guidance=5 by ar" in ran("sample", made["janus"], "--condition", "[1, 2]", *common)


def test_a_sheet_has_its_images_in_rows_and_colours_as_they_are():
    pixels = torch.zeros(3, 3, 60, 64)
    pixels[1, 0], pixels[2, 2] = 1.0, 0.5
    found = pictures.sheet(pixels, 2)
    assert found.shape == (122, 130, 3)
    assert found[0, 66].tolist() == [255, 0, 0]
    assert found[62, 0].tolist() == [0, 0, 128]
    assert found[62, 66].tolist() == found[0, 64].tolist() == [255, 255, 255]


@pytest.mark.slow
def test_a_folder_is_swept_with_its_prompts(made, tmp_path):
    model = ["--model", made["janus"], "--condition", "[1, 7, 2]", "--condition", "[1, 2]", "--processors", "top_k=9"]
    rules = ["--rules", "scaling", "--drafting", "maximal", "--only", "*/scaling/*=2"]
    asked = [*rules, "--window", 4, "--guidance", "1,3"]
    out = tmp_path / "swept"
    said = ran("tradeoff", *model, *asked, "--n", 12, "--batch", 4, "--jobs", 1, "--dtype", "float64", "--out", out)
    assert "fewest passes" in said
    record = json.loads((out / "tradeoff.json").read_text())
    assert record["setting"]["conditions"] == [[1, 7, 2], [1, 2]]
    assert (record["setting"]["dtype"], record["setting"]["processors"]) == ("float64", "top_k=9")
    assert "--condition '[1, 7, 2]' --condition '[1, 2]'" in record["command"]
    rows = {row["id"]: row for row in record["rows"]}
    assert [row["error"] for row in rows.values()] == [None] * 6
    plain, bold = rows["guidance-1/ar/seed-0"], next(row for row in rows.values() if row["rule"] == "scaling")
    assert "fd" not in plain["metrics"]
    assert bold["metrics"]["bias"]["value"] > 1e-3
    assert plain["z"] is not None
    assert abs(plain["z"]) < 5
    side = math.isqrt(len(plain["images"]["tokens"][0]) // 3)
    assert side <= 64
    assert 3 * side**2 == len(plain["images"]["tokens"][0])
    assert set(plain["images"]["labels"]) == {0, 1}
    for picture in ("tradeoff-maximal-guidance-3", "samples-maximal-guidance-1"):
        assert (out / "figures" / f"{picture}.png").is_file()
    assert "bias" in ran("show", out / "tradeoff.json", "--out", tmp_path / "again")


def test_codes_that_nothing_makes_pixels_of_are_swept_without_pictures(made, tmp_path):
    out = tmp_path / "swept"
    model = ["--model", made["causal"], "--condition", "[1, 2]", "--window", 4, "--n", 4, "--batch", 4, "--jobs", 1]
    ran("tradeoff", *model, "--rules", "lossless", "--drafting", "maximal", "--guidance", 1, "--out", out)
    record = json.loads((out / "tradeoff.json").read_text())
    rows = record["rows"]
    assert record["checkpoint"] == fetched.digest(str(made["causal"]))
    assert record["checkpoint"] in (out / "report.html").read_text()
    assert [(row["error"], row["images"]) for row in rows] == [(None, None)] * 3
    assert not list((out / "figures").glob("samples*"))


@pytest.mark.slow
def test_a_sweep_compiles_the_passes_and_says_so(made, tmp_path, traced_passes):
    out = tmp_path / "swept"
    model = [
        "--model",
        made["causal"],
        "--condition",
        "[1, 2]",
        "--window",
        4,
        "--n",
        4,
        "--batch",
        4,
        "--jobs",
        1,
        "--compile",
    ]
    ran("tradeoff", *model, "--rules", "lossless", "--drafting", "maximal", "--guidance", 1, "--out", out)
    record = json.loads((out / "tradeoff.json").read_text())
    assert traced_passes
    assert record["setting"]["compiled"] is True
    assert "--compile" in record["command"]
    assert [row["error"] for row in record["rows"]] == [None] * 3
    with pytest.raises(InputError, match="--compile: these are for models of ids, and digits-gmm has patches"):
        ran("tradeoff", "--model", "digits-gmm", "--n", 4, "--compile", "--out", tmp_path / "other")
