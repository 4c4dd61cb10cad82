"""Networks of other projects: built, trained and saved so that others recognise them again."""

import copy
import importlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import foreign
from sisr.errors import CheckpointError, ConfigError
from sisr.models import zoo
from sisr.models.export import export
from sisr.models.model import Model, load_model
from sisr.models.zoo.span import OneKernel
from sisr.training import contract
from sisr.training.rehearsal import STEPS, Trainer, different
from two_workers import WORLD, on_two_workers

NAMES = list(foreign.NETWORKS)


def lr_of(network: zoo.Adapted) -> Tensor:
    side = network.tiling.padded(16)
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def of_spandrel(path: Path) -> Any:
    """Return a weights file as any program loads it that uses spandrel."""
    return importlib.import_module("spandrel").ModelLoader().load_from_file(path)


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_network_is_recognised_by_spandrel_and_computes_the_same(name: str, tmp_path: Path) -> None:
    network = foreign.build(name).eval()
    config = foreign.recipe_of(name).tiny().model_dump(mode="json")
    model = Model(name, network, {"format": 1, "recipe": "finetune", "config": config, "scale": 4})
    export(model, tmp_path / "x.safetensors", "safetensors")
    found = of_spandrel(tmp_path / "x.safetensors")
    assert type(found.model).__name__ == type(network).__name__
    lr = lr_of(network)[:1]
    with torch.inference_mode():
        expected = network(lr)
        torch.testing.assert_close(found(lr), expected.clamp(0, 1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(load_model(tmp_path / "x.safetensors").generator(lr), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_network_computes_in_training_what_it_is_judged_by_and_learns_everywhere(name: str) -> None:
    network = foreign.build(name)
    lr = lr_of(network)
    sr = network.train()(lr)
    sr.square().mean().backward()
    trained = {key: p.grad for key, p in network.named_parameters() if p.requires_grad}
    assert [key for key, gradient in trained.items() if gradient is None] == []
    with torch.no_grad():
        torch.testing.assert_close(sr, torch.cat([network.eval()(part[None]) for part in lr]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", ["gives every trainable value exactly one optimizer", "goes on after saving"])
def test_a_network_keeps_the_contract_of_recipes(promise: str, name: str) -> None:
    (check,) = [check for what, check in contract.CHECKS.items() if what.startswith(promise)]
    check(foreign.recipe_of(name))


def both_states(name: str, rank: int = 0, world: int = 1) -> dict[str, Any]:
    trainer = Trainer(foreign.recipe_of(name), torch.float64, rank, world)
    trainer.run(range(STEPS))
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    return dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))


def worker(rank: int) -> dict[str, Any]:
    return {name: both_states(name, rank, WORLD) for name in NAMES}


@pytest.mark.slow
def test_two_workers_train_every_network_like_one(tmp_path: Path) -> None:
    first, second = on_two_workers(worker, tmp_path)
    for name in NAMES:
        assert different(first[name], second[name]) == [], name
        torch.testing.assert_close(first[name], both_states(name), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_recognised_network_can_be_built_anew_from_what_is_recorded(name: str) -> None:
    network = foreign.build(name)
    found = zoo.recognise(network.state_dict(), name)
    assert isinstance(found, zoo.Adapted)
    recorded = found.architecture
    again = zoo.build(recorded.name, recorded.scale, recorded.options)
    assert again.architecture == recorded
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_autocast_to_bf16_gives_the_same_picture_to_half_a_grey_level_or_so(name: str) -> None:
    network = foreign.build(name).eval()
    lr = lr_of(network)[:1]
    with torch.no_grad():
        expected = network(lr)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(lr)
    assert (found.float() - expected).abs().max() < 0.02 * max(1.0, expected.abs().max().item())


def test_a_format_that_a_network_does_not_compute_in_is_left_out_for_it() -> None:
    network = foreign.build("SAFMN").eval()
    assert torch.float16 not in network.formats
    lr = lr_of(network)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert network(lr).dtype == torch.float32


def test_span_s_one_kernel_is_what_its_three_convolutions_and_the_one_beside_them_compute() -> None:
    network = foreign.build("SPAN")
    module = next(m for m in network.modules() if isinstance(m, OneKernel))
    published = copy.deepcopy(module)
    published.__class__ = type(module).__mro__[2]  # spandrel's own
    x = torch.rand(1, 3, 9, 7)
    ours, theirs = module(x), published.train()(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    of_ours = torch.autograd.grad(ours.sum(), list(module.conv.parameters()))
    of_theirs = torch.autograd.grad(theirs.sum(), list(published.conv.parameters()))
    torch.testing.assert_close(of_ours, of_theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(zoo.ready(network.eval())(lr_of(network)), foreign.build("SPAN").eval()(lr_of(network)))


def test_span_s_saved_kernel_is_that_of_its_saved_weights() -> None:
    trainer = Trainer(foreign.recipe_of("SPAN"))
    trainer.run(range(STEPS))
    state = trainer.recipe.generator.state_dict()
    module = next(m for m in trainer.recipe.generator.modules() if isinstance(m, OneKernel))
    torch.testing.assert_close(state["conv_1.eval_conv.weight"], module.kernel()[0])


def test_what_draws_random_numbers_is_off() -> None:
    network = zoo.build("SwinIR", 4, foreign.NETWORKS["SwinIR"] | {"drop_path_rate": 0.5, "drop_rate": 0.5})
    lr = lr_of(network)
    assert torch.equal(network.train()(lr), network.train()(lr))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Spann", {}, "no architecture 'Spann'; did you mean 'SPAN'"),
        ("Compact", {"num_feats": 8}, "Compact has no option 'num_feats'; did you mean 'num_feat'"),
        ("SwinIR", {"window_size": 8, "num_heads": [5]}, "SwinIR with upscale=4.* can't be built"),
        ("SPAN", {"img_range": 1.0}, r"taken for another network by its weights: img_range=255\.0 instead of 1\.0"),
        ("Compact", {"num_in_ch": 1, "num_out_ch": 1}, "for 1 -> 1 channels"),
        pytest.param("RestoreFormer", {}, "square images|RestoreFormer", marks=pytest.mark.slow),
    ],
)
def test_what_can_t_be_built_is_explained(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        zoo.build(name, 4, options)


def test_what_spandrel_calls_in_its_own_way_is_used_and_not_trained() -> None:
    architecture: Any = importlib.import_module("spandrel.architectures.DnCNN")
    torch.manual_seed(0)
    found = zoo.recognise(architecture.DnCNN(in_nc=3, out_nc=3, nc=8, nb=8, act_mode="R").state_dict(), "dncnn.pth")
    assert found(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(ConfigError, match="can be used, but not trained"):
        zoo.require_trainable(found, "dncnn.pth")


def test_names_of_an_older_esrgan_are_those_of_the_network_afterwards() -> None:
    from sisr.nets.rrdb import RRDBNet

    torch.manual_seed(0)
    ours = RRDBNet(8, 2, weight_scale=1.0).eval()
    network = zoo.build("ESRGAN", 4, {"num_filters": 8, "num_blocks": 2}).eval()
    network.load_state_dict(zoo.canonical(network, ours.state_dict(), "esrgan.pth"))
    lr = lr_of(network)
    with torch.no_grad():
        torch.testing.assert_close(network(lr), ours(lr), rtol=1e-4, atol=1e-5)


def test_a_weights_file_becomes_safetensors_with_nothing_but_its_weights(tmp_path: Path) -> None:
    torch.save({"params_ema": foreign.build("ESRGAN").state_dict()}, tmp_path / "x.pth")
    export(load_model(tmp_path / "x.pth"), tmp_path / "x.safetensors", "safetensors")
    assert of_spandrel(tmp_path / "x.safetensors").architecture.name == "ESRGAN"
    saved = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in foreign.build("ESRGAN").state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["pt2", "onnx"])
def test_what_exporters_make_of_attention_is_refused_in_one_line_that_says_what_else_holds_it(
    format_: str, tmp_path: Path
) -> None:
    model = Model("swin", zoo.ready(foreign.build("SwinIR").eval()), {})
    with pytest.raises(CheckpointError, match=r"--format safetensors holds the weights of any network$") as error:
        export(model, tmp_path / f"x.{format_}", format_)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_linear_layer_is_no_network_that_anybody_knows() -> None:
    with pytest.raises(CheckpointError, match="of no architecture that spandrel knows"):
        zoo.recognise(nn.Linear(2, 2).state_dict(), "linear.pth")
