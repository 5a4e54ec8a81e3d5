"""Draw docs/mini/*.jpg: what musetalk-mini makes of the bundled portraits, and of other faces given.

    .venv/bin/python scripts/make_mini_sheet.py [--models mini] [--out docs/mini]

A held-out voice says a held-out sentence; shown are frames in the middle of different sounds.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import musetalk
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.training.synthetic.espeak import Speech, Voice, speak

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "Would you mind passing me the marmalade, please?"
VOICE = Voice("en-us+Andrea", rate=150)
PORTRAITS = {"astronaut": ROOT / "demo" / "astronaut.png", "hopper": ROOT / "tests" / "data" / "grace_hopper.jpg"}
SOUNDS = ("w", "uː", "aɪ", "p", "æ", "m", "iː", "ɑː", "l")
SIDE = 224
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
    sounds = frames_of_sounds(speech)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, path in {**PORTRAITS, **{path.stem: path for path in args.face}}.items():
        picture = sheet(models, path, speech, sounds)
        picture.save(args.out / f"{name}.jpg", quality=90)
        print(args.out / f"{name}.jpg")


def frames_of_sounds(speech: Speech) -> dict[str, int]:
    """The frame in the middle of the first of each of SOUNDS that is said, in the order they are said."""
    ends = [phoneme.start for phoneme in speech.phonemes[1:]] + [speech.duration]
    found: dict[str, int] = {}
    for phoneme, end in zip(speech.phonemes, ends, strict=True):
        if phoneme.ipa in SOUNDS and phoneme.ipa not in found:
            found[phoneme.ipa] = int((phoneme.start + end) / 2 * 25)
    return found


def sheet(models: musetalk.Models, path: Path, speech: Speech, sounds: dict[str, int]) -> Image.Image:
    """The face of a picture at the frames of its talking, each with the sound below."""
    picture = np.asarray(Image.open(path).convert("RGB"))[None]
    avatar = musetalk.prepare_avatar(models, picture)
    features = musetalk.audio_features(models, speech.samples, SAMPLE_RATE)[list(sounds.values())]
    faces = musetalk.decode_faces(models, musetalk.inpaint(models, avatar, features))
    talking = np.concatenate(list(musetalk.paste_back(avatar, faces)))
    x0, y0, x1, y1 = (int(value) for value in avatar.track.boxes[0])
    margin = (x1 - x0) // 4
    box = (max(x0 - margin, 0), max(y0 - margin, 0), x1 + margin, y1 + margin)
    result = Image.new("RGB", (SIDE * len(sounds), SIDE + 28), "white")
    drawing, font = ImageDraw.Draw(result), ImageFont.truetype(FONT, 18)
    for column, (frame, sound) in enumerate(zip(talking, sounds, strict=True)):
        result.paste(
            Image.fromarray(frame).crop(box).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, 0)
        )
        drawing.text((column * SIDE + SIDE // 2, SIDE + 14), sound, fill="black", font=font, anchor="mm")
    return result


if __name__ == "__main__":
    main()
