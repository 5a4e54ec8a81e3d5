"""Draw docs/mini/*.jpg: what musetalk-mini makes of the bundled portraits, and of a face it never saw.

    .venv/bin/python scripts/make_mini_sheet.py [--models mini] [--out docs/mini]

A held-out voice says a held-out sentence; shown are eight frames at different sounds, the same in every row.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import musetalk
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.training.synthetic.espeak import Speech, Voice, speak
from musetalk.training.synthetic.visemes import viseme_track

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "Would you mind passing me the marmalade, please?"
VOICE = Voice("en-us+Andrea", rate=150)
PORTRAITS = {"astronaut": ROOT / "demo" / "astronaut.png", "hopper": ROOT / "tests" / "data" / "grace_hopper.jpg"}
WANTED = ("w", "uw", "aa", "pbm", "ae", "iy", "l", "th", "sz", "eh", "uh", "kg")
COLUMNS, SIDE = 8, 224
# Has the letters of the IPA, which Pillow's own lacks.
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mini")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "mini")
    parser.add_argument("--face", type=Path, action="append", default=[], help="another portrait")
    args = parser.parse_args()
    models = musetalk.load_models(args.models, device="cpu")
    speech = speak(SENTENCE, VOICE)
    track = viseme_track(speech)
    frames = some_frames(track.names)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, path in {**PORTRAITS, **{path.stem: path for path in args.face}}.items():
        picture = sheet(models, path, speech, frames, [sound_at(speech, frame) for frame in frames])
        picture.save(args.out / f"{name}.jpg", quality=90)
        print(args.out / f"{name}.jpg")


def some_frames(names: tuple[str, ...]) -> list[int]:
    """A frame in the middle of the first run of each wanted viseme that occurs, in the order they are said."""
    found: dict[str, int] = {}
    for wanted in WANTED:
        runs = [index for index, name in enumerate(names) if name == wanted]
        if runs and len(found) < COLUMNS:
            first = runs[0]
            last = next((i for i in range(first, len(names)) if names[i] != wanted), len(names)) - 1
            found[wanted] = (first + last) // 2
    return sorted(found.values())


def sound_at(speech: Speech, frame: int) -> str:
    """The phoneme at the middle of a frame, in IPA."""
    time = (frame + 0.5) / 25
    return [phoneme.ipa for phoneme in speech.phonemes if phoneme.start <= time][-1]


def sheet(models: musetalk.Models, path: Path, speech: Speech, frames: list[int], sounds: list[str]) -> Image.Image:
    """The face of a picture at these frames of its talking, each with the sound below."""
    picture = np.asarray(Image.open(path).convert("RGB"))[None]
    avatar = musetalk.prepare_avatar(models, picture)
    features = musetalk.audio_features(models, speech.samples, SAMPLE_RATE)[frames]
    faces = musetalk.decode_faces(models, musetalk.inpaint(models, avatar, features))
    talking = np.concatenate(list(musetalk.paste_back(avatar, faces)))
    x0, y0, x1, y1 = (int(value) for value in avatar.track.boxes[0])
    margin = (x1 - x0) // 4
    box = (max(x0 - margin, 0), max(y0 - margin, 0), x1 + margin, y1 + margin)
    result = Image.new("RGB", (SIDE * len(frames), SIDE + 28), "white")
    drawing, font = ImageDraw.Draw(result), ImageFont.truetype(FONT, 18)
    for column, (frame, sound) in enumerate(zip(talking, sounds, strict=True)):
        result.paste(
            Image.fromarray(frame).crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, 0)
        )
        drawing.text((column * SIDE + SIDE // 2, SIDE + 14), sound, fill="black", font=font, anchor="mm")
    return result


if __name__ == "__main__":
    main()
