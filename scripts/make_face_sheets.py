"""The pictures of docs/faces.md, drawn from the two bundled public-domain portraits.

python scripts/make_face_sheets.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from musetalk import FrameSource, Profile
from musetalk.blend import paste_face
from musetalk.face.boxes import face_place
from musetalk.face.mask_maker import MaskMaker
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.people import find_people
from musetalk.face.sheet import people_sheet
from musetalk.face.sources import TrackRequest
from musetalk.face.track import FaceTrack
from musetalk.face.tracking import track_faces
from musetalk.latents import crop_face

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "faces"
TILE = 300
_GREEN, _RED = (80, 220, 100), (240, 70, 70)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    hopper, astronaut = (load(path) for path in ("tests/data/grace_hopper.jpg", "demo/astronaut.png"))
    mesh = FaceMesh.load()
    pictures = {
        "sheet": contact_sheet(mesh, hopper, astronaut),
        "masks": mask_sheet(mesh, hopper, astronaut),
        "upright": upright_sheet(mesh, hopper),
        "people": people_sheet(find_people(dialogue(hopper, astronaut), source=MeshLandmarks(mesh))),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(OUT / f"{name}.jpg", quality=85)
        print(f"docs/faces/{name}.jpg {picture.shape[1]}x{picture.shape[0]}")


def load(path: str) -> np.ndarray:
    return np.array(Image.open(ROOT / path).convert("RGB"))


def tile(picture: np.ndarray) -> np.ndarray:
    """The picture fitted into a square tile."""
    scale = TILE / max(picture.shape[:2])
    sized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:TILE, :TILE]
    square = np.full((TILE, TILE, 3), 24, np.uint8)
    square[: sized.shape[0], : sized.shape[1]] = sized
    return square


def grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def rolled(picture: np.ndarray, degrees: float) -> np.ndarray:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    return cv2.warpAffine(picture, matrix, (width, height), borderValue=(90, 90, 90))


def contact_sheet(mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray) -> np.ndarray:
    small = np.full((1200, 1600, 3), 90, np.uint8)
    small[300:526, 900:1092] = cv2.resize(hopper, (192, 226), interpolation=cv2.INTER_AREA)
    crowd = np.full((5 * 220, 6 * 200, 3), 90, np.uint8)
    for place in range(30):
        portrait = cv2.resize((hopper, astronaut[:280, 105:357])[place % 2], (180, 200), interpolation=cv2.INTER_AREA)
        y, x = divmod(place, 6)
        crowd[y * 220 : y * 220 + 200, x * 200 : x * 200 + 180] = portrait
    views = [
        hopper,
        astronaut,
        *(rolled(hopper, degrees) for degrees in (45, 90, 180)),
        hopper[:, 230:],
        small,
        crowd,
    ]
    return grid([tile(overlay(mesh, view)) for view in views], 4)


def overlay(mesh: FaceMesh, picture: np.ndarray) -> np.ndarray:
    """Every face that is found: its 68 points and its box."""
    height, width = picture.shape[:2]
    request = TrackRequest(1, 1, (width, height), FrameSource.from_array(picture[None]).fps, "largest", 0.5, still=True)
    (faces,) = MeshLandmarks(mesh).observe_everyone(iter([picture]), request)
    drawn = picture.copy()
    thickness = max(1, round(max(picture.shape) / 300))
    for face in faces:
        assert face.landmarks is not None
        for x, y in face.landmarks:
            cv2.circle(drawn, (round(float(x)), round(float(y))), thickness, _GREEN, -1, cv2.LINE_AA)
        track = track_faces(picture[None], source=_Fixed(face), profile=Profile(), still=True)
        if track.valid[0]:
            x0, y0, x1, y1 = track.boxes[0].tolist()
            cv2.rectangle(drawn, (x0, y0), (x1, y1), _RED, thickness)
    return drawn


class _Fixed:
    """A source that knows one face."""

    name = "fixed"

    def __init__(self, face) -> None:
        self._face = face

    def observe(self, frames, request):
        return iter([self._face])

    def observe_everyone(self, frames, request):
        return iter([[self._face]])


def mask_sheet(mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray) -> np.ndarray:
    tiles = []
    for portrait in (hopper, astronaut):
        for source in ("mesh", "hull"):
            profile = Profile(mask_source=source)
            track = track_faces(portrait[None], source=MeshLandmarks(mesh), profile=profile, still=True)
            x0, y0, x1, y1 = (int(v) for v in track.boxes[0])
            around = slice(max(0, y0 - 60), y1 + 60), slice(max(0, x0 - 60), x1 + 60)
            tiles.append(tile(tinted(portrait, track, profile)[around]))
    return grid(tiles, 4)


def tinted(picture: np.ndarray, track: FaceTrack, profile: Profile) -> np.ndarray:
    (mask,) = MaskMaker(None, track, profile, picture.shape[1::-1]).make([0], [picture])
    drawn = picture.copy()
    paste_face(drawn, np.full((256, 256, 3), _GREEN, np.uint8), mask.faded(0.6))
    return drawn


def upright_sheet(mesh: FaceMesh, hopper: np.ndarray) -> np.ndarray:
    """A tilted head, the crop without and with ``upright``, and the mask it is pasted through."""
    tilted = rolled(hopper, 30)
    crops = []
    for upright in (False, True):
        profile = Profile(upright=upright)
        track = track_faces(tilted[None], source=MeshLandmarks(mesh), profile=profile, still=True)
        place = face_place(track, 0, profile.extra_margin, tilted.shape[1::-1])
        crops.append(crop_face(tilted, place.box, place.turn))
    return grid([tile(picture) for picture in (tilted, *crops, tinted(tilted, track, profile))], 4)


def dialogue(hopper: np.ndarray, astronaut: np.ndarray) -> np.ndarray:
    """Both, for a few frames; then they have changed places."""
    one, two = cv2.resize(astronaut, (320, 320)), cv2.resize(hopper[40:560], (320, 320))
    first, second = np.concatenate([one, two], axis=1), np.concatenate([two, one], axis=1)
    return np.stack([first] * 6 + [second] * 6)


if __name__ == "__main__":
    main()
