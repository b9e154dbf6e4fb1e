"""MAR beside what is published of it: names and sizes of tensors, denoising, sizes of steps, pixels, files."""

import json
import math
import re
import shutil

import folders
import pytest
import torch
from folders import opened_mar as opened
from torch import nn

from realmodels.adapters import mar_net
from realmodels.adapters.mar import cosine
from realmodels.adapters.mar_net import Network, Shape, Side
from realmodels.models import open_model
from specverify.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.mar(tmp_path_factory.mktemp("tiny") / "mar")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("side", "blocks", "hidden", "size"),
    [
        (Side(768, 12, 12), 6, 1024, 208e6),
        (Side(1024, 16, 16), 8, 1280, 479e6),
        (Side(1280, 20, 16), 12, 1536, 943e6),
    ],
)
def test_tensors_have_its_names_and_its_sizes(side, blocks, hidden, size):
    with torch.device("meta"):
        tensors = Network(Shape(16, 256, 1000, 64, side, side, hidden, blocks), *mar_net.schedule(4)).state_dict()
    assert sum(tensor.numel() for tensor in tensors.values()) == pytest.approx(size, rel=3e-3)
    linear = ("z_proj", "z_proj_ln", "encoder_norm", "decoder_embed", "decoder_norm")
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    head = (
        "time_embed.mlp.0", "time_embed.mlp.2", "cond_embed", "input_proj", "res_blocks.N.in_ln", "res_blocks.N.mlp.0",
        "res_blocks.N.mlp.2", "res_blocks.N.adaLN_modulation.1", "final_layer.linear", "final_layer.adaLN_modulation.1",
    )  # fmt: skip
    layers = (*linear, *(f"{s}_blocks.N.{name}" for s in ("encoder", "decoder") for name in block))
    layers = (*layers, *(f"diffloss.net.{name}" for name in head))
    assert {re.sub(r"(blocks)\.\d+", r"\1.N", name) for name in tensors} == {
        *(f"{name}.{part}" for name in layers for part in ("weight", "bias")),
        *(f"{side}_pos_embed_learned" for side in ("encoder", "decoder", "diffusion")),
        *("class_emb.weight", "fake_latent", "mask_token"),
    }


@torch.no_grad()
def test_a_step_of_denoising_is_that_of_the_paper(folder):
    """The posterior of x_(t-1) given the x_0 that the noise stands for, on 7 of 1,000 times of a cosine schedule."""
    model = opened(folder, guidance=2.5, schedule="constant", denoising=7)
    net, law = model.network.diffloss["net"], model.laws(model.start(2), torch.zeros(2, 0, 2, dtype=torch.float64))
    times = [0, 166, 333, 500, 666, 832, 999]
    bar = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    kept, product = [], 1.0
    for t in range(1000):
        product *= 1 - min(1 - bar[t + 1] / bar[t], 0.999)
        kept.append(product)
    kept = [1.0, *(kept[t] for t in times)]
    beta = [0.0, *(1 - kept[t] / kept[t - 1] for t in range(1, 8))]
    posterior = [0.0, *(beta[t] * (1 - kept[t - 1]) / (1 - kept[t]) for t in range(1, 8))]
    posterior[1] = posterior[2]
    x = torch.randn(2, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in range(1, 8):
        rate = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        waves = torch.cat([torch.cos(times[t - 1] * rate), torch.sin(times[t - 1] * rate)]).double()
        condition = net.cond_embed(law.condition.features) + net.time_embed.mlp(waves)
        h = net.input_proj(x)[:, :, None]
        for block in net.res_blocks:
            shift, scale, gate = block.adaLN_modulation(condition).chunk(3, -1)
            h = h + gate * block.mlp(block.in_ln(h) * (1 + scale) + shift)
        shift, scale = net.final_layer.adaLN_modulation(condition).chunk(2, -1)
        h = nn.functional.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
        noise, place = net.final_layer.linear(h).chunk(2, -1)
        noise = noise[:, :, 1] + 2.5 * (noise[:, :, 0] - noise[:, :, 1])
        share = (place[:, :, 0] + 1) / 2
        variance = (share * math.log(beta[t]) + (1 - share) * math.log(posterior[t])).exp()
        data = (x - math.sqrt(1 - kept[t]) * noise) / math.sqrt(kept[t])
        mean = math.sqrt(kept[t - 1]) * beta[t] / (1 - kept[t]) * data
        mean = mean + math.sqrt(1 - beta[t]) * (1 - kept[t - 1]) / (1 - kept[t]) * x
        found = law.transition(t, x)
        assert (found.mean - mean).abs().max() < 1e-6 * (1 + mean.abs().max())
        assert (found.scale - variance.sqrt()).abs().max() < 1e-9
    table, _ = mar_net.schedule(100)
    assert [round(float(bound.exp().sqrt()), 4) for bound in table[2:, 1]] == [0.0062, 0.0064]  # with all 100 steps


def test_guidance_grows_with_the_share_that_is_known(folder):
    model = opened(folder, block=(1, 1, 4, 3), guidance=2.5)
    law = model.laws(model.start(1), torch.zeros(1, 8, 2, dtype=torch.float64))
    share = [1 / 9, 2 / 9, *[6 / 9] * 4, *[8 / 9] * 3]  # its sampler counts a last token as unknown to the end
    assert torch.allclose(law.condition.guidance[0, :, 0], 1 + 1.5 * torch.tensor(share, dtype=torch.float64))
    assert model.name == "mar-4-steps-guidance-2.5"


def test_the_sizes_of_its_own_steps():
    assert cosine(256, 256) == (1,) * 256
    sizes = cosine(256, 64)
    masked = [256 - sum(sizes[: k + 1]) for k in range(64)]
    assert sizes[:3] + sizes[-3:] == (1, 1, 1, 6, 6, 6)
    assert masked[20:] == [math.floor(256 * math.cos(math.pi / 2 * (k + 1) / 64)) for k in range(20, 63)] + [0]
    with pytest.raises(InputError, match=r"use 1\.\.256"):
        cosine(256, 257)


@torch.no_grad()
def test_images_are_decoded_by_levels_that_are_numbered_from_the_finest(folder):
    tensors = torch.load(folder / "kl.ckpt")["model"]
    conv, norm = nn.functional.conv2d, nn.functional.group_norm

    def of(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def normed(x, name):
        return norm(x, 32, *of(name), eps=1e-6)

    def block(x, name):
        y = conv(nn.functional.silu(normed(x, f"{name}.norm1")), *of(f"{name}.conv1"), padding=1)
        y = conv(nn.functional.silu(normed(y, f"{name}.norm2")), *of(f"{name}.conv2"), padding=1)
        return y + (conv(x, *of(f"{name}.nin_shortcut")) if f"{name}.nin_shortcut.weight" in tensors else x)

    model = opened(folder)
    latents = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(0))
    x = latents.mT.unflatten(-1, (3, 3)) / 0.2325
    x = conv(conv(x, *of("post_quant_conv")), *of("decoder.conv_in"), padding=1)
    x = block(x, "decoder.mid.block_1")
    y = normed(x, "decoder.mid.attn_1.norm")
    q, k, v = (conv(y, *of(f"decoder.mid.attn_1.{name}")).flatten(2).mT for name in "qkv")
    y = nn.functional.scaled_dot_product_attention(q, k, v).mT.unflatten(-1, (3, 3))
    x = block(x + conv(y, *of("decoder.mid.attn_1.proj_out")), "decoder.mid.block_2")
    x = block(block(x, "decoder.up.1.block.0"), "decoder.up.1.block.1")
    x = conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), *of("decoder.up.1.upsample.conv"), padding=1)
    x = block(block(x, "decoder.up.0.block.0"), "decoder.up.0.block.1")
    x = conv(nn.functional.silu(normed(x, "decoder.norm_out")), *of("decoder.conv_out"), padding=1)
    found = model.render(latents)
    assert found.shape == (2, 3, 6, 6)
    assert (found - (x / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-5
    assert found.std() > 0.05


def test_without_an_autoencoder_there_are_no_pixels(copy):
    settings = json.loads((copy / "image-model.json").read_text())
    del settings["autoencoder"]
    (copy / "image-model.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no autoencoder"):
        opened(copy).render(torch.zeros(1, 9, 2))


def test_what_opens_models_of_ids_says_what_opens_this_one(folder):
    with pytest.raises(InputError, match=r"use realmodels\.adapters\.mar\.Mar"):
        open_model(folder, conditions=[0])


class Runs:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_files_are_never_unpickled(copy, capsys):
    torch.save({"model_ema": Runs()}, copy / "last.pth")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        opened(copy)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": "other.pth"}, "other.pth does not exist; download it again, or name another"),
        ({"weights": "image-model.json"}, "cannot be read as tensors alone"),
        ({"heads": None}, "does not hold MAR's weights"),
        ({"weights": "kl.ckpt"}, "does not hold MAR's weights"),
        ({"autoencoder": "last.pth"}, "does not hold MAR's autoencoder"),
        ({"heads": [3, 3]}, "encoder is 16 wide, of 3 heads; set heads"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(copy, settings, said):
    path = copy / "image-model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    with pytest.raises(InputError, match=said):
        opened(copy)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"guidance": -1}, "guidance -1 is not a finite number"),
        ({"order": "hilbert"}, "unknown order 'hilbert'; choose random or raster"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'; choose linear or constant"),
        ({"denoising": 1}, r"1 denoising steps; the head was trained with 1000: use 2\.\.1000"),
        ({"dtype": torch.bfloat16}, "too coarse for densities"),
        ({"block": 0}, "block 0: a step predicts at least one"),
        ({"block": (4, 4)}, r"blocks of \[4, 4\] are 8 positions"),
        ({"classes": [4]}, r"class labels \[4\] are not all in 0\.\.3"),
        ({"classes": []}, "give one label per row"),
    ],
)
def test_an_argument_out_of_range_is_refused(folder, settings, said):
    with pytest.raises(InputError, match=said):
        opened(folder, **settings)
