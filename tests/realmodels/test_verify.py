"""`specverify verify --real FOLDER`: the campaign's cells on a model of the user's, and what they refuse."""

import json
import re
import shlex
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from realmodels.models import open_model
from specverify import campaign, cli, fetched, sensitivity
from specverify import plan as plans
from specverify.cell import Cell
from specverify.cells import carry_out
from specverify.cli_opening import Dtype, asked_real
from specverify.conformance import TOLERANCE, Conformance
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import sample
from specverify.errors import InputError
from specverify.kinds import disagreement
from specverify.kinds import real as kind
from specverify.kinds.kind import Setting, seed_of
from specverify.opening import USUAL, Real
from specverify.plan import plan
from specverify.report.tables import provenance

PROMPTS = ((1, 7, 2), (1, 2))
ASKED = ["--condition", "[1, 7, 2]", "--condition", "[1, 2]", "--guidance", "1,3", "--batch", "100", "--jobs", "1"]


def ran(*arguments, codes=(0,)):
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code in codes, result.output
    return result.output


def verified(out, *arguments, codes=(0,)):
    ran("verify", *arguments, "--out", out, codes=codes)
    return json.loads((out / "record.json").read_text())


@pytest.fixture
def few(monkeypatch):
    """A twentieth of the images: too few for an answer, and enough to see how one is come to."""
    monkeypatch.setattr(plans, "MORE", plans.MORE / 20)


def test_the_plan_is_that_of_any_real_model_with_as_many_tokens(made):
    own = Real(str(made["janus"]), PROMPTS, guidance=(1.0, 3.0), batch=100)
    cells = [cell for cell in plan("quick", real=own) if cell.guidance is not None]
    usual = [cell for cell in plan("quick") if cell.guidance is not None]
    assert [(c.kind, c.decoder, c.window) for c in cells] == [(c.kind, c.decoder, c.window) for c in usual]
    assert {cell.model for cell in cells} == {"janus"}
    assert {cell.guidance for cell in cells} == {1.0, 3.0}
    assert {cell.batch for cell in cells} == {1, 100}
    whole = next(cell for cell in cells if cell.id == "real/sjd/janus/w16/repeat-left/g3/b100")
    assert whole.n == 1600 * 1.6 * 64 / 16
    assert max(cell.n for cell in cells if cell.kind == "paired") == 200
    assert len({cell.id for cell in plan("full", real=own)}) == len(plan("full", real=own))


def test_what_is_opened_in_another_way_is_called_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = {
        "digits-s": "digits-s",
        "checkpoints/Janus-Pro-1B/": "Janus-Pro-1B",
        "a/my model [v2]": "my-model-v2",
        "models/digits-s": "digits-s-own",
        "hash-16x24/": "hash-16x24-own",
        ".": tmp_path.name,
    }
    assert {model: Real(model).label for model in labels} == labels
    assert Real(processors="top_k=3").label == Real(conditions=(3,)).label == "digits-s-own"
    assert Real(guidance=(2.0,)).label == "digits-s"
    folders = [Real(), Real("mnist-vq"), Real("a/x"), Real("b/x"), Real("a/x", ("cat",)), Real("a/x", guidance=(2.0,))]
    assert len({one.folder for one in folders}) == len(folders)
    assert (folders[0].folder, folders[1].folder) == ("digits-s", "mnist-vq")


@pytest.mark.parametrize(
    "real",
    [
        USUAL,
        Real("mnist-vq"),
        Real(
            "a b/Janus", ('it\'s "red"', (1, 2), 7), "float64", "temperature=0.9,top_k=5", guidance=(1.0, 4.5), batch=16
        ),
        Real("mnist-vq", compiled=True),
    ],
)
def test_the_words_of_a_command_say_all_that_was_asked(real):
    words = [word for word in shlex.split(" ".join(real.words)) if word != "--compile"]
    given = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        given.setdefault(option, []).append(value)
    last = {option: values[-1] for option, values in given.items()}
    batch = last.get("--batch")
    found = asked_real(
        last.get("--real"),
        given.get("--condition"),
        Dtype(last.get("--dtype", "float32")),
        last.get("--processors", ""),
        "--compile" in real.words,
        last.get("--guidance"),
        None if batch is None else int(batch),
    )
    assert (found or USUAL) == real


@pytest.mark.slow
def test_compiled_passes_are_tested_as_others_are(made, traced_passes):
    own = Real(str(made["causal"]), PROMPTS, compiled=True, batch=100)
    cell = Cell("real", "sjd", "causal", 4, "repeat-left", guidance=1.0, n=100, batch=100)
    alphas = dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4)
    result = carry_out(cell, Setting("quick", 0, "cpu", alphas, own))
    assert traced_passes
    assert not [row["check"] for row in result["evidence"] if row["rejected"]]
    assert "laws of windows and of single tokens differ by at most" in result["verdict"]["reason"]
    assert Real("mnist-vq", compiled=True).label == "mnist-vq-own"  # opened in another way than it ships


def test_a_folder_is_tested_with_its_prompts(made, few, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "_report", lambda record, out: None)
    only = "real/sjd/janus/*/g3/b100"
    record = verified(tmp_path / "one", "--real", made["janus"], *ASKED, "--only", only, codes=(2,))
    (tested,) = record["cells"]
    assert tested["id"] == "real/sjd/janus/w16/repeat-left/g3/b100"
    assert tested["verdict"]["kind"] == "INCONCLUSIVE"
    assert "sees" in tested["verdict"]["reason"]
    assert not any(row["rejected"] for row in tested["evidence"])
    pictures = tested["figures"]["images"]
    assert (pictures["height"], pictures["width"], set(pictures["labels"])) == (16, 16, {0, 1})
    assert len(pictures["tokens"][0]) == 3 * 16 * 16
    assert tested["run"]["tokens"] == 16 * tested["run"]["n"]
    notes = "\n".join(record["not_covered"])
    assert "other classes or prompts of janus than the 2 that were given" in notes
    assert f"that is known of {sensitivity.MODEL} alone" in notes
    assert "sensitivity" not in record
    assert record["checkpoint"] == fetched.digest(str(made["janus"]))
    assert record["checkpoint"] in str(provenance(record))


@pytest.mark.parametrize("n", [3, 12])
def test_single_images_are_of_all_conditions_in_turn(n):
    cell = Cell("real", "scd-mc", "digits-s", 16, "repeat-left", guidance=1.5, n=n, batch=1)
    setting, decoder = Setting("quick", 0, "cpu", {}), build("scd-mc", Settings(16))
    found, model, seed = carry_out(cell, setting), open_model("digits-s", guidance=1.5), seed_of(cell, setting)
    models = [model.like(conditions=[row % 10]) for row in range(n)]
    passes = [int(sample(decoder, one, 1, seed, 1, row).passes) for row, one in enumerate(models)]
    assert found["run"]["passes_mean"] == pytest.approx(sum(passes) / n)
    assert found["verdict"]["kind"] == "VACUOUS"
    last = "these are of the first 3 of 10 conditions" if n == 3 else "tested in larger batches"
    assert found["verdict"]["reason"].endswith(last)


def test_single_images_that_are_held_against_plain_decoding_are_of_all_conditions_in_turn():
    cell = Cell("paired", "sjd-race", "digits-s", 8, guidance=1.5, n=12, batch=1)
    setting, model = Setting("quick", 0, "cpu", {}), open_model("digits-s", guidance=1.5, dtype=torch.float64)
    found, seed = carry_out(cell, setting), seed_of(cell, setting)
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert "conditions" not in found["verdict"]["reason"]
    models = [model.like(conditions=[row % 10]) for row in range(12)]
    decoder = build("sjd-race", Settings(8))
    passes = [int(sample(decoder, one, 1, seed, 1, row).passes) for row, one in enumerate(models)]
    assert found["run"]["passes_mean"] == pytest.approx(sum(passes) / 12)


def test_a_cell_is_carried_out_again_by_its_own_line_and_no_other_setting_takes_its_results(
    made, tmp_path, monkeypatch
):
    monkeypatch.setattr(campaign, "_report", lambda record, out: None)
    folder = shutil.copytree(made["janus"], tmp_path / "it's [mine]")
    only = ["--real", folder, *ASKED, "--only", "paired/*/it-s-mine/*/g3/*"]
    record = verified(tmp_path / "one", *only)
    assert [cell["verdict"]["kind"] for cell in record["cells"]] == ["CONSISTENT"] * 2
    assert "--condition '[1, 7, 2]' --condition '[1, 2]' --guidance 1,3 --batch 100" in record["command"]
    (pair,) = (cell for cell in record["cells"] if cell["settings"]["batch"] == 1)
    again = shlex.split(pair["reproduce"])
    assert again[:2] == ["specverify", "verify"]
    (cell,) = verified(tmp_path / "two", *again[2:], "--jobs", "1")["cells"]
    for each in (cell, pair):
        each["seconds"] = each["run"]["seconds"] = each["run"]["tokens_per_second"] = 0
    assert cell == pair
    with pytest.raises(InputError, match=r"holds a finished campaign of other settings"):
        verified(tmp_path / "one", *only, "--processors", "top_k=9")
    weights = load_file(folder / "model.safetensors")  # trained once more, in the same folder
    weights = {name: weight * 1.01 for name, weight in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"holds a finished campaign of other settings or weights"):
        verified(tmp_path / "one", *only)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("dtype", "n"), [("bfloat16", 600), ("float16", 100)])
def test_in_half_precision_tokens_are_held_against_the_laws_that_judged_them(made, dtype, n):
    own = Real(str(made["janus"]), PROMPTS, dtype, guidance=(3.0,), batch=100)
    cell = Cell("real", "scd-mc", "janus", 4, "repeat-left", guidance=3.0, n=n, batch=100)
    alphas = dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4)
    result = carry_out(cell, Setting("quick", 0, "cpu", alphas, own))
    assert not [row["check"] for row in result["evidence"] if row["rejected"]]
    assert {"ids", "repetition"} <= {row["check"] for row in result["evidence"]}
    said = re.search(
        r"the laws of the passes that judged them, which differ from those of single tokens by (\S+) in total "
        r"variation on average and (\S+) at most, over 1,600 laws of 100 sequences: nothing finer",
        result["verdict"]["reason"],
    )
    assert said, result["verdict"]
    mean, largest = map(float, said.groups())
    assert 0 <= mean <= largest < TOLERANCE[getattr(torch, dtype)]
    assert any(
        f"what the passes that judged its tokens give, in {dtype}" in each for each in kind.KIND.not_covered(own)
    )


def test_a_known_wrong_decoder_is_refuted_in_half_precision(made):
    cell = Cell("defect", "residual-rewarped", "janus", 4, "repeat-left", guidance=1.0, n=600, batch=100)
    alphas = dict.fromkeys((f"{cell.id}: {check}" for check in kind.checks(cell)), 1e-4)
    own = Real(str(made["janus"]), PROMPTS, "bfloat16", batch=100)
    assert carry_out(cell, Setting("quick", 0, "cpu", alphas, own))["verdict"]["kind"] == "REFUTED"


def test_laws_that_rounding_does_not_part_so_far_are_an_error(made, monkeypatch):
    monkeypatch.setattr(kind, "tolerance_of", lambda _: -1.0)
    cell = Cell("real", "sjd", "janus", 4, guidance=1.0, n=4, batch=2)
    result = carry_out(cell, Setting("quick", 0, "cpu", {}, Real(str(made["janus"]), PROMPTS, "bfloat16")))
    assert result["verdict"]["kind"] == "ERROR"
    assert "hold the model against specverify.conformance" in result["verdict"]["reason"]


@pytest.mark.slow
def test_a_folder_is_judged_and_a_known_wrong_decoder_caught_there(made, tmp_path):
    asked = ["--real", made["janus"], *ASKED, "--guidance", "1"]
    record = verified(tmp_path / "out", *asked, "--only", "*/janus/*b100*")
    found = {cell["id"]: cell["verdict"] for cell in record["cells"]}
    assert found.pop("defect/residual-rewarped/janus/w16/repeat-left/g1/b100/n10240")["kind"] == "REFUTED"
    assert {verdict["kind"] for verdict in found.values()} == {"CONSISTENT"}
    assert record["verdict"]["kind"] == "CONSISTENT"
    assert "laws of windows and of single tokens differ by at most" in found["real/ar/janus/g1/b100"]["reason"]
    assert (tmp_path / "out" / "figures" / "samples-1.png").is_file()


def test_codes_that_nothing_makes_pixels_of_are_tested_without_pictures(made, few, tmp_path):
    asked = ["--real", made["causal"], "--condition", "[1, 2]", "--processors", "temperature=0.9", "--jobs", 1]
    record = verified(tmp_path / "out", *asked, "--only", "real/ar/causal/g1/b400", codes=(2,))
    (cell,) = record["cells"]
    assert "images" not in cell["figures"]
    assert cell["evidence"]
    assert "pictures of 1 real cells: nothing here makes pixels of their codes" in record["not_covered"]
    assert not list((tmp_path / "out" / "figures").glob("samples*"))


def test_digits_with_options_are_not_called_as_they_ship(few, tmp_path):
    asked = ["--condition", 3, "--condition", 5, "--dtype", "float64", "--jobs", 1]
    record = verified(tmp_path / "out", *asked, "--only", "real/scd-mc/digits-s-own/*/b1", codes=(2,))
    (cell,) = record["cells"]
    assert (cell["run"]["n"], cell["evidence"]) == (20, [])
    assert cell["reproduce"].endswith("/b1' --condition 3 --condition 5 --dtype float64")
    assert "sensitivity" not in record


def test_a_model_whose_windows_are_not_its_single_tokens_is_an_error(made, monkeypatch):
    found = Conformance(
        "janus", ("batch", "end"), "2 rows", ("windows: at position 3 of row 1 ...",), 0.4, 1e-4, 1.0, ""
    )
    monkeypatch.setattr(disagreement, "conformance", lambda *_, **__: found)
    monkeypatch.setattr(disagreement, "_SEAMS", {})
    cell = Cell("real", "ar", "janus", guidance=1.0, n=4, batch=2)
    result = carry_out(cell, Setting("quick", 0, "cpu", {}, Real(str(made["janus"]), PROMPTS)))
    assert result["verdict"] == {"kind": "ERROR", "reason": "windows: at position 3 of row 1 ..."}


def test_cells_are_listed_as_they_would_be_run(made, tmp_path):
    bare = shutil.copytree(made["causal"], tmp_path / "bare")
    settings = json.loads((bare / "image-model.json").read_text())
    (bare / "image-model.json").write_text(json.dumps({**settings, "unconditional": None}))
    asked = ["list", "cells", "--real", bare, "--condition", "[1, 2]"]
    with pytest.raises(InputError, match=r"needs a prompt without condition"):
        ran(*asked)
    assert "real/scd-mc/bare/w16/repeat-left/g1/b50" in ran(*asked, "--guidance", 1, "--batch", 50).splitlines()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--real", "{janus}"], "is a checkpoint, whose model has no classes of its own: say .* with --condition"),
        (["--real", "{bare}", "--condition", "[1, 2]"], r"needs a prompt without condition.*\(--guidance 1\)"),
        (["--real", "{janus}", "--condition", "[99999]"], "99999"),
        (["--real", "org/model", "--condition", "cat"], "there is no folder org/model, .*specverify fetch org/model"),
        (["--real", "mnist-v"], "unknown image model 'mnist-v'; did you mean mnist-vq"),
        (["--guidance", "-1"], "guidance -1.0 is not a finite number"),
        (["--guidance", "1;3"], "guidance '1;3' is not a list of numbers; write --guidance 1, or 1,1.5"),
        (["--batch", "1"], "batch 1 is not at least 2"),
        (["--processors", "top_z=3"], "top_z"),
    ],
)
def test_what_cannot_be_run_is_said_with_the_remedy_before_the_work(made, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    bare = shutil.copytree(made["causal"], tmp_path / "bare")
    settings = json.loads((bare / "image-model.json").read_text())
    (bare / "image-model.json").write_text(json.dumps({**settings, "unconditional": None}))
    with pytest.raises(InputError, match=said):
        ran("verify", *(one.format(janus=made["janus"], bare=bare) for one in arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_a_batch_that_does_not_fit_is_said_before_it_is_taken(made, tmp_path, monkeypatch):
    monkeypatch.setattr("specverify.room.available", lambda: 2**20)
    with pytest.raises(InputError, match=r"batch = 400 takes about .* choose a smaller --batch"):
        ran("verify", "--real", made["janus"], "--condition", "[1, 2]", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
