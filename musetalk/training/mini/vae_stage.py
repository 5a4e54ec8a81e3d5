"""The autoencoder: faces in any pose and light to latents and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.vae import AutoencoderKL
from .config import MiniConfig
from .pictures import draw_picture, held_out_people, to_pictures, to_tensor, training_people
from .seeds import Stream, generator
from .stage import Stage

_SHOWN = 2
_BATCH = 5
# Where mouths are in the engine's crops.
_MOUTH = (slice(None), slice(None), slice(150, 236), slice(64, 192))
_FIRST_LOGVAR = -4.0
_BLUR = 16


class VAEStage(Stage[AutoencoderKL]):
    """Pictures are drawn anew for every step."""

    name, stream = "vae", Stream.VAE_STEPS

    def __init__(self, config: MiniConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        network = AutoencoderKL(config.vae.network())
        _start_plain(network)
        super().__init__(config.vae, network, device, config.seed, faces=asdict(config.faces))
        self.settings, self.faces = config.vae, config.faces
        self.people = training_people(config.faces, config.seed)
        self._held_out: dict[str, Tensor] = {}
        self._shown: np.ndarray | None = None

    def prepare(self, folder: Path) -> None:
        people, rng = held_out_people(self.faces, self.seed), generator(Stream.VAE_HELD_OUT, self.seed)
        kinds = {"photographs": people.photographs, "varied": people.varied, "drawn": people.drawn}
        for kind, stills in kinds.items():
            drawn = rng.integers(len(stills), size=self.settings.held_out)
            self._held_out[kind] = to_tensor(np.stack([draw_picture(stills[index], rng) for index in drawn]))

    def losses(self, step: int) -> dict[str, Tensor]:
        rng = self.step_generator(step)
        stills = [
            self.people.draw(rng, self.faces.photographs, self.faces.variations) for _ in range(self.config.batch_size)
        ]
        images = to_tensor(np.stack([draw_picture(still, rng) for still in stills])).to(self.device)
        with self.autocast():
            mean, logvar = self.network.encode(images)
            latents = mean + (logvar / 2).exp() * torch.randn_like(mean)
            decoded = self.network.decode(latents)
        decoded, mean, logvar = decoded.float(), mean.float(), logvar.float()
        pixels = (decoded - images).abs().mean()
        edges = _edge_error(decoded, images)
        colours = (F.avg_pool2d(decoded, _BLUR) - F.avg_pool2d(images, _BLUR)).abs().mean()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        settings = self.settings
        loss = pixels + settings.gradient * edges + settings.blurred * colours + settings.kl * divergence
        return {"loss": loss, "pixels": pixels, "edges": edges, "colours": colours, "divergence": divergence}

    def validate(self) -> dict[str, float]:
        """PSNR by kind of face, whole and of the mouth, dB; spread of the latents.

        Varied and drawn faces are persons that training never sees; the photographs are those it sees, in other crops,
        poses and light.
        """
        figures: dict[str, float] = {}
        spread, shown = [], []
        for kind, held_out in self._held_out.items():
            whole, mouth = [], []
            for images in held_out.to(self.device).split(_BATCH):
                with self.autocast():
                    mean, _ = self.network.encode(images)
                    decoded = self.network.decode(mean)
                decoded = decoded.float().clamp(-1, 1)
                whole.append(_psnr(decoded, images))
                mouth.append(_psnr(decoded[_MOUTH], images[_MOUTH]))
                spread.append(mean.float().std())
                if len(whole) == 1:
                    shown += list(np.concatenate([to_pictures(images), to_pictures(decoded)], axis=1)[:_SHOWN])
            figures[f"{kind}/psnr"] = float(torch.cat(whole).mean())
            figures[f"{kind}/mouth_psnr"] = float(torch.cat(mouth).mean())
        self._shown = np.concatenate(shown, axis=1)[::2, ::2]
        return {**figures, "spread": float(torch.stack(spread).mean())}

    def picture(self) -> np.ndarray | None:
        return self._shown


def _start_plain(network: AutoencoderKL) -> None:
    """Let every block begin as what goes around it, which trains much faster, and the posterior narrow."""
    for name, module in network.named_modules():
        if name.endswith((".conv2", ".to_out.0")):
            assert isinstance(module, (nn.Conv2d, nn.Linear))
            nn.init.zeros_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    channels = network.config.latent_channels
    with torch.no_grad():
        network.quant_conv.weight[channels:] = 0
        network.quant_conv.bias[channels:] = _FIRST_LOGVAR


def _edge_error(one: Tensor, other: Tensor) -> Tensor:
    """Mean difference of the differences of neighbouring pixels, down and across."""
    return sum(((one.diff(dim=axis) - other.diff(dim=axis)).abs().mean() for axis in (-1, -2)), start=one.new_zeros(()))


def _psnr(one: Tensor, other: Tensor) -> Tensor:
    """Of pictures in [-1, 1], dB, ``[B]``."""
    return -10 * ((one - other) / 2).square().mean(dim=(1, 2, 3)).clamp(min=1e-8).log10()
