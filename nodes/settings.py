"""The widgets that Prepare Avatar and Lip Sync Video share, as an engine profile; nothing here needs ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..musetalk.face.sources import Select
from ..musetalk.profile import Profile, Version

AUTO = "auto"
VERSIONS_OWN = -1
"""In a number widget: what the model version was published with."""
_PLAIN = ("bbox_shift", "left_cheek_width", "right_cheek_width", "expand", "blur_ratio", "upper_boundary_ratio")


@dataclass(frozen=True)
class Settings:
    """profile: for the engine. select: which face. fps: of the footage, 0 for its own."""

    profile: Profile
    select: Select
    fps: float


def read_settings(values: Mapping[str, Any], version: Version) -> Settings:
    """Widget values by their ids to settings for a model version."""
    changes = {name: values[name] for name in _PLAIN}
    margin, mode = values["extra_margin"], values["parsing_mode"]
    profile = Profile.for_version(
        version,
        extra_margin=None if margin == VERSIONS_OWN else margin,
        parsing_mode=None if mode == AUTO else mode,
        vae_sampling=values["vae_sampling"],
        seed=values["vae_seed"],
        parity=values["parity"],
        **changes,
    )
    nearest = values["select"] == "nearest"
    select: Select = (float(values["select_x"]), float(values["select_y"])) if nearest else "largest"
    return Settings(profile, select, values["fps"])
