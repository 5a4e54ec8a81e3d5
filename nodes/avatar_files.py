"""Save Avatar and Load Avatar."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musetalk.avatar_file import load_avatar, save_avatar
from .host import folders
from .schema import Avatar, advanced, avatar_input, make_schema

_CATEGORY = "MuseTalk/avatar"


class SaveAvatar(io.ComfyNode):
    """An avatar to a folder below ComfyUI's output."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkSaveAvatar",
            display_name="Save Avatar",
            category=_CATEGORY,
            description="Writes a prepared avatar to a new folder of output/musetalk/avatars, whole or not at all.",
            search_aliases=["musetalk", "export avatar"],
            is_output_node=True,
            inputs=[
                avatar_input(),
                io.String.Input(
                    "filename_prefix",
                    default="avatar",
                    tooltip="Name of the new folder, to which a number is added; 'group/name' makes one folder more.",
                ),
                advanced(
                    io.Boolean.Input(
                        "copy_footage",
                        default=True,
                        tooltip="Put the footage inside, so that the folder can be moved and the original deleted. Off "
                        "saves space and notes where it lies; footage from an IMAGE is always inside.",
                    )
                ),
            ],
            outputs=[io.String.Output("folder", display_name="folder", tooltip="The name Load Avatar lists it by.")],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str = "avatar") -> bool | str:
        return folders.check_prefix(filename_prefix) or True

    @classmethod
    def execute(cls, avatar: Any, filename_prefix: str, copy_footage: bool) -> io.NodeOutput:
        folder = save_avatar(avatar, folders.new_avatar_folder(filename_prefix), copy_footage=copy_footage)
        return io.NodeOutput(folders.avatar_name(folder))


class LoadAvatar(io.ComfyNode):
    """A saved avatar, checked against its footage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkLoadAvatar",
            display_name="Load Avatar",
            category=_CATEGORY,
            description="Reads an avatar saved before; a changed or damaged one is refused with the reason.",
            search_aliases=["musetalk", "import avatar"],
            inputs=[
                io.Combo.Input(
                    "avatar",
                    options=folders.avatar_names(),
                    tooltip="Folders of output/musetalk/avatars and input/musetalk/avatars.",
                )
            ],
            outputs=[
                Avatar.Output("avatar_out", display_name="avatar"),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of the footage."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, avatar: str) -> Any:
        folder = folders.avatar_folder(avatar)
        return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.iterdir())]

    @classmethod
    def execute(cls, avatar: str) -> io.NodeOutput:
        loaded = load_avatar(folders.avatar_folder(avatar))
        return io.NodeOutput(loaded, float(loaded.frames.fps))
