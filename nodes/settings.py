"""The widgets that Prepare Avatar and Lip Sync Video share, as an engine profile; nothing here needs ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..musetalk.errors import InputError
from ..musetalk.face.selection import PersonSelect
from ..musetalk.profile import Profile, Version

AUTO = "auto"
VERSIONS_OWN = -1
"""In a number widget: what the model version was published with."""
SELECTIONS = ("largest", "nearest", "smallest", "left", "right", "center", "index", "reference")
_PLAIN = ("bbox_shift", "left_cheek_width", "right_cheek_width", "expand", "blur_ratio", "upper_boundary_ratio")
# Newer than the first release: prompts saved before lack them.
_ADDED = ("mask_source", "color_match", "smoothing", "upright", "max_yaw", "max_pitch", "max_covered", "fade")


@dataclass(frozen=True)
class Settings:
    """profile: for the engine. select: which face. fps: of the footage, 0 for its own."""

    profile: Profile
    select: PersonSelect
    fps: float


def read_settings(values: Mapping[str, Any], version: Version, reference: np.ndarray | None = None) -> Settings:
    """Widget values by their ids to settings for a model version.

    reference: pictures of the person to select, uint8 RGB ``[1, H, W, 3]``. Raises InputError where it and ``select``
    do not belong together.
    """
    margin, mode = values["extra_margin"], values["parsing_mode"]
    profile = Profile.for_version(
        version,
        extra_margin=None if margin == VERSIONS_OWN else margin,
        parsing_mode=None if mode == AUTO else mode,
        vae_sampling=values["vae_sampling"],
        seed=values["vae_seed"],
        parity=values["parity"],
        **{name: values[name] for name in _PLAIN},
        **{name: values.get(name) for name in _ADDED},
    )
    return Settings(profile, _selection(values, reference), values["fps"])


def _selection(values: Mapping[str, Any], reference: np.ndarray | None) -> PersonSelect:
    select: str = values["select"]
    if (select == "reference") != (reference is not None):
        raise InputError(
            "select is 'reference' and nothing is connected to it; connect a picture of the person to reference"
            if reference is None
            else f"a reference picture is connected and select is {select!r}; set select to reference, or disconnect it"
        )
    if reference is not None:
        if len(reference) != 1:
            raise InputError(f"the reference input holds {len(reference)} pictures; connect one")
        return reference[0]
    if select == "nearest":
        return float(values["select_x"]), float(values["select_y"])
    return int(values.get("select_index", 0)) if select == "index" else select
