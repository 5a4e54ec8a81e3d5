"""Load MuseTalk Models."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host import finding, folders
from .host.networks import DTYPE_CHOICES, FaceModels, MuseTalkModel, load_network, load_vae
from .schema import VERSIONS, make_schema
from .schema import AudioEncoder as AudioEncoderSocket
from .schema import FaceModels as FaceModelsSocket
from .schema import Model as ModelSocket
from .settings import AUTO


class LoadModels(io.ComfyNode):
    """Files to networks, VAE included, under ComfyUI's memory management."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folders.model_files()

        def choice(name: str, kind: str, what: str, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> Any:
            return io.Combo.Input(
                name,
                options=[AUTO, *first, *finding.plausible(files, kind), *last],
                default=AUTO,
                tooltip=f"{what} Files of models/musetalk and the folders of extra_model_paths.yaml under musetalk; "
                "auto finds the right one, also where other packs put it.",
            )

        return make_schema(
            node_id="MuseTalkLoadModels",
            display_name="Load MuseTalk Models",
            category="MuseTalk/loaders",
            description="Loads the MuseTalk UNet, its VAE, the Whisper encoder and the face models.",
            search_aliases=["musetalk", "lip sync", "lipsync", "talking head", "dubbing"],
            inputs=[
                choice(
                    "unet",
                    "unet",
                    "The MuseTalk UNet. musetalk-mini is a small demonstration model that comes with these nodes, its "
                    "VAE and audio encoder included: auto takes it where there is no other.",
                    last=(finding.INCLUDED,),
                ),
                choice("vae", "vae", "The VAE, sd-vae-ft-mse."),
                choice("audio_encoder", "audio_encoder", "The audio encoder, Whisper tiny."),
                choice(
                    "face_parser",
                    "face_parser",
                    "Draws the masks; none uses the built-in face mesh instead.",
                    first=(finding.NONE,),
                ),
                io.Combo.Input(
                    "version",
                    options=list(VERSIONS),
                    default=AUTO,
                    tooltip="v1.5 or v1.0. auto reads it from the UNet's file and folder names, and prefers v1.5.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPE_CHOICES),
                    default=AUTO,
                    tooltip="Precision. auto follows ComfyUI and its command line (fp16 on most GPUs, fp32 on a CPU). "
                    "fp32 takes twice the memory; bf16 is fast on recent CPUs and costs some detail.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip="Fetch files that are missing from huggingface.co into models/musetalk (about 3.7 GB), "
                    "checked by size and sha256. Off: nothing is ever fetched.",
                ),
                io.Combo.Input(
                    "landmarks",
                    optional=True,
                    options=[finding.BUILT_IN, AUTO, *finding.plausible(files, "dwpose")],
                    default=finding.BUILT_IN,
                    tooltip="Finds the points of a face: the built-in face mesh, or DWPose as in the original (auto or "
                    "a file; download fetches it, 0.4 GB). With the parity setting DWPose looks as the original does.",
                ),
            ],
            outputs=[
                ModelSocket.Output("model", display_name="model"),
                io.Vae.Output("vae_out", display_name="vae"),
                AudioEncoderSocket.Output("audio_encoder_out", display_name="audio_encoder"),
                FaceModelsSocket.Output("face_models", display_name="face_models"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        return finding.fingerprint()

    @classmethod
    def execute(
        cls,
        unet: str,
        vae: str,
        audio_encoder: str,
        face_parser: str,
        version: str,
        dtype: str,
        download: bool,
        landmarks: str = finding.BUILT_IN,
    ) -> io.NodeOutput:
        chosen = {"unet": unet, "vae": vae, "audio_encoder": audio_encoder, "face_parser": face_parser}
        found = finding.find(chosen, version, download=download)
        finders = finding.find_landmark_networks(landmarks, version, download=download)
        files = (found.checkpoints.get("face_parser"), *finders)
        parser, pose, gate = (None if file is None else load_network(file, dtype) for file in files)
        return io.NodeOutput(
            MuseTalkModel(load_network(found.checkpoints["unet"], dtype), found.version),
            load_vae(found.checkpoints["vae"], dtype),
            load_network(found.checkpoints["audio_encoder"], dtype),
            FaceModels(parser, pose, gate, found.version),
        )
