"""An autoencoder of any size as a core VAE: ComfyUI's object around the engine's network."""

from __future__ import annotations

from typing import Any, cast

import comfy.ldm.models.autoencoder
import comfy.model_management as mm
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ...musetalk.models.checkpoints import Checkpoint
from ...musetalk.models.vae import AutoencoderKL, VAEConfig

CORE_GROUPS = 32  # of the normalisation in ComfyUI's own network, whatever it is configured to be


def core_holds(config: VAEConfig) -> bool:
    """Whether ComfyUI's own network can have these sizes."""
    widths = config.block_out_channels
    return config.norm_num_groups == CORE_GROUPS and not any(width % widths[0] for width in widths)


def core_config(config: VAEConfig) -> dict[str, Any] | None:
    """ComfyUI's description of an autoencoder; None for Stable Diffusion's own."""
    if config == VAEConfig():
        return None
    widths = config.block_out_channels
    sizes = {
        "double_z": True,
        "z_channels": config.latent_channels,
        "resolution": 256,
        "in_channels": config.in_channels,
        "out_ch": config.out_channels,
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config.layers_per_block,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return {"params": {"ddconfig": sizes, "embed_dim": config.latent_channels}}


def engine_vae(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """A core VAE that runs the engine's network: for sizes that core's own cannot have."""
    smallest = core_config(VAEConfig(block_out_channels=(CORE_GROUPS,), layers_per_block=1))
    assert smallest is not None
    # Core's constructor always makes a network of its own, which this one then replaces.
    weights = comfy.ldm.models.autoencoder.AutoencoderKL(**smallest["params"]).state_dict()
    vae = comfy.sd.VAE(sd=weights, config=smallest, dtype=dtype)
    offload_device = vae.patcher.offload_device
    network = Autoencoder(cast(AutoencoderKL, checkpoint.build(offload_device, dtype, comfy.ops.manual_cast)))
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(network)
    vae.first_stage_model = network
    vae.patcher = type(vae.patcher)(network, load_device=vae.device, offload_device=offload_device)
    vae.size = None  # measured again when it is asked for
    return vae


class Autoencoder(nn.Module):
    """The engine's autoencoder with the calls that core makes on its own one; its weights keep the published names."""

    def __init__(self, network: AutoencoderKL) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder
        self.quant_conv, self.post_quant_conv = network.quant_conv, network.post_quant_conv

    def encode(self, images: Tensor, **_: Any) -> Tensor:
        """The posterior's mean, unscaled, as core takes it."""
        mean: Tensor = self.quant_conv(self.encoder(images)).chunk(2, dim=1)[0]
        return mean

    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        images: Tensor = self.decoder(self.post_quant_conv(latents))
        return images
