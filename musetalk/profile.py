"""The numbers that belong to a published model version."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from .errors import InputError

Version = Literal["v15", "v1"]
PARSING_MODES = ("jaw", "raw", "neck")
MASK_SOURCES = ("auto", "parser", "mesh", "hull", "mask")
VAE_SAMPLING = ("mode", "sample")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Profile:
    """Settings of the face box, the crop, the mask and the audio windows (spec sections 2, 3, 4 and 6).

    version: which published UNet the settings belong to.
    bbox_shift: pixels the box rule moves the nose-bridge line; positive is down, which opens the mouth more.
    extra_margin: pixels added below the chin after the box rule.
    expand: side of the square blending crop over the longer side of the face box.
    parsing_mode: which face-parser classes the mask keeps: ``jaw``, ``raw`` or ``neck``.
    left_cheek_width, right_cheek_width: half widths, on the 512 grid, of the column strip in which ``jaw`` keeps
        the dilated skin; a larger width lets more of the cheek change.
    blur_ratio: size of the mask's Gaussian kernel over the crop's side; 0.05 offline, 0.1 in upstream's realtime.
    upper_boundary_ratio: part of the crop, from the top, that the mask never enters (before blurring).
    vae_sampling: ``mode`` takes the posterior's mean, ``sample`` draws from it as upstream does.
    seed: seed of ``sample``.
    mask_source: where the label map comes from: ``parser`` (face parser), ``mesh`` (drawn from the face mesh),
        ``hull`` (convex hull of the 68 landmarks), ``mask`` (masks the caller gives); ``auto`` takes the parser where
        its weights are loaded, else the mesh.
    color_match: give the redrawn face the mean and spread of colour that the footage has in the rim of the mask.
    smoothing: strength of the smoothing of landmarks over time, 0 (none) to 4.
    upright: turn the crop with a tilted head, and the redrawn face back.
    max_yaw, max_pitch: degrees a head may be turned to the side, or up and down, before the frame passes through.
    max_covered: part of the mouth region, 0..1, that may be covered before the frame passes through.
    fade: seconds of cross-fade beside frames that pass through.
    parity: reproduce upstream's behaviour with its quirks (window maths from truncated fps, unclamped boxes). It
        leaves out everything from ``color_match`` to ``fade``.
    """

    version: Version = "v15"
    bbox_shift: int = 0
    extra_margin: int = 10
    expand: float = 1.5
    parsing_mode: str = "jaw"
    left_cheek_width: int = 90
    right_cheek_width: int = 90
    blur_ratio: float = 0.05
    upper_boundary_ratio: float = 0.5
    vae_sampling: str = "mode"
    seed: int = 0
    mask_source: str = "auto"
    color_match: bool = False
    smoothing: float = 1.0
    upright: bool = False
    max_yaw: float = 65.0
    max_pitch: float = 50.0
    max_covered: float = 0.6
    fade: float = 0.12
    parity: bool = False

    def __post_init__(self) -> None:
        if self.version not in ("v15", "v1"):
            raise InputError(f"version is {self.version!r}; use 'v15' or 'v1'")
        if self.parsing_mode not in PARSING_MODES:
            raise InputError(f"parsing_mode is {self.parsing_mode!r}; use one of {', '.join(PARSING_MODES)}")
        if self.vae_sampling not in VAE_SAMPLING:
            raise InputError(f"vae_sampling is {self.vae_sampling!r}; use one of {', '.join(VAE_SAMPLING)}")
        _check_range("extra_margin", self.extra_margin, 0, 4096)
        _check_range("bbox_shift", self.bbox_shift, -4096, 4096)
        _check_range("expand", self.expand, 1.0, 4.0)
        _check_range("left_cheek_width", self.left_cheek_width, 0, 256)
        _check_range("right_cheek_width", self.right_cheek_width, 0, 256)
        _check_range("blur_ratio", self.blur_ratio, 0.0, 1.0)
        _check_range("upper_boundary_ratio", self.upper_boundary_ratio, 0.0, 1.0)
        _check_range("seed", self.seed, 0, MAX_SEED)
        if self.mask_source not in MASK_SOURCES:
            raise InputError(f"mask_source is {self.mask_source!r}; use one of {', '.join(MASK_SOURCES)}")
        _check_range("smoothing", self.smoothing, 0.0, 4.0)
        _check_range("max_yaw", self.max_yaw, 0.0, 180.0)
        _check_range("max_pitch", self.max_pitch, 0.0, 180.0)
        _check_range("max_covered", self.max_covered, 0.0, 1.0)
        _check_range("fade", self.fade, 0.0, 10.0)

    @classmethod
    def for_version(cls, version: str, **changes: Any) -> Profile:
        """The profile of a model version; keyword arguments replace single numbers, None leaves them."""
        base = V1 if version == "v1" else cls(version=version)  # type: ignore[arg-type]
        return base.changed(**changes)

    def changed(self, **changes: Any) -> Profile:
        """A copy with the given fields replaced; None leaves a field as it is."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise InputError(f"unknown profile setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}")


V15 = Profile()
V1 = Profile(version="v1", extra_margin=0, parsing_mode="raw")
