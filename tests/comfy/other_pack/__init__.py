"""Stands in for other packs' detectors: a node that outputs what it is told, as the sockets such packs have."""

import json

from comfy_api.latest import ComfyExtension, io

SOCKETS = ("POSE_KEYPOINT", "FACE_LANDMARKS", "BOUNDING_BOX")


class Detector(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestDetector",
            inputs=[io.String.Input("found", multiline=True)],
            outputs=[io.Custom(socket).Output(socket.lower()) for socket in SOCKETS],
        )

    @classmethod
    def execute(cls, found):
        return io.NodeOutput(*[json.loads(found)] * len(SOCKETS))


class OtherPack(ComfyExtension):
    async def get_node_list(self):
        return [Detector]


async def comfy_entrypoint():
    return OtherPack()
