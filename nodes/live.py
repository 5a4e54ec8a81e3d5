"""Live Avatar."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musetalk.audio.features import MAX_FPS, exact_fps
from ..musetalk.errors import AvatarError
from ..musetalk.live.security import AVATAR_ID
from .host.live_networks import Networks
from .host.live_service import HOST, page_address, page_path, require_live
from .host.networks import FaceModels, ManagedModel, MuseTalkModel
from .host.progress import Progress
from .schema import (
    advanced,
    audio_encoder_input,
    avatar_input,
    face_models_input,
    make_schema,
    model_input,
    vae_input,
)

OUTPUT_KEY = "musetalk_live"
"""In what the browser is told about a run: the avatar's name, and the path of its page."""


class LiveAvatar(io.ComfyNode):
    """A prepared avatar to ComfyUI's live server, where it speaks what it hears."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkLiveAvatar",
            display_name="Live Avatar",
            category="MuseTalk/avatar",
            description="Lets a prepared avatar say live, in the browser or through a virtual camera, what a "
            "microphone, a sound file or a voice agent says.",
            search_aliases=["musetalk", "live", "stream", "webrtc", "real time", "virtual camera", "talking head"],
            is_output_node=True,
            inputs=[
                avatar_input(),
                model_input(),
                vae_input(),
                audio_encoder_input(),
                face_models_input(),
                io.String.Input(
                    "name",
                    default="avatar",
                    tooltip="What the live server calls the avatar: 1 to 64 of a-z, 0-9 and -, beginning with a letter "
                    "or digit. One of the same name is replaced.",
                ),
                advanced(
                    io.Float.Input(
                        "fps",
                        default=25.0,
                        min=1.0,
                        max=float(MAX_FPS),
                        step=0.001,
                        tooltip="Pictures per second of all live sessions, default 25, whatever the footage has. A "
                        "change ends the sessions that run.",
                    )
                ),
            ],
            outputs=[
                io.String.Output(
                    "link",
                    display_name="link",
                    tooltip="The avatar's page, for a browser on this machine. The side panel shows the same.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str = "avatar") -> bool | str:
        if AVATAR_ID.fullmatch(name):
            return True
        return f"name is {name[:80]!r}; use 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit"

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """Never the same: what the server has may have changed since the last run, and looking takes no time."""
        return float("nan")

    @classmethod
    def execute(
        cls,
        avatar: Any,
        model: MuseTalkModel,
        vae: Any,
        audio_encoder: ManagedModel,
        face_models: FaceModels,
        name: str,
        fps: float,
    ) -> io.NodeOutput:
        require_live()
        if avatar.profile.version != model.version:
            raise AvatarError(
                f"the avatar was prepared for MuseTalk {avatar.profile.version}, the model is {model.version}; prepare "
                f"it again, or choose version {avatar.profile.version} in Load MuseTalk Models"
            )
        HOST.use(Networks(model, vae, audio_encoder, face_models), exact_fps(fps))
        HOST.publish(name, avatar, Progress())
        return io.NodeOutput(page_address(name), ui={OUTPUT_KEY: [{"avatar": name, "path": page_path(name)}]})
