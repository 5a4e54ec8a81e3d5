"""Graphs made with older MuseTalk packs: which of this pack's nodes take over from theirs.

ComfyUI 0.13 and newer swap a missing node for a registered one, in the browser on the user's word and on the
server when a prompt names it. A swap is one node for one node and never adds any, so what only this pack asks for
(the models, the avatar) is left open for the user to connect. Two rules keep a swap honest: a link that is carried
over means the same on both sides, or has another type and is refused by name; a widget keeps its value only where it
has the same unit.

Older hosts have no such registry; there `register` is never called, and does nothing if it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from comfy_api.latest import ComfyAPI, io


@dataclass(frozen=True)
class Replacement:
    """One old node and the node that takes over.

    inputs: new input id to old input id, only those that the old node always has: the server looks them up
    without asking. values: new input id to a value of its own. outputs: old output index to new output index.
    widgets: the old node's widget inputs in the order a saved graph lists their values.
    """

    old: str
    new: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[int, int] = field(default_factory=lambda: {0: 0})
    widgets: Sequence[str] = ()


KJ_SAMPLER = Replacement(
    "muse_talk_sampler",
    "MuseTalkDecodePasteBack",
    inputs={"vae": "vae", "batch_size": "batch_size"},
    outputs={0: 1},  # the bare faces
    widgets=("batch_size", "delay_frame"),
)

REPLACEMENTS = (
    # chaojie/ComfyUI-MuseTalk. Its files were paths and its result was IMAGE: the video and what shows it are the
    # user's to connect again. Its cut was in milliseconds, so the times are not taken over.
    Replacement(
        "MuseTalkRun",
        "MuseTalkLipSyncVideo",
        inputs={"audio": "audio_path", "bbox_shift": "bbox_shift", "batch_size": "batch_size"},
        widgets=("video_path", "audio_path", "bbox_shift", "batch_size"),
    ),
    Replacement(
        "MuseTalkCupAudio",
        "TrimAudioDuration",
        values={"start_index": 0.0, "duration": 60.0},
        widgets=("audio_path", "start", "end"),
    ),
    # kijai/ComfyUI-MuseTalk-KJ, its first version and its last
    Replacement("muse_talk_model_loader", "MuseTalkLoadModels"),
    Replacement("UNETLoader_MuseTalk", "MuseTalkLoadModels"),
    replace(KJ_SAMPLER, old="muse_talk_process"),
    KJ_SAMPLER,
    Replacement(
        "whisper_to_features",
        "MuseTalkAudioFeatures",
        inputs={"audio": "audio_tensor", "fps": "fps"},
        outputs={0: 0, 1: 2},
        widgets=("fps",),
    ),
    Replacement(  # 0 dB: the sound as it is, resampled by whoever needs it
        "vhs_audio_to_audio_tensor",
        "AudioAdjustVolume",
        inputs={"audio": "vhs_audio"},
        values={"volume": 0},
        widgets=("target_sample_rate", "target_channels"),
    ),
    # AIFSH/ComfyUI-MuseTalk_FSH
    Replacement(
        "MuseTalk",
        "MuseTalkLipSyncVideo",
        inputs={"video": "video", "audio": "audio", "bbox_shift": "bbox_shift", "batch_size": "batch_size"},
        widgets=("bbox_shift", "fps", "batch_size", "batch_size_fa", "use_saved_coord"),
    ),
    Replacement(
        "PreViewVideo",
        "SaveVideo",
        inputs={"video": "video"},
        values={"filename_prefix": "video/MuseTalk", "format": "auto", "codec": "auto"},
        outputs={},
    ),
    # xuhongming251/ComfyUI-MuseTalkUtils
    Replacement("MuseTalkPreprocess", "MuseTalkPrepareAvatar", inputs={"frames": "origin_images"}, outputs={1: 1}),
    Replacement("MuseTalkPostprocess", "MuseTalkPasteBack", inputs={"faces": "musetalk_faces"}),
    # SayanoAI/Comfy-RVC: its boxes and frames are one avatar here
    Replacement("MuseAudioFeatureExtractionNode", "MuseTalkAudioFeatures", inputs={"audio": "audio"}),
    Replacement(
        "MuseImageFeatureExtractionNode", "MuseTalkPrepareAvatar", inputs={"frames": "images"}, outputs={0: 0, 1: 0}
    ),
    Replacement("MuseTalkNode", "MuseTalkDecodePasteBack", inputs={"avatar": "coord_list"}),
)


async def register(node_classes: Sequence[type[io.ComfyNode]]) -> None:
    """Tell the host about `REPLACEMENTS`.

    node_classes: this pack's nodes; their widgets' own defaults fill what a replacement does not name, because the
    server builds the new node from nothing but what it is told.
    """
    if not hasattr(io, "NodeReplace"):
        return
    defaults = {node.GET_SCHEMA().node_id: _widget_defaults(node) for node in node_classes}
    registry = ComfyAPI().node_replacement
    for item in REPLACEMENTS:
        values = {**defaults.get(item.new, {}), **item.values}
        await registry.register(
            io.NodeReplace(
                new_node_id=item.new,
                old_node_id=item.old,
                old_widget_ids=list(item.widgets),
                input_mapping=[
                    *(
                        {"new_id": name, "set_value": value}
                        for name, value in values.items()
                        if name not in item.inputs
                    ),
                    *({"new_id": new, "old_id": old} for new, old in item.inputs.items()),
                ],
                output_mapping=[{"old_idx": old, "new_idx": new} for old, new in item.outputs.items()],
            )
        )


def _widget_defaults(node: type[io.ComfyNode]) -> dict[str, Any]:
    """The value each widget of a node starts with, by input id."""
    defaults = {}
    for name, (_, options) in _inputs(node):
        if "default" in options:
            defaults[name] = options["default"]
        elif options.get("options"):
            defaults[name] = options["options"][0]
    return defaults


def _inputs(node: type[io.ComfyNode]) -> list[tuple[str, tuple[str, dict[str, Any]]]]:
    types = node.INPUT_TYPES()
    return [*types["required"].items(), *types.get("optional", {}).items()]
