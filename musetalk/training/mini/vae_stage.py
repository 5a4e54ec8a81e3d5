"""The autoencoder: faces in any pose and light to latents and back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.vae import AutoencoderKL
from .config import FacesConfig, VAEStageConfig
from .pictures import draw_picture, held_out_people, to_pictures, to_tensor, training_people
from .stage import Stage

_HELD_OUT_PICTURES = 30
_SHOWN = 6
_BATCH = 5
# Where mouths are in the engine's crops.
_MOUTH = (slice(None), slice(None), slice(150, 236), slice(64, 192))
_FIRST_LOGVAR = -4.0
_BLUR = 16


class VAEStage(Stage[AutoencoderKL]):
    name = "vae"

    def __init__(self, config: VAEStageConfig, faces: FacesConfig, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        network = AutoencoderKL(config.network())
        _start_plain(network)
        super().__init__(config, network, device, seed)
        self.settings, self.faces = config, faces
        self.people = training_people(faces, seed)
        self._held_out: Tensor | None = None
        self._shown: np.ndarray | None = None

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
        """PSNR of new faces, whole and of the mouth, dB; spread of the latents."""
        if self._held_out is None:
            rng, people = self.validation_generator(), held_out_people(self.faces, self.seed)
            stills = [people.draw(rng, 1 / 3, 1 / 3) for _ in range(_HELD_OUT_PICTURES)]
            self._held_out = to_tensor(np.stack([draw_picture(still, rng) for still in stills]))
        whole, mouth, spread, shown = [], [], [], []
        for images in self._held_out.split(_BATCH):
            images = images.to(self.device)
            with self.autocast():
                mean, _ = self.network.encode(images)
                decoded = self.network.decode(mean)
            decoded = decoded.float().clamp(-1, 1)
            whole.append(_psnr(decoded, images))
            mouth.append(_psnr(decoded[_MOUTH], images[_MOUTH]))
            spread.append(mean.float().std())
            shown.append(np.concatenate([to_pictures(images), to_pictures(decoded)], axis=1))
        self._shown = np.concatenate(np.concatenate(shown)[:_SHOWN], axis=1)
        return {
            "psnr": float(torch.cat(whole).mean()),
            "mouth_psnr": float(torch.cat(mouth).mean()),
            "spread": float(torch.stack(spread).mean()),
        }

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
