"""Tune Lip Sync."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musetalk.audio.features import open_windows
from ..musetalk.errors import InputError
from ..musetalk.profile import Profile
from .contact_sheet import VARIABLES, check_size, choose_moments, make_sheet, plan
from .host.media import empty_image, open_frames, open_sound
from .host.networks import FaceModels, ManagedModel, MuseTalkModel
from .host.progress import Progress, stop_if_interrupted
from .host.running import engine_models, landmark_source
from .pictures import fill
from .prepare import describe_range
from .schema import (
    advanced,
    audio_encoder_input,
    face_models_input,
    make_schema,
    model_input,
    vae_input,
)


class Tune(io.ComfyNode):
    """A few settings on a few moments, side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkTune",
            display_name="Tune Lip Sync",
            category="MuseTalk/avatar",
            description="Tries settings on a few moments of the clip and shows them side by side, labelled.",
            search_aliases=["musetalk", "contact sheet", "bbox_shift", "compare"],
            inputs=[
                io.MultiType.Input("frames", [io.Image, io.Video], tooltip="The footage: pictures or a video."),
                io.Audio.Input("audio", tooltip="The speech; moments are spread over its whole length."),
                model_input(),
                vae_input(),
                audio_encoder_input(),
                face_models_input(),
                io.String.Input(
                    "bbox_shifts",
                    default="-7, 0, 7",
                    tooltip="Values of bbox_shift to try, in pixels, separated by commas: one row each. Negative opens "
                    "the mouth less, positive more.",
                ),
                io.String.Input(
                    "parsing_modes",
                    default="jaw, raw",
                    tooltip="Values of parsing_mode to try, of jaw, raw and neck, separated by commas: one group of "
                    "columns each.",
                ),
                io.Combo.Input(
                    "vary",
                    options=list(VARIABLES),
                    default="nothing",
                    tooltip="One more setting to try; cheek_width sets both sides. Each value adds a row per shift.",
                ),
                io.String.Input(
                    "vary_values",
                    default="",
                    tooltip="Its values, separated by commas, such as '0.02, 0.05, 0.1' for blur_ratio.",
                ),
                io.Int.Input(
                    "frame_count",
                    default=3,
                    min=1,
                    max=8,
                    tooltip="Moments to show, default 3. More show the setting better and take longer.",
                ),
                advanced(
                    io.Int.Input(
                        "tile_size",
                        default=256,
                        min=64,
                        max=1024,
                        tooltip="Side of one picture in pixels, default 256. The model's own resolution is 256.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet"),
                io.String.Output(
                    "shift_range", display_name="shift_range", tooltip="The useful range of bbox_shift for this face."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, bbox_shifts: str = "0", parsing_modes: str = "jaw") -> bool | str:
        # vary is left to ComfyUI's own check of combos, so its values are checked in execute.
        try:
            plan(Profile(), bbox_shifts, parsing_modes, "nothing", "")
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        frames: Any,
        audio: Any,
        model: MuseTalkModel,
        vae: Any,
        audio_encoder: ManagedModel,
        face_models: FaceModels,
        bbox_shifts: str,
        parsing_modes: str,
        vary: str,
        vary_values: str,
        frame_count: int,
        tile_size: int,
    ) -> io.NodeOutput:
        wanted = plan(Profile.for_version(model.version), bbox_shifts, parsing_modes, vary, vary_values)
        check_size(wanted, frame_count)
        source, sound = open_frames(frames), open_sound(audio)
        models = engine_models(
            model.version,
            model=model,
            vae=vae,
            audio_encoder=audio_encoder,
            face_models=face_models,
            batch_size=frame_count,
        )
        windows = open_windows(models, sound, source.fps, check_cancelled=stop_if_interrupted)
        try:
            outputs, sources = choose_moments(len(windows), len(source), frame_count)
            tokens = windows.gather(outputs)
        finally:
            windows.close()
        progress = Progress(models.vae)  # type: ignore[arg-type]
        finder = landmark_source(face_models)
        picture, track = make_sheet(models, source, sources, tokens, wanted, tile_size, progress, finder)
        sheet = empty_image(1, *picture.shape)
        fill(sheet, 0, picture[None])
        return io.NodeOutput(sheet, describe_range(track))
