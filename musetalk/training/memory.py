"""How much memory a run takes on each GPU, by arithmetic: what is kept, and what one pass needs on top."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ..inpainting import positional_encoding
from ..models.audio_encoder import WhisperConfig, WhisperEncoder
from ..models.syncnet import SyncNet
from ..models.unet import UNet, UNetConfig
from ..models.vae import AutoencoderKL, VAEConfig
from .config import TrainingConfig
from .generator import Generator
from .losses.vgg19 import VGG19
from .objective import Objective
from .recompute import recompute_blocks
from .trainer import take_frames

_LAST_STEP = 2**31  # every loss counts by then


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU. kept: by what it is for, from start to end. passing: most at any moment of a micro-step.

    What CUDA's context, its libraries' workspaces and the allocator's gaps take is not in it: one to three GiB.
    """

    kept: dict[str, int]
    passing: int

    @property
    def total(self) -> int:
        return sum(self.kept.values()) + self.passing


def estimate_memory(
    config: TrainingConfig, unet: UNetConfig | None = None, vae: VAEConfig | None = None
) -> MemoryEstimate:
    """Count the bytes of a run in float32 without computing anything.

    unet, vae: other sizes than the published ones.
    The networks are made of tensors without values, and one micro-step of one sample and of two is followed operation
    by operation, forward and backward; what the second adds, every further sample adds. Autocast is not followed:
    bfloat16 takes less. Gradients of the discriminators count as kept, those of the UNet too.
    """
    # Cached for the whole process: its first call must not meet tensors without values.
    positional_encoding(WhisperConfig().channels)
    with FakeTensorMode(allow_non_fake_inputs=True):
        networks = _networks(config, unet, vae)
        one, two = (_passing(config, samples, networks) for samples in (1, 2))
    network, generator, objective = networks
    size = {"UNet": _bytes(network), "discriminators": _bytes(objective.discriminators)}
    frozen = sum(_bytes(part) for part in (generator.vae, generator.audio_encoder, objective))
    kept = {"frozen networks": frozen - size["discriminators"]}
    for name, count in size.items():
        if count:
            kept |= {f"{name} weights": count, f"{name} gradients": count, f"{name} optimiser (AdamW)": 2 * count}
    kept["UNet average (EMA)"] = size["UNet"]
    return MemoryEstimate(kept, one + (config.data.batch_size - 1) * (two - one))


def synthetic_batch(config: TrainingConfig, samples: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """A batch of noise in the shapes of the real ones."""
    frames = config.data.frames
    pictures = torch.rand(2, samples, frames, 3, 256, 256, device=device) * 2 - 1
    return {
        "targets": pictures[0],
        "references": pictures[1],
        "mouth": torch.tensor([80, 150, 180, 200], device=device).expand(samples, frames, 4),
        "mel": torch.randn(samples, 80, 3000, device=device),
        "window_starts": torch.arange(frames, device=device).mul(2).expand(samples, frames),
        "sound_steps": torch.full((samples,), 1500, device=device),
        "sync_mel": torch.randn(samples, 80, 52, device=device),
    }


def _networks(
    config: TrainingConfig, unet: UNetConfig | None, vae: VAEConfig | None
) -> tuple[UNet, Generator, Objective]:
    weights = config.losses.weights
    network, autoencoder = UNet(unet or UNetConfig()), AutoencoderKL(vae or VAEConfig()).requires_grad_(False)
    if config.model.gradient_checkpointing:
        recompute_blocks(network)
    if config.model.vae_gradient_checkpointing:
        recompute_blocks(autoencoder.decoder)
    objective = Objective(
        weights,
        vgg=VGG19().requires_grad_(False) if weights.perceptual > 0 else None,
        syncnet=SyncNet().requires_grad_(False) if weights.sync > 0 else None,
        upstream=config.losses.upstream_quirks,
    )
    encoder = WhisperEncoder(WhisperConfig()).requires_grad_(False)
    return network, Generator(network, autoencoder, encoder), objective


def _passing(config: TrainingConfig, samples: int, networks: tuple[UNet, Generator, Objective]) -> int:
    """Most bytes alive at any moment of one micro-step, besides weights and their gradients."""
    unet, generator, objective = networks
    for parameter in (*unet.parameters(), *objective.discriminators.parameters()):
        parameter.grad = torch.empty_like(parameter)
    count = config.backward_frames
    with _LiveBytes() as live:
        batch = synthetic_batch(config, samples)
        inputs = generator.prepare(take_frames(batch, 0, count))
        drawn = generator.decode(generator.predict(inputs)).unflatten(0, (samples, count))
        objective(drawn, batch, 0, _LAST_STEP)[0].backward()
        losses = objective.discriminator_losses(drawn.detach(), batch, 0, _LAST_STEP)
        for loss in losses.values():
            loss.backward()
    return live.most


class _LiveBytes(TorchDispatchMode):
    """Follows every storage that operations make, until it is let go of."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {id(item.untyped_storage()) for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)}
        for item in tree_iter(result):
            if isinstance(item, Tensor):
                storage = item.untyped_storage()
                if id(storage) not in known and storage not in self._seen:
                    self._seen.add(storage)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._let_go, storage.nbytes())
        self.most = max(self.most, self.now)
        return result

    def _let_go(self, count: int) -> None:
        self.now -= count


def _bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())
