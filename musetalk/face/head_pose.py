"""Where a head looks."""

from __future__ import annotations

import numpy as np

# Landmarks that neither the mouth nor the lids nor the brows move: the ends of the jaw line, the nose, the corners of
# the eyes. Their places on an average head, in distances of the outer corners of the eyes: x to the picture's right,
# y down, z away from the camera. Averaged from the built-in mesh's answers on frontal portraits, made symmetric.
_POINTS = (0, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45)
_HEAD = np.array([
    [-0.736, -0.229, 0.663], [0.736, -0.229, 0.663],
    [0.0, -0.368, -0.110], [0.0, -0.248, -0.201], [0.0, -0.131, -0.311], [0.0, 0.0, -0.367],
    [-0.183, 0.086, -0.131], [-0.092, 0.123, -0.163], [0.0, 0.128, -0.182], [0.092, 0.123, -0.163],
    [0.183, 0.086, -0.131],
    [-0.5, -0.329, 0.138], [-0.192, -0.315, 0.079], [0.192, -0.315, 0.079], [0.5, -0.329, 0.138],
])  # fmt: skip
# A face flatter than this part of its extent is a line or a point, and looks nowhere.
_FLAT = 1e-3


def head_pose(landmarks: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, float32 ``[M, 3]``, of iBUG landmarks ``[M, 68, 2]``; NaN where unknown.

    Yaw is positive when the face looks to the picture's right, pitch when it looks up, roll (as in
    ``FaceTrack.turns``) when the head is tilted clockwise on screen. The head is first pitched about the line through
    its ears, then turned about the picture's vertical, then rolled in the picture: turning the picture changes roll
    alone. Yaw lies within 90 degrees.

    Scaled orthographic projection of an average head, fitted by least squares in closed form. No focal length is
    needed. Heads differ: pitch is good to about 7 degrees, yaw to about 3.
    """
    pose = np.full((len(landmarks), 3), np.nan, np.float32)
    seen = landmarks[:, list(_POINTS)].astype(np.float64)
    seen -= seen.mean(axis=1, keepdims=True)
    known = np.flatnonzero(np.isfinite(seen).all(axis=(1, 2)))
    # The affine camera [2, 3] of every frame, and the rotation nearest to it.
    camera = np.swapaxes(seen[known], 1, 2) @ np.linalg.pinv(_HEAD - _HEAD.mean(axis=0)).T
    left, scales, right = np.linalg.svd(camera, full_matrices=False)
    solid = scales[:, 1] > _FLAT * np.maximum(scales[:, 0], 1e-6)
    rotation = (left @ right)[solid]
    depth = np.cross(rotation[:, 0], rotation[:, 1])
    yaw = np.arcsin(np.clip(depth[:, 0], -1, 1))
    pitch = -np.arctan2(depth[:, 1], depth[:, 2])
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    pose[known[solid]] = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return pose
