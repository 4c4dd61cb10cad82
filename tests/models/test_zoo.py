"""Weights of other projects: recognised, measured, refused."""

import importlib
import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import tiny_model
from sisr.errors import CheckpointError
from sisr.inference.probe import receptive_radius
from sisr.inference.tiled import TiledImage, upscale
from sisr.models import weights
from sisr.models.files import find_model
from sisr.models.model import load_model, recognise
from sisr.nets.compact import SRVGGNetCompact
from sisr.nets.rrdb import RRDBNet
from sisr.nets.srresnet import MSRResNet
from sisr.terminal import cli


def sisr(*argv: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in argv])
    return int(end.value.code or 0)


@pytest.fixture
def rrdb() -> RRDBNet:
    """A small ESRGAN network of ours, as published but for its size, with outputs like an image's."""
    torch.manual_seed(0)
    network = RRDBNet(num_feat=16, num_block=2, weight_scale=1.0).eval()
    nn.init.constant_(network.conv_last.bias, 0.5)  # type: ignore[arg-type]
    network.conv_last.weight.data.mul_(0.02)
    return network


@pytest.mark.parametrize(
    "form",
    [
        "weights.pth",
        "WEIGHTS.PTH",
        "average.pth",
        "weights.safetensors",
        "module.",
        "generator.",
        "_orig_mod.",
        "trained",
    ],
)
def test_spandrel_recognises_our_rrdb_as_esrgan_and_computes_the_same(form: str, rrdb: RRDBNet) -> None:
    state = rrdb.state_dict()
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    path = Path(form if "." in form[:-1] else "weights.pth")
    if form == "weights.safetensors":
        save_file(state, path)
    elif form == "average.pth":
        torch.save({"params": other, "params_ema": state}, path)
    elif form == "trained":  # all networks of a training in one, compiled and then spread over GPUs
        both = {f"module._orig_mod.generator.{n}": v for n, v in state.items()}
        torch.save({"state_dict": both | {"module._orig_mod.discriminator.x": torch.zeros(1)}}, path)
    else:
        torch.save({f"{form}{n}": v for n, v in state.items()} if form.endswith(".") else state, path)
    model = load_model(find_model(str(path), Path("runs")))
    assert (model.scale, model.meta) == (4, {"architecture": "ESRGAN 16nf 2nb"})
    lr = torch.rand(2, 3, 11, 13)
    with torch.no_grad():
        expected = rrdb(lr)
    assert expected.std() > 0.01
    assert (model.generator(lr) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("num_conv", [16, 32])
def test_spandrel_recognises_our_compact_network_and_computes_the_same(num_conv: int) -> None:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_conv=num_conv).eval()
    torch.save({"params_ema": network.state_dict()}, "compact.pth")
    model = load_model(find_model("compact.pth", Path("runs")))
    assert model.meta["architecture"].startswith("RealESRGAN Compact 64nf")
    lr = torch.rand(2, 3, 11, 13)
    with torch.no_grad():
        expected = network(lr)
    assert expected.std() > 0.01
    assert (model.generator(lr) - expected).abs().max() < 1e-5
    assert model.generator.tiling == network.tiling, "it may be tiled as exactly"


@pytest.mark.slow
def test_weights_of_others_are_measured_and_used_by_the_command_line(
    rrdb: RRDBNet, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"params_ema": rrdb.state_dict()}, "RRDB_x4.pth")
    Path("photos").mkdir()
    Image.effect_noise((48, 32), 40).convert("RGB").save("photos/a.png")
    assert sisr("evaluate", "RRDB_x4.pth", "bicubic", "--data", "photos", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["models"]
    assert (first["model"], second["model"]) == ("RRDB_x4.pth", "bicubic")
    assert first["mean"]["psnr_y"] != second["mean"]["psnr_y"]
    assert sisr("upscale", "photos/a.png", "--model", "RRDB_x4.pth", "--tile", "0", "-o", "whole.png") == 0
    assert sisr("upscale", "photos/a.png", "--model", "RRDB_x4.pth", "--tile", "9", "-o", "tiles.png") == 0
    whole, tiles = (np.asarray(Image.open(name)).astype(int) for name in ("whole.png", "tiles.png"))
    assert whole.shape == (128, 192, 3)
    assert np.abs(whole - tiles).max() <= 1


def test_weights_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), "linear.pth")
    with pytest.raises(CheckpointError, match=r"linear\.pth is of no architecture that spandrel knows"):
        recognise(Path("linear.pth"))
    save_file(nn.Linear(2, 2).state_dict(), "linear.safetensors")
    with pytest.raises(CheckpointError, match=r"no config\.json beside it.*no architecture"):
        load_model(Path("linear.safetensors"))


def test_without_spandrel_the_error_says_what_to_install(rrdb: RRDBNet, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(rrdb.state_dict(), "weights.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(CheckpointError, match=r"pip install 'sisr\[zoo\]'"):
        load_model(Path("weights.pth"))


@pytest.mark.parametrize("name", ["x.pth", "x.PTH", "x.safetensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page, not weights"),
        (b"\n <html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "is a pointer of Git LFS"),
        (b"", "is empty"),
    ],
)
def test_what_is_only_named_like_weights_is_called_what_it_is(content: bytes, what: str, name: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} {what}"):
        load_model(find_model(name, Path("runs")))


def test_text_is_not_called_code() -> None:
    Path("text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"it was not written by torch\.save, or is damaged"):
        weights.read(Path("text.pth"))


def test_an_esrgan_of_another_growth_is_refused_in_two_lines_with_both_shapes() -> None:
    torch.save(RRDBNet(16, 1, 8).state_dict(), "narrow.pth")
    with pytest.raises(CheckpointError) as error:
        load_model(Path("narrow.pth"))
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    assert "[8, 16, 3, 3]" in said
    assert "[32, 16, 3, 3]" in said


def test_a_model_s_weights_of_another_width_are_named_with_both_shapes(tmp_path: Path) -> None:
    folder = tiny_model.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["config"]["num_features"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    fits = r"does not fit recipe 'pixelshuffle' as configured: 'entry.weight' has the shape \(8, .*\(16, .*; 1 more"
    with pytest.raises(CheckpointError, match=fits):
        load_model(folder)


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.ckpt"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(name: str) -> None:
    torch.save({"params": Evil()}, name)
    with pytest.raises(CheckpointError, match="can't be read as weights: it holds Python objects"):
        load_model(Path(name))
    Path("plain.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="can't be read as weights"):
        load_model(Path("plain.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [{}, [1], {"params": {"a": 3}}, 5])
def test_a_file_without_tensors_is_refused(content: Any) -> None:
    torch.save(content, "empty.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        weights.read(Path("empty.pth"))


def test_the_halo_of_convolutions_is_what_the_network_says_of_itself() -> None:
    for network in (RRDBNet(8, 1, 4), RRDBNet(8, 3, 4)):
        assert receptive_radius(network) == network.tiling.halo
    sub_pixel = MSRResNet(8, 2)
    own = sub_pixel.tiling.halo or 0
    assert own <= (receptive_radius(sub_pixel) or 0) <= own + 1


def test_the_halo_covers_all_that_an_output_pixel_depends_on() -> None:
    torch.manual_seed(0)
    down = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=2, dilation=2), nn.PixelShuffle(2))
    radius = receptive_radius(down)
    assert radius == 5
    lr = torch.rand(1, 3, 32, 32, requires_grad=True)
    for at in (14, 15):
        (gradient,) = torch.autograd.grad(down(lr)[0, :, at, at].sum(), lr)
        columns = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        assert max(at - columns.min(), columns.max() - at) <= radius


class Averages(nn.Module):
    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return lr - lr.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    "layer",
    [
        Averages(),
        nn.Conv2d(3, 3, 3, stride=2, padding=1),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3),
        nn.MaxPool2d(3, 1, 1),
    ],
)
def test_what_is_no_plain_convolution_has_no_halo(layer: nn.Module) -> None:
    assert receptive_radius(nn.Sequential(layer)) is None


@pytest.mark.slow
def test_a_network_that_looks_at_everything_says_so() -> None:
    architecture: Any = importlib.import_module("spandrel.architectures.RCAN")
    torch.manual_seed(0)  # whose random channel attention answers to the change of a single pixel
    torch.save(architecture.RCAN(n_resgroups=1, n_resblocks=1, n_feats=16).state_dict(), "rcan.pth")
    generator = recognise(Path("rcan.pth"))
    assert generator.tiling.halo is None
    lr = torch.rand(1, 3, 40, 40)
    assert upscale(generator, lr).shape == (1, 3, 160, 160)
    with pytest.raises(ValueError, match="can't work in tiles"):
        upscale(generator, lr, tile=16)


NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "SPAN": ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    "PLKSR": ("PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "SwinIR": (
        "SwinIR",
        {
            "img_size": 16, "window_size": 8, "depths": [2], "num_heads": [2], "embed_dim": 12, "mlp_ratio": 2,
            "upscale": 2, "upsampler": "pixelshuffledirect",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_unknown_reach_works_in_tiles_as_closely_as_it_says(name: str) -> None:
    module, options = NETWORKS[name]
    torch.manual_seed(0)
    network = getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)(**options)
    torch.save(network.state_dict(), "network.pth")
    generator = recognise(Path("network.pth"))
    assert generator.tiling.halo is None
    lr = torch.rand(1, 3, 83, 96, generator=torch.Generator().manual_seed(1))
    read = lambda rows, columns: lr[:, :, rows[:, None], columns]  # noqa: E731
    note = TiledImage(generator, 83, 96, read, tile=32).note
    said = re.fullmatch(r"approximate: tiles with \d+ px of context; .* a sample: ([\d.]+) grey levels", note)
    assert said
    largest = 255 * (upscale(generator, lr, tile=32) - upscale(generator, lr, tile=0)).abs().max()
    assert largest <= float(said[1]) + 1
    assert TiledImage(generator, 83, 96, read).note == "", "what fits into memory is computed in one piece"
