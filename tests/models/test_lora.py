"""LoRAs: trained form and merged form are the same, merging is exact to undo, and files are checked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from musetalk.errors import InputError, OutputError
from musetalk.inpainting import positional_encoding
from musetalk.models.lora import (
    LoRA,
    apply_lora,
    apply_loras,
    load_lora,
    lora_patches,
    parse_lora,
    save_lora,
    with_loras,
)
from musetalk.models.lora_layers import extract_lora, inject_lora
from musetalk.models.low_rank import MAX_BYTES, targets_of
from musetalk.models.unet import UNet, UNetConfig

from .loras import DOWN, UP, random_lora

LATENTS = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 50, 384, generator=torch.Generator().manual_seed(2)) + positional_encoding(384)


@pytest.fixture
def unet(random_models, unet_weights) -> UNet:
    network = UNet(random_models.TINY_UNET)
    network.load_state_dict(unet_weights)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def config(random_models) -> UNetConfig:
    return random_models.TINY_UNET


@torch.no_grad()
def draw(unet: UNet) -> torch.Tensor:
    return unet(LATENTS.to(unet.conv_in.weight.dtype), TOKENS.to(unet.conv_in.weight.dtype))


def put_in(unet: UNet, lora: LoRA) -> None:
    for name, layer in lora.layers.items():
        target = unet.get_submodule(name)
        target.lora_A.weight.data.copy_(layer.down)
        target.lora_B.weight.data.copy_(layer.up)


def snapshot(unet: UNet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_fresh_lora_changes_nothing_and_alone_can_be_trained(unet, config):
    before, names = draw(unet), set(unet.state_dict())
    parameters = inject_lora(unet, rank=4)
    assert torch.equal(draw(unet), before)
    trainable = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    expected = {f"{name}{half}" for name in targets_of(config).shapes for half in (DOWN, UP)}
    assert trainable == expected
    assert set(unet.state_dict()) == names | expected
    assert len(parameters) == len(expected)


def test_every_attention_projection_is_a_target(config):
    shapes = targets_of(config).shapes
    blocks = {name.rsplit(".attn", 1)[0] for name in shapes}
    assert len(shapes) == 8 * len(blocks)
    middle = "mid_block.attentions.0.transformer_blocks.0"
    assert shapes[f"{middle}.attn2.to_k"] == (64, 384)
    assert shapes[f"{middle}.attn1.to_out.0"] == (64, 64)


def test_merged_draws_as_the_trained_form(unet, config):
    lora = random_lora(config)
    plain = draw(unet)
    with apply_lora(unet, lora):
        merged = draw(unet)
    inject_lora(unet, lora.rank, lora.alpha)
    put_in(unet, lora)
    injected = draw(unet)
    assert (merged - plain).abs().max() > 1e-2
    assert torch.allclose(merged, injected, atol=2e-5)
    extracted = extract_lora(unet)
    assert (extracted.rank, extracted.alpha) == (lora.rank, lora.alpha)
    assert all(torch.equal(extracted.layers[name].up, layer.up) for name, layer in lora.layers.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_removing_is_exact_in_every_precision_and_layout(unet, config, dtype):
    unet.to(dtype).to(memory_format=torch.channels_last)
    before = snapshot(unet)
    merged = apply_loras(unet, [(random_lora(config), 0.7), (random_lora(config, seed=1, only="attn2"), -1.3)])
    after = unet.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in targets_of(config).shapes}
    assert {tensor.dtype for tensor in after.values()} == {dtype}
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    merged.remove()
    merged.remove()
    assert same(snapshot(unet), before)


def test_loras_stack_and_come_out_in_reverse_order_only(unet, config):
    before = snapshot(unet)
    first, second = random_lora(config), random_lora(config, seed=1)
    with apply_loras(unet, [(first, 1.0), (second, 0.5)]):
        together = snapshot(unet)
    lower = apply_lora(unet, first)
    upper = apply_lora(unet, second, 0.5)
    assert all(torch.allclose(tensor, together[name], atol=1e-6) for name, tensor in unet.state_dict().items())
    with pytest.raises(InputError, match="remove the last merged first"):
        lower.remove()
    upper.remove()
    lower.remove()
    assert same(snapshot(unet), before)


def test_the_change_is_linear_in_strength_and_none_at_zero(unet, config):
    lora = random_lora(config)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    layer, before = unet.get_submodule(name), snapshot(unet)
    own = layer.weight
    changes = {}
    for strength in (1.0, 2.0, -1.0):
        with apply_lora(unet, lora, strength):
            changes[strength] = layer.weight - own
    expected = lora.layers[name].up @ lora.layers[name].down * (6.0 / 4)
    assert torch.allclose(changes[1.0], expected, atol=1e-6)
    assert torch.allclose(changes[2.0], 2 * expected, atol=1e-6)
    assert torch.allclose(changes[-1.0], -expected, atol=1e-6)
    with apply_lora(unet, lora, 0.0):
        assert layer.weight is own
        assert same(snapshot(unet), before)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(unet, config, strength):
    before = snapshot(unet)
    with pytest.raises(InputError, match="strength"):
        apply_lora(unet, random_lora(config), strength)
    assert same(snapshot(unet), before)


def test_a_lora_of_another_unet_is_not_merged(unet):
    with pytest.raises(InputError, match=r"changes down_blocks.*but the UNet has"):
        apply_lora(unet, random_lora(UNetConfig(block_out_channels=(32, 32, 32, 32), layers_per_block=1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 10**6}, "rank is 1000000"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"dropout": 1.0}, "dropout is 1"),
    ],
)
def test_impossible_options_are_refused(unet, options, message):
    before = set(unet.state_dict())
    with pytest.raises(InputError, match=message):
        inject_lora(unet, **options)
    assert set(unet.state_dict()) == before


def test_a_unet_takes_one_trainable_lora(unet):
    with pytest.raises(InputError, match="no trainable LoRA"):
        extract_lora(unet)
    inject_lora(unet, rank=2)
    with pytest.raises(InputError, match="has a trainable LoRA already"):
        inject_lora(unet, rank=2)


def test_dropout_acts_in_training_only(unet, config):
    inject_lora(unet, rank=4, dropout=0.5)
    put_in(unet, random_lora(config))
    assert torch.equal(draw(unet), draw(unet))
    unet.train()
    assert not torch.equal(draw(unet), draw(unet))


def test_the_published_unets_adapter_is_small():
    targets = targets_of(UNetConfig())
    assert len(targets.shapes) == 16 * 8
    bytes_per_rank = 2 * sum(sum(shape) for shape in targets.shapes.values())
    assert bytes_per_rank == 374_016
    assert 16 * bytes_per_rank < 6.1e6
    assert 32 * bytes_per_rank < 12.1e6
    assert targets.largest_rank * bytes_per_rank < MAX_BYTES < (targets.largest_rank + 2) * bytes_per_rank
    with pytest.raises(InputError, match=r"rank is 200; use 1 to 133.*50 MB"):
        targets.check(200, 1.0)


@pytest.fixture
def saved(config, tmp_path) -> Path:
    path = tmp_path / "anna.safetensors"
    save_lora(random_lora(config), path, config)
    return path


def test_saved_and_loaded(saved, config):
    lora, read = random_lora(config), load_lora(saved, config)
    assert (read.rank, read.alpha, read.version) == (4, 6.0, "v15")
    assert read.layers.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        assert torch.equal(read.layers[name].down, layer.down.half())
        assert torch.equal(read.layers[name].up, layer.up.half())
    names = set(load_file(saved))
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight" in names
    assert list(saved.parent.iterdir()) == [saved]


def test_the_largest_file_keeps_its_promise(tmp_path, config):
    rank = 64
    path = tmp_path / "wide.safetensors"
    save_lora(random_lora(config, rank=rank), path, config)
    tensors = sum(2 * rank * sum(shape) for shape in targets_of(config).shapes.values())
    assert tensors < path.stat().st_size < tensors + 200_000  # the room that the rank's limit leaves for the header


def test_part_of_the_projections_is_enough(tmp_path, config, unet):
    path = tmp_path / "ears.safetensors"
    save_lora(random_lora(config, only="attn2"), path, config)
    lora = load_lora(path, config)
    assert all("attn2" in name for name in lora.layers)
    apply_lora(unet, lora)


def test_saving_refuses_before_it_writes(tmp_path, config, saved):
    lora = random_lora(config)
    with pytest.raises(OutputError, match="exists"):
        save_lora(lora, saved, config)
    save_lora(lora, saved, config, overwrite=True)
    with pytest.raises(OutputError, match=r"a LoRA is a \.safetensors file"):
        save_lora(lora, tmp_path / "x.pt", config)
    with pytest.raises(OutputError, match="does not exist"):
        save_lora(lora, tmp_path / "none" / "x.safetensors", config)
    with pytest.raises(InputError, match="does not fit the UNet"):
        save_lora(lora, tmp_path / "x.safetensors", UNetConfig())
    next(iter(lora.layers.values())).up[0, 0] = 1e6
    with pytest.raises(InputError, match="too large for float16"):
        save_lora(lora, tmp_path / "x.safetensors", config)
    assert list(tmp_path.iterdir()) == [saved]


def test_models_with_loras_leave_the_models_as_they_are(tiny_models, saved, config, caplog):
    before = snapshot(tiny_models.unet)
    plain = draw(tiny_models.unet)
    changed = with_loras(tiny_models, [(saved, 1.0)])
    with apply_lora(tiny_models.unet, load_lora(saved, config)):
        expected = draw(tiny_models.unet)
    assert torch.equal(draw(changed.unet), expected)
    assert not torch.equal(expected, plain)
    assert same(snapshot(tiny_models.unet), before)
    assert changed.unet.conv_in.weight is tiny_models.unet.conv_in.weight
    assert not changed.unet.training
    assert changed.vae is tiny_models.vae
    assert with_loras(tiny_models, []) is tiny_models
    assert torch.equal(draw(with_loras(tiny_models, [(saved, 0.0)]).unet), plain)
    assert not caplog.records


def test_a_lora_of_the_other_version_is_told(tiny_models, tmp_path, config, caplog):
    path = tmp_path / "old.safetensors"
    save_lora(LoRA(4, 4.0, "v1", random_lora(config).layers), path, config)
    with caplog.at_level(logging.WARNING):
        with_loras(tiny_models, [(path, 1.0)])
    assert "was trained on MuseTalk v1, the UNet is of v15" in caplog.text


def test_patches_carry_the_same_change(unet, config):
    lora = random_lora(config)
    patches = lora_patches(lora)
    assert patches.keys() <= unet.state_dict().keys()
    with apply_lora(unet, lora):
        merged = snapshot(unet)
    for name, (up, down, alpha, *rest) in patches.items():
        expected = unet.state_dict()[name] + alpha / down.shape[0] * (up @ down)
        assert torch.allclose(merged[name], expected, atol=1e-6)
        assert rest == [None, None, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anna.safetensors", ("anna.safetensors", 1.0)),
        ("a/anna.safetensors=0.8", ("a/anna.safetensors", 0.8)),
        ("anna.safetensors=-1", ("anna.safetensors", -1.0)),
        ("rank=8.safetensors", ("rank=8.safetensors", 1.0)),
        ("rank=8.safetensors=0", ("rank=8.safetensors", 0.0)),
    ],
)
def test_lora_option(text, expected):
    assert parse_lora(text) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize("text", ["", "=1", "anna.safetensors=", "anna.safetensors=much", "anna.safetensors=nan"])
def test_a_lora_option_that_is_none(text):
    with pytest.raises(InputError, match="FILE=STRENGTH"):
        parse_lora(text)
