"""Every loss on a case known by hand, and who gets a gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from musetalk.errors import InputError, ModelFileError
from musetalk.models.syncnet import SyncNet
from musetalk.training.losses import PRESETS, LossWeights, TrainingLosses
from musetalk.training.losses.adversarial import (
    AdversarialLoss,
    feature_matching_loss,
    fooling_loss,
    frozen,
    telling_apart_loss,
)
from musetalk.training.losses.discriminator import Judgement, MultiScaleDiscriminator
from musetalk.training.losses.mouth import crop_mouths, mouth_rectangle
from musetalk.training.losses.perceptual import PerceptualLoss
from musetalk.training.losses.pyramid import Pyramid, gaussian_kernel
from musetalk.training.losses.vgg19 import VGG19, load_vgg19


@pytest.mark.parametrize(("step", "size"), [(1, 1), (2, 5), (4, 13), (8, 29)])
def test_pyramid_kernels(step: int, size: int):
    kernel = gaussian_kernel(step)
    assert kernel.shape == (size, size)
    assert kernel.sum().item() == pytest.approx(1)
    assert torch.equal(kernel, kernel.T)
    if step == 2:  # sigma 0.5: two pixels to the side are four sigma
        assert (kernel[2, 4] / kernel[2, 2]).item() == pytest.approx(np.exp(-8))


def test_pyramid_thins_out_what_it_blurred():
    images = torch.rand(2, 3, 224, 224)
    whole, half, quarter, eighth = Pyramid([1, 0.5, 0.25, 0.125])(images)
    assert whole is images
    assert [level.shape[-1] for level in (half, quarter, eighth)] == [112, 56, 28]
    blurred = F.conv2d(images[:, 1:2], gaussian_kernel(4)[None, None], padding=6)
    torch.testing.assert_close(quarter[:, 1:2], blurred[:, :, ::4, ::4])
    # Away from the edge, which is padded with zeros, a plain picture keeps its value.
    plain = Pyramid([0.125])(torch.full((1, 3, 224, 224), 0.5))[0]
    torch.testing.assert_close(plain[:, :, 2:-2, 2:-2], torch.full((1, 3, 24, 24), 0.5))


@pytest.mark.parametrize("scale", [0.3, 0, 2, -1])
def test_pyramid_refuses_other_scales(scale: float):
    with pytest.raises(InputError, match="not one over a whole number"):
        Pyramid([scale])


def test_vgg_features_are_the_first_activations_of_each_block(random_vgg: VGG19):
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        features = random_vgg(images)
        convolutions = random_vgg.features
        first = F.relu(convolutions["0"](images))
        second = F.relu(convolutions["5"](F.max_pool2d(F.relu(convolutions["2"](first)), 2)))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    assert torch.equal(features[0], first)
    assert torch.equal(features[1], second)


def test_vgg_file(random_vgg: VGG19, tmp_path: Path):
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    with pytest.raises(InputError, match=r"vgg19-dcbb9e9d\.pth: no such file.*download\.pytorch\.org.*put it there"):
        load_vgg19(path)
    # The published file goes on to the classifier.
    state = random_vgg.state_dict() | {"classifier.6.bias": torch.zeros(1000), "features.34.bias": torch.zeros(512)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    loaded = load_vgg19(path)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert "features.28.weight" in loaded.state_dict()

    wrong = tmp_path / "vgg16.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, wrong)
    with pytest.raises(ModelFileError, match=r"25 problems: features\.0\.bias is missing instead of \[64\]"):
        load_vgg19(wrong)


def test_perceptual_loss_by_hand():
    """With VGG's first convolution the identity and nothing after it, only relu1_1 differs, by the picture itself."""
    vgg = VGG19()
    with torch.no_grad():
        for parameter in vgg.parameters():
            parameter.zero_()
        for channel in range(3):
            vgg.features["0"].weight[channel, channel, 1, 1] = 1.0
    fake, real = torch.full((1, 3, 40, 40), 0.9), torch.full((1, 3, 40, 40), 0.7)
    # All normalised values are positive here, so the ReLU changes nothing.
    std = torch.tensor((0.229, 0.224, 0.225))
    difference = (0.2 / std).sum().item() / 64  # mean over 64 features, of which three differ
    for upstream, scale in ((True, 1.0), (False, 0.5)):
        loss = PerceptualLoss(vgg, upstream=upstream, size=32, scales=(1,))
        # Averaged over five layers.
        assert loss(fake, real).item() == pytest.approx(scale * difference / 5, rel=1e-4)
    doubled = PerceptualLoss(vgg, upstream=True, size=32, scales=(1,), layer_weights=(2, 1, 1, 1, 1))
    assert doubled(fake, real).item() == pytest.approx(2 * difference / 6, rel=1e-4)


def test_perceptual_loss_reaches_the_fake_picture_alone(random_vgg: VGG19):
    fake, real = (torch.rand(1, 3, 64, 64).requires_grad_() for _ in range(2))
    loss = PerceptualLoss(random_vgg, size=64, scales=(1, 0.5))
    assert loss(real, real).item() == 0
    loss(fake, real).backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in random_vgg.parameters())


def test_discriminator_is_upstreams():
    discriminator = MultiScaleDiscriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 2_758_849
    with torch.no_grad():
        for size, side in ((224, 22), (256, 26)):
            (judged,) = discriminator(torch.rand(1, 3, size, size))
            assert judged.scores.shape == (1, 1, side, side)
        assert [feature.shape[1] for feature in judged.features] == [64, 128, 256, 512]
    (judge,) = discriminator.judges
    assert [block.norm is not None for block in judge.blocks] == [False, True, True, True]
    assert [block.halve for block in judge.blocks] == [True, True, True, False]


def test_discriminator_judges_every_scale():
    discriminator = MultiScaleDiscriminator((1, 0.5), first_channels=4)
    whole, half = discriminator(torch.rand(1, 3, 128, 128))
    assert whole.scores.shape[-1] == 10
    assert half.scores.shape[-1] == 2


def test_spectral_norm_is_active():
    torch.manual_seed(0)
    (judge,) = MultiScaleDiscriminator(first_channels=8).judges
    convolution = judge.blocks[1].conv
    with torch.no_grad():
        convolution.parametrizations.weight.original.mul_(10)
        for _ in range(30):  # one power iteration each
            convolution(torch.rand(1, 8, 8, 8))
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_least_squares_on_fixed_scores():
    fake = [Judgement([], torch.tensor([0.5, 0.0])), Judgement([], torch.tensor([3.0]))]
    real = [Judgement([], torch.tensor([1.0, 2.0])), Judgement([], torch.tensor([1.0]))]
    assert fooling_loss(fake).item() == pytest.approx((0.25 + 1) / 2 + 4)
    assert telling_apart_loss(fake, real).item() == pytest.approx(1 / 2 + 0.25 / 2 + 9)


def test_feature_matching_on_fixed_features():
    fake = [Judgement([torch.zeros(2), torch.ones(4)], torch.zeros(1))]
    real = [Judgement([torch.tensor([1.0, -3.0]), torch.zeros(4)], torch.zeros(1))]
    assert feature_matching_loss(fake, real, (1, 0.5)).item() == pytest.approx(2 + 0.5)


@pytest.mark.parametrize("generator_size", [None, 72])
def test_each_side_trains_only_itself(generator_size: int | None):
    torch.manual_seed(0)
    loss = AdversarialLoss(MultiScaleDiscriminator(first_channels=4), generator_size=generator_size)
    fake, real = (torch.rand(2, 3, 80, 80).requires_grad_() for _ in range(2))
    gan, matching = loss.generator_loss(fake, real)
    (gan + matching).backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())

    fake.grad = None
    loss.discriminator_loss(fake, real).backward()
    assert fake.grad is None
    assert real.grad is None
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_frozen_leaves_what_was_frozen_before():
    discriminator = MultiScaleDiscriminator(first_channels=4)
    bias = discriminator.judges[0].score.bias.requires_grad_(False)
    with frozen(discriminator):
        assert not any(parameter.requires_grad for parameter in discriminator.parameters())
    assert [parameter is bias for parameter in discriminator.parameters() if not parameter.requires_grad] == [True]


def _landmarks(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    """A face whose lips fill the given extent; every other point, and the last of the lips, lies elsewhere."""
    landmarks = np.full((68, 2), 5.0, np.float32)
    landmarks[48:67] = (x0 + x1) / 2, (y0 + y1) / 2
    landmarks[48:52] = (x0, y0), (x1, y0), (x0, y1), (x1, y1)
    return landmarks


def test_mouth_rectangle_by_hand():
    # 100..160 and 10 to each side: 80 wide, hence 40 high around 180.
    wide = _landmarks(100, 160, 170, 190)
    # Too far right and too low: 210..270 by 225..265 before it is clamped.
    corner = _landmarks(220, 260, 240, 250)
    assert mouth_rectangle(wide).tolist() == [90, 160, 170, 200]
    rectangles = mouth_rectangle(np.stack((wide, corner)))
    assert rectangles.dtype == np.int64
    assert rectangles.tolist() == [[90, 160, 170, 200], [210, 230, 256, 256]]


def test_mouth_outside_the_crop_is_refused():
    inside, outside = _landmarks(100, 160, 170, 190), _landmarks(300, 340, 170, 190)
    with pytest.raises(InputError, match=r"outside the 256 x 256 face crop in frames \[1\]"):
        mouth_rectangle(np.stack((inside, outside)))


def test_mouth_crop_equals_slicing():
    torch.manual_seed(0)
    images = torch.rand(3, 3, 256, 256)
    rectangles = torch.tensor([[90, 160, 170, 200], [0, 0, 256, 256], [200, 250, 256, 256]])
    cropped = crop_mouths(images, rectangles)
    for image, (x0, y0, x1, y1), found in zip(images, rectangles.tolist(), cropped, strict=True):
        part = image[None, :, y0:y1, x0:x1]
        wanted = F.interpolate(part, (256, 256), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_mouth_crop_passes_the_gradient_on_to_the_mouth_alone():
    images = torch.rand(1, 3, 64, 64).requires_grad_()
    crop_mouths(images, torch.tensor([[10, 20, 30, 30]]), 32).sum().backward()
    assert images.grad is not None
    reached = images.grad[0, 0] > 0
    assert reached[20:30, 10:30].all()
    assert reached.sum() == 10 * 20
    # Every made pixel is an average: nothing is lost or added.
    assert images.grad.sum().item() == pytest.approx(3 * 32 * 32, rel=1e-5)


def test_weights_follow_the_steps():
    upstream = PRESETS["upstream"]
    assert upstream.at(0) == {
        "l1": 1.0,
        "perceptual": 0.01,
        "feature_matching": 1.0,
        "mouth_feature_matching": 1.0,
        "sync": 0.05,
    }
    assert upstream.at(999) == upstream.at(0)
    assert upstream.at(1000) == upstream.at(0) | {"gan": 0.01, "mouth_gan": 0.01}
    assert PRESETS["paper"].at(0) == {"l1": 1.0, "perceptual": 0.01, "gan": 0.01, "sync": 0.03}
    assert PRESETS["upstream_stage1"].at(5000) == {"l1": 1.0, "perceptual": 0.01}
    for value in (-1, float("nan")):
        with pytest.raises(InputError, match="loss weight sync is"):
            LossWeights(sync=value)


def test_total_by_hand():
    weights = LossWeights(l1=2.0, sync=0.5, gan=1.0, gan_start=10)
    parts = {
        name: torch.tensor(value, requires_grad=True) for name, value in (("l1", 3.0), ("sync", 4.0), ("gan", 5.0))
    }
    total, logged = weights.total(parts, step=9)
    assert total.item() == 2 * 3 + 0.5 * 4
    assert weights.total(parts, step=10)[0].item() == 2 * 3 + 0.5 * 4 + 5
    assert logged == {"l1": 3.0, "sync": 4.0, "gan": 5.0}
    assert not any(part.requires_grad for part in logged.values())
    with pytest.raises(InputError, match="gan was not computed"):
        weights.total({"l1": parts["l1"], "sync": parts["sync"]}, step=10)


@pytest.fixture
def small_losses(random_vgg: VGG19, tiny_syncnet: SyncNet):
    """All losses, small: discriminators of a few channels, VGG19 on small pictures."""

    def make(weights: LossWeights, *, upstream: bool) -> TrainingLosses:
        torch.manual_seed(0)
        losses = TrainingLosses(weights, vgg=random_vgg, syncnet=tiny_syncnet, upstream=upstream)
        for name in losses.discriminators:
            losses.discriminators[name] = MultiScaleDiscriminator(first_channels=4)
        if losses.perceptual is not None:
            losses.perceptual = PerceptualLoss(random_vgg, upstream=upstream, size=32, scales=(1,))
        return losses

    return make


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {
        "fake": torch.rand(16, 3, 256, 256) * 2 - 1,
        "real": torch.rand(16, 3, 256, 256) * 2 - 1,
        "mouths": torch.tensor([[90, 160, 170, 200]]).repeat(16, 1),
        "sync_mel": torch.randn(1, 1, 80, 52),
    }


@pytest.mark.parametrize("upstream", [True, False])
def test_a_whole_step(upstream: bool, small_losses, batch: dict[str, torch.Tensor]):
    weights = PRESETS["upstream"]
    losses = small_losses(weights, upstream=upstream)
    fake = batch["fake"].clone().requires_grad_()
    others = {name: batch[name] for name in ("mouths", "sync_mel")}

    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, parts = losses(fake, batch["real"], 1000, **others)
    assert set(parts) == set(weights.at(1000))
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(sum(weights.at(1000)[name] * part.item() for name, part in parts.items()))
    assert parts["l1"].item() == pytest.approx((fake - batch["real"]).abs().mean().item())
    total.backward()
    assert fake.grad is not None
    assert torch.isfinite(fake.grad).all()
    assert fake.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in losses.parameters())

    assert set(losses(fake, batch["real"], 0, **others)[1]) == set(weights.at(0))
    assert losses.discriminator_losses(fake, batch["real"], 999, mouths=batch["mouths"]) == {}
    of_discriminators = losses.discriminator_losses(fake, batch["real"], 1000, mouths=batch["mouths"])
    assert set(of_discriminators) == {"face", "mouth"}
    torch.stack(list(of_discriminators.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in losses.discriminators.parameters())


def test_upstream_judges_the_generator_at_224(small_losses, batch: dict[str, torch.Tensor]):
    fake, real = batch["fake"][:2], batch["real"][:2]
    weights = LossWeights(gan=1.0)
    for upstream, generator_side in ((True, 22), (False, 26)):
        losses = small_losses(weights, upstream=upstream)
        sides: list[int] = []
        losses.discriminators["face"].register_forward_hook(
            lambda _module, _inputs, judged, sides=sides: sides.append(judged[0].scores.shape[-1])
        )
        losses(fake, real, 0)
        losses.discriminator_losses(fake, real, 0)
        assert sides == [generator_side, generator_side, 26, 26]


def test_what_does_not_count_is_not_built(batch: dict[str, torch.Tensor]):
    losses = TrainingLosses(LossWeights())
    assert not list(losses.parameters())
    total, parts = losses(batch["fake"], batch["real"], 0)
    assert total == parts["l1"]


def test_what_is_missing_is_named(small_losses, batch: dict[str, torch.Tensor]):
    with pytest.raises(InputError, match="no VGG19"):
        TrainingLosses(LossWeights(perceptual=0.01))
    with pytest.raises(InputError, match="no SyncNet"):
        TrainingLosses(LossWeights(sync=0.05))
    weights = replace(PRESETS["upstream"], perceptual=0.0)
    fake, real = batch["fake"], batch["real"]
    with pytest.raises(InputError, match="no mouth rectangles"):
        small_losses(weights, upstream=False)(fake, real, 0, sync_mel=batch["sync_mel"])
    with pytest.raises(InputError, match="no sync_mel"):
        small_losses(LossWeights(sync=0.05), upstream=False)(fake, real, 0)
