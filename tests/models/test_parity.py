"""The networks against the outputs of the original code, with the same random weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from musetalk.models import load_models
from musetalk.models.face_parser import BiSeNet

UNET_TOLERANCE = 1e-4
PIXEL = 1 / 255


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, torch.Tensor]:
    names = ("unet_input", "pe_features", "pred_latents", "decoded_float", "mel", "whisper_hidden_head")
    names += ("vae_input_masked0", "vae_input_ref0", "latents_mode", "latents_std")
    with np.load(shared / "goldens" / "sun_tiny.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in names}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def test_unet_predicts_the_original_latents(tiny_models, golden):
    predicted = tiny_models.unet(golden["unet_input"], golden["pe_features"])
    assert predicted.shape == (8, 4, 32, 32)
    torch.testing.assert_close(predicted, golden["pred_latents"], rtol=0, atol=UNET_TOLERANCE)


def test_vae_decodes_the_original_picture(tiny_models, golden):
    pictures = tiny_models.vae.decode(golden["pred_latents"] / tiny_models.vae.scaling_factor)
    torch.testing.assert_close((pictures / 2 + 0.5).clamp(0, 1), golden["decoded_float"], rtol=0, atol=PIXEL)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_vae_encodes_the_original_posterior_in_either_memory_layout(tiny_models, golden, layout):
    pictures = torch.cat([golden["vae_input_masked0"], golden["vae_input_ref0"]]).contiguous(memory_format=layout)
    mean, logvar = tiny_models.vae.encode(pictures)
    scale = tiny_models.vae.scaling_factor
    torch.testing.assert_close((mean * scale).flatten(0, 1), golden["latents_mode"][0], rtol=0, atol=1e-5)
    std = ((logvar / 2).exp() * scale).flatten(0, 1)
    torch.testing.assert_close(std, golden["latents_std"][0], rtol=1e-4, atol=0)


def test_audio_encoder_gives_the_original_hidden_states(tiny_models, golden):
    states = tiny_models.audio_encoder(golden["mel"][:1])
    assert states.shape == (1, 1500, 5, 384)
    head = golden["whisper_hidden_head"]
    torch.testing.assert_close(states[0, : len(head)], head, rtol=0, atol=1e-4)


def test_face_parser_gives_the_original_classes(shared):
    """On the original pictures: the classes are decided by the weights of the shared tool."""
    spec = importlib.util.spec_from_file_location("make_random_models", shared / "tools" / "make_random_models.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    weights = tool.make_bisenet(tool.Draw(0, "bisenet"))
    parser = BiSeNet().eval()
    # The tiny models store the parser in half precision.
    parser.load_state_dict(
        {name: value.half().float() for name, value in weights.items() if name in parser.state_dict()}
    )
    with np.load(shared / "goldens" / "sun_tiny.npz") as file:
        pictures = [
            _parser_input(file["frames"][file["source_index"][output]][..., ::-1], file["crop_boxes"][output])
            for output in (0, 3)
        ]
        expected = file["parse_argmax"][[0, 3]]
    classes = parser(torch.stack(pictures)).argmax(1).numpy()
    assert np.count_nonzero(classes != expected) == 0


def test_unet_and_decoder_on_the_portrait(tiny_models, portrait_golden):
    """The portrait golden lies in the repository, so that parity is tested on every machine."""
    predicted = tiny_models.unet(*_unet_inputs(portrait_golden))
    expected = torch.from_numpy(portrait_golden["pred_latents"])
    torch.testing.assert_close(predicted, expected, rtol=0, atol=UNET_TOLERANCE)
    pictures = (tiny_models.vae.decode(expected / tiny_models.vae.scaling_factor) / 2 + 0.5).clamp(0, 1)
    difference = (pictures * 255).round().permute(0, 2, 3, 1) - torch.from_numpy(portrait_golden["decoded"])
    assert difference.abs().max() <= 1


def test_a_batch_equals_its_parts(tiny_models):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(8, 8, 32, 32, generator=generator)
    tokens = torch.randn(8, 50, 384, generator=generator)
    whole = tiny_models.unet(latents, tokens)
    parts = torch.cat([tiny_models.unet(latents[i : i + 1], tokens[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)
    pictures = tiny_models.vae.decode(whole[:4])
    parts = torch.cat([tiny_models.vae.decode(one[None]) for one in whole[:4]])
    torch.testing.assert_close(pictures, parts, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.05), ("fp16", 0.006)])
def test_low_precision_stays_close(tiny_models_dir, portrait_golden, dtype, tolerance):
    models = load_models(tiny_models_dir, device="cpu", dtype=dtype)
    latents, tokens = (value[:1].to(models.dtype) for value in _unet_inputs(portrait_golden))
    predicted = models.unet(latents, tokens)
    assert predicted.dtype == models.dtype
    expected = torch.from_numpy(portrait_golden["pred_latents"][:1])
    assert _relative_error(predicted.float(), expected) < tolerance
    scaled = (expected / models.vae.scaling_factor).to(models.dtype)
    picture = (models.vae.decode(scaled).float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert _relative_error(picture, torch.from_numpy(portrait_golden["decoded"][:1]) / 255) < tolerance


def _unet_inputs(golden: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    latents = torch.from_numpy(golden["latents_sampled"][golden["source_index"]])
    return latents, torch.from_numpy(golden["windows_head"]) + _positions(50, 384)


def _relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


def _positions(length: int, channels: int) -> torch.Tensor:
    rates = torch.exp(torch.arange(0, channels, 2) * (-np.log(10000.0) / channels))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _parser_input(frame: np.ndarray, crop_box: np.ndarray) -> torch.Tensor:
    """What the original feeds its parser: the frame's crop, bilinear to 512, less ImageNet's statistics."""
    crop = Image.fromarray(np.ascontiguousarray(frame)).crop(tuple(int(value) for value in crop_box))
    pixels = np.asarray(crop.resize((512, 512), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    normalised = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(normalised.transpose(2, 0, 1)).contiguous()
