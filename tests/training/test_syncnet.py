"""SyncNet, its mel spectrogram and the losses made of it."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from musetalk.audio.sync_mel import sync_mel, sync_mel_window
from musetalk.errors import InputError, ModelFileError
from musetalk.models.syncnet import SyncNet, load_syncnet, similarity, stack_lower_halves
from musetalk.training.losses.sync import SyncLoss, contrastive_loss, mismatch_loss

# sha256 over the sorted lines "<name> [<shape>]" of the state dict of LatentSync's StableSyncNet, built from
# configs/syncnet/syncnet_16_pixel.yaml at commit a229c39 of bytedance/LatentSync.
PUBLISHED_TENSORS = "1b2c92aa3cce3ad35fdaa4c2b27032f8b0e9549efdd31e10e9f9728125eb787a"


@pytest.fixture(scope="module")
def published() -> SyncNet:
    with torch.device("meta"):
        return SyncNet()


def test_tensors_are_the_published_ones(published: SyncNet):
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in published.state_dict().items())
    assert len(lines) == 178
    assert "audio_encoder.down_blocks.6.downsample_conv.weight [2048, 2048, 3, 3]" in lines
    assert "visual_encoder.down_blocks.0.conv1.weight [64, 64, 3, 3]" in lines
    assert "visual_encoder.norm_out.bias [2048]" in lines
    # The one block that keeps its size has no strided convolution.
    assert not any("audio_encoder.down_blocks.3.downsample_conv" in line for line in lines)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_TENSORS
    assert sum(parameter.numel() for parameter in published.parameters()) == 371_766_496


def test_both_inputs_become_one_vector_of_2048(published: SyncNet):
    frames, mel = torch.empty(2, 48, 128, 256, device="meta"), torch.empty(2, 1, 80, 52, device="meta")
    assert [embedding.shape for embedding in published(frames, mel)] == [(2, 2048), (2, 2048)]


def test_embeddings_are_unit_vectors_that_never_disagree(tiny_syncnet: SyncNet):
    with torch.no_grad():
        visual, audio = tiny_syncnet(torch.randn(3, 48, 128, 256), torch.randn(3, 1, 80, 52))
    assert visual.shape == audio.shape == (3, 64)
    torch.testing.assert_close(visual.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(audio.norm(dim=1), torch.ones(3))
    # Both encoders end in a ReLU.
    assert similarity(visual, audio).min() >= 0


def test_lower_halves_lie_frame_by_frame():
    frames = torch.arange(2 * 16 * 3 * 4 * 2, dtype=torch.float32).reshape(2, 16, 3, 4, 2)
    stacked = stack_lower_halves(frames)
    assert stacked.shape == (2, 48, 2, 2)
    assert torch.equal(stacked[1, 3 * 5 + 2], frames[1, 5, 2, 2:])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_loads_what_it_saved(suffix: str, tiny_syncnet: SyncNet, tiny_syncnet_config, tmp_path: Path):
    path = tmp_path / f"syncnet{suffix}"
    state = tiny_syncnet.state_dict()
    if suffix == ".pt":
        # As LatentSync's training saves it.
        torch.save({"state_dict": state, "global_step": 7, "train_loss_list": [0.5]}, path)
    else:
        save_file(state, path)
    loaded = load_syncnet(path, config=tiny_syncnet_config)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_wrong_files_are_named(tiny_syncnet: SyncNet, tiny_syncnet_config, tmp_path: Path):
    with pytest.raises(InputError, match=r"no such file.*huggingface\.co/ByteDance/LatentSync"):
        load_syncnet(tmp_path / "absent.pt")

    def refused(state: dict[str, torch.Tensor], message: str) -> None:
        save_file(state, tmp_path / "wrong.safetensors")
        with pytest.raises(ModelFileError, match=message):
            load_syncnet(tmp_path / "wrong.safetensors", config=tiny_syncnet_config)

    state = tiny_syncnet.state_dict()
    name = "audio_encoder.conv_in.weight"
    refused({key: value for key, value in state.items() if key != name}, f"{name} is missing")
    refused(state | {name: torch.zeros(32, 2, 3, 3)}, rf"{name} is \[32, 2, 3, 3\] instead of \[32, 1, 3, 3\]")
    refused(state | {"down_blocks.1.attn.to_q.weight": torch.zeros(1)}, "attn.to_q.weight is unexpected")
    with pytest.raises(ModelFileError, match=r"is missing and \d+ more"):
        save_file(state, tmp_path / "tiny.safetensors")
        load_syncnet(tmp_path / "tiny.safetensors")


def test_sync_loss_reaches_the_frames_alone(tiny_syncnet: SyncNet):
    loss = SyncLoss(tiny_syncnet)
    frames = torch.rand(32, 3, 256, 256).requires_grad_()
    mel = torch.randn(2, 80, 52)
    value = loss(frames, mel)
    value.backward()
    assert frames.grad is not None
    assert frames.grad[:, :, :128].abs().max() == 0
    assert (frames.grad[:, :, 128:].abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in tiny_syncnet.parameters())
    torch.testing.assert_close(loss(frames.detach(), mel[:, None]), value.detach())
    with pytest.raises(InputError, match="32 frames for 1 sounds"):
        loss(frames, mel[:1])


@pytest.mark.parametrize("upstream", [True, False])
def test_mismatch_is_minus_the_logarithm(upstream: bool):
    similarities = torch.tensor([0.25, 1.0])
    assert float(mismatch_loss(similarities, upstream=upstream)) == pytest.approx(math.log(4) / 2)


def _slope(at: float, upstream: bool) -> float:
    similarities = torch.tensor([at], requires_grad=True)
    mismatch_loss(similarities, upstream=upstream).backward()
    assert similarities.grad is not None
    return similarities.grad.item()


def test_upstream_learns_nothing_from_opposites_and_we_do():
    assert _slope(-0.3, upstream=True) == 0
    assert _slope(-0.3, upstream=False) == pytest.approx(-10)
    assert _slope(1e-4, upstream=True) == pytest.approx(-1e4, rel=1e-3)
    assert _slope(1e-4, upstream=False) == pytest.approx(-10)
    # Where they meet, value and slope are continuous.
    assert _slope(0.1 + 1e-6, upstream=False) == pytest.approx(-10, rel=1e-4)
    assert float(mismatch_loss(torch.tensor([0.0]))) == pytest.approx(math.log(10) + 1)


def test_contrastive_loss_is_cross_entropy_on_the_similarity():
    similarities = torch.tensor([0.8, 0.3])
    loss = contrastive_loss(similarities, torch.tensor([True, False]))
    assert float(loss) == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2)
    # Rounding may put a similarity past 1; PyTorch's own loss would stop there. Nor does autocast stop it.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(contrastive_loss(torch.tensor([1.0000001]), torch.ones(1))) == 0


def test_syncnet_learns_to_tell_pairs_apart(tiny_syncnet: SyncNet):
    torch.manual_seed(1)
    frames, mel = torch.randn(1, 48, 128, 256).repeat(2, 1, 1, 1), torch.randn(2, 1, 80, 52)
    in_sync = torch.tensor([1.0, 0.0])
    optimiser = torch.optim.Adam(tiny_syncnet.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = contrastive_loss(similarity(*tiny_syncnet(frames, mel)), in_sync)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.fixture(scope="module")
def two_tones() -> np.ndarray:
    time = np.arange(16_000) / 16_000
    return (0.5 * np.sin(2 * np.pi * 440 * time) + 0.05 * np.sin(2 * np.pi * 3000 * time)).astype(np.float32)


def test_mel_is_wav2lips(two_tones: np.ndarray):
    """Values of Wav2Lip's audio.py (librosa 0.11.0, scipy's lfilter) on this sound: ``melspectrogram(two_tones)``."""
    mel = sync_mel(two_tones)
    assert mel.shape == (80, 81)
    assert mel.dtype == torch.float32
    middle = {9: 1.65464, 10: 1.98976, 11: 0.49057, 54: -0.28651, 55: 1.1731, 56: -1.30223}
    for row in range(80):
        assert mel[row, 40].item() == pytest.approx(middle.get(row, -4.0), abs=2e-5)
    # The edges, where the transform looks past the sound.
    assert mel[0, 0].item() == pytest.approx(-1.04329, abs=2e-5)
    assert mel[12, 80].item() == pytest.approx(0.61635, abs=2e-5)


def test_mel_window_is_a_part_of_the_whole():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(48_123).astype(np.float32)
    whole = sync_mel(samples)
    for frame in (0, 1, 2, 33, 59):
        assert torch.equal(sync_mel_window(samples, frame), whole[:, 80 * frame // 25 :][:, :52])
    at_30 = sync_mel_window(samples, 31, Fraction(30_000, 1001))
    assert torch.equal(at_30, whole[:, 82:134])
    for frame in (60, -1):
        with pytest.raises(InputError, match="start earlier"):
            sync_mel_window(samples, frame)


def test_silence_is_the_lowest_value():
    assert torch.equal(sync_mel(np.zeros(400, np.float32)), torch.full((80, 3), -4.0))
    with pytest.raises(InputError, match="no samples"):
        sync_mel(np.zeros(0, np.float32))
