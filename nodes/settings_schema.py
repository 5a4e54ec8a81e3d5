"""The widgets that Prepare Avatar and Lip Sync Video share. Their order is part of saved workflows."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musetalk.profile import MASK_SOURCES, MAX_SEED, PARSING_MODES, VAE_SAMPLING, Profile
from .schema import advanced
from .settings import AUTO, SELECTIONS, VERSIONS_OWN

_OWN = Profile()


def settings_inputs() -> list[Any]:
    """The first block of widgets read by `settings.read_settings`."""
    return [
        io.Int.Input(
            "bbox_shift",
            default=0,
            min=-512,
            max=512,
            tooltip="Pixels the middle of the face box moves down (up if negative), default 0. Down opens the mouth "
            "more, up less; the useful range is reported, often about -9 to 9.",
        ),
        io.Combo.Input(
            "parsing_mode",
            options=[AUTO, *PARSING_MODES],
            default=AUTO,
            tooltip="What may be redrawn: jaw (lower face and chin, v1.5), raw (skin and mouth, v1.0), neck (raw and "
            "the neck; needs the face parser file). auto is the model version's own.",
        ),
        *map(advanced, _mask_inputs()),
        *map(advanced, _select_inputs()),
        *map(advanced, _engine_inputs()),
    ]


def added_inputs() -> list[Any]:
    """The second block: optional, so that prompts saved before it keep running, and after every other widget."""
    return list(map(advanced, [*_drawing_inputs(), *_passing_inputs(), _index_input()]))


def _mask_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "extra_margin",
            default=VERSIONS_OWN,
            min=VERSIONS_OWN,
            max=512,
            tooltip="Pixels added below the chin; -1 is the version's own (v1.5: 10, v1.0: 0). More follows a wide "
            "open mouth, and redraws more of the neck.",
        ),
        io.Int.Input(
            "left_cheek_width",
            default=90,
            min=0,
            max=256,
            tooltip="How far left of the middle the cheek may change, of 256, default 90; jaw mode only. Wider moves "
            "more of the cheek, narrower keeps more of the footage.",
        ),
        io.Int.Input(
            "right_cheek_width",
            default=90,
            min=0,
            max=256,
            tooltip="How far right of the middle the cheek may change, of 256, default 90; jaw mode only.",
        ),
        io.Float.Input(
            "expand",
            default=1.5,
            min=1.0,
            max=4.0,
            step=0.05,
            tooltip="Side of the blending crop over that of the face box, default 1.5. The face parser sees this crop.",
        ),
        io.Float.Input(
            "blur_ratio",
            default=0.05,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Softness of the mask's edge as a part of the crop, default 0.05. Softer hides the seam and lets "
            "the redrawn face fade out earlier.",
        ),
        io.Float.Input(
            "upper_boundary_ratio",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Part of the crop, from the top, that stays as filmed, default 0.5. Less redraws more of the nose.",
        ),
    ]


def _select_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "select",
            options=list(SELECTIONS),
            default="largest",
            tooltip="Whose face when there are several. largest, or nearest to select_x, select_y: in the first frame "
            "that shows one, and followed from there. Among all people of the clip: smallest, left, right, center, "
            "number select_index of Find Faces, or the person of the reference picture.",
        ),
        io.Int.Input("select_x", default=0, min=0, max=16384, tooltip="Pixels from the left, for select = nearest."),
        io.Int.Input("select_y", default=0, min=0, max=16384, tooltip="Pixels from the top, for select = nearest."),
    ]


def _engine_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "vae_sampling",
            options=list(VAE_SAMPLING),
            default="mode",
            tooltip="How a face becomes latents: mode is exact and repeatable; sample draws noise as upstream does.",
        ),
        io.Int.Input(
            "vae_seed", default=0, min=0, max=MAX_SEED, tooltip="Seed of the noise, for vae_sampling = sample."
        ),
        io.Boolean.Input(
            "parity",
            default=False,
            tooltip="Repeat upstream's behaviour with its quirks, for comparisons. Off is better for everything else.",
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=240.0,
            step=0.001,
            tooltip="Show the footage at this rate; 0 is a video's own, and 25 for an IMAGE. 29.97 means 30000/1001.",
        ),
    ]


def _drawing_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "mask_source",
            optional=True,
            options=list(MASK_SOURCES),
            default=_OWN.mask_source,
            tooltip="What draws the mask: the face parser, the built-in face mesh, the hull of the 68 landmarks, or "
            "the mask input. auto is the parser where its file is loaded, else the mesh.",
        ),
        io.Boolean.Input(
            "color_match",
            optional=True,
            default=_OWN.color_match,
            tooltip="Give the redrawn face the colours that the footage has along the edge of the mask, default off. "
            "On hides a face that comes out paler or darker than its surroundings.",
        ),
        io.Float.Input(
            "smoothing",
            optional=True,
            default=_OWN.smoothing,
            min=0.0,
            max=4.0,
            step=0.1,
            tooltip="How strongly the found face is steadied over time, default 1; 0 is off. More calms a box that "
            "trembles; too much follows a fast head late.",
        ),
        io.Boolean.Input(
            "upright",
            optional=True,
            default=_OWN.upright,
            tooltip="Turn the crop with a tilted head and the redrawn face back, default off. For heads that lean to "
            "the side or lie.",
        ),
    ]


def _passing_inputs() -> list[Any]:
    return [
        io.Float.Input(
            "max_yaw",
            optional=True,
            default=_OWN.max_yaw,
            min=0.0,
            max=180.0,
            step=1.0,
            tooltip="Degrees the head may turn to the side, default 65; 180 is any. Beyond, frames stay as filmed.",
        ),
        io.Float.Input(
            "max_pitch",
            optional=True,
            default=_OWN.max_pitch,
            min=0.0,
            max=180.0,
            step=1.0,
            tooltip="Degrees the head may turn up or down, default 50; 180 is any. Beyond, frames stay as filmed.",
        ),
        io.Float.Input(
            "max_covered",
            optional=True,
            default=_OWN.max_covered,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Part of the mouth region that the occluder may cover, default 0.6. Beyond, frames stay as filmed.",
        ),
        io.Float.Input(
            "fade",
            optional=True,
            default=_OWN.fade,
            min=0.0,
            max=10.0,
            step=0.02,
            tooltip="Seconds of cross-fade beside frames that stay as filmed, and where someone begins or stops to "
            "speak, default 0.12; 0 switches at once.",
        ),
    ]


def _index_input() -> Any:
    return io.Int.Input(
        "select_index",
        optional=True,
        default=0,
        min=0,
        max=255,
        tooltip="Number of the person, for select = index. Find Faces shows who is who: 0, 1, ... in order of first "
        "appearance, left to right.",
    )
