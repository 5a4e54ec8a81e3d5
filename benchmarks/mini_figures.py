"""The figures of docs/mini.md: synthetic clips lip-synced and measured against their truth.

    python benchmarks/mini_figures.py [--models mini] [--face PICTURE] [--folder build/mini/figures] [--json]

Milestone b: the bundled photographs. Milestone c: persons varied from them and drawn faces, in no training, and with
--face a picture in which the engine finds the face by itself. Voices and sentences are those of the test part, with
which no training was even validated; there are few, so clips may share a sentence. Every clip goes from
its silent source through the public functions and is scored as `musetalk evaluate --truth --vae` does, but on the
frames themselves instead of a lossy file of them. The same --seed is the same faces, voices and order of sentences.

Prints a Markdown table. --folder keeps the clips, to look at or to measure by the commands. Needs espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import musetalk
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.evaluation.correlation import pearson
from musetalk.evaluation.pixels import RegionScores
from musetalk.evaluation.truth import KnownClip, OpeningScores, TruthScores, compare_with_truth
from musetalk.face.boxes import add_extra_margin
from musetalk.face.tracking import track_faces
from musetalk.latents import crop_face, decode_batch, encode_faces
from musetalk.training.synthetic.clip_folder import FACES, FPS, ClipOptions, write_clips, write_sound, write_video
from musetalk.training.synthetic.clips import Clip, frame_times
from musetalk.training.synthetic.opening import OpeningProbe
from musetalk.training.synthetic.scene import Scene
from musetalk.training.synthetic.scripts import narration
from musetalk.training.synthetic.still import SIZE, still_from_mesh
from musetalk.training.synthetic.take import Take
from musetalk.training.synthetic.truth_file import (
    BOXES_FILE,
    SOUND_FILE,
    SOURCE_FILE,
    TALKING_FILE,
    TruthFile,
    read_truth,
    write_truth,
)

KINDS = FACES[:3]  # in the order in which "all" takes them
PICTURE_FILE = "source.png"
LONGEST_SIDE = 1024
# Of the seeds (stream, seed, index), as in clip_folder: no clip there has the same.
SPEECH_STREAM = 0x70696374

Pair = tuple[np.ndarray, np.ndarray]
"""Two series of openings, float64 ``[N]``, in the vertical unit of their faces: so faces can be pooled."""


@dataclass(frozen=True, eq=False)
class Case:
    """A clip to make: its column of the table, its folder, and what is known of it."""

    kind: str
    folder: Path
    known: TruthFile

    @property
    def source(self) -> Path:
        """The silent clip, or the picture that stands still."""
        picture = self.folder / PICTURE_FILE
        return picture if picture.is_file() else self.folder / SOURCE_FILE

    @property
    def boxes(self) -> list[list[int]] | None:
        """Of a synthetic clip; in a picture the engine finds the face."""
        path = self.folder / BOXES_FILE
        return json.loads(path.read_text("utf-8")) if path.is_file() else None


@dataclass(frozen=True, eq=False)
class Outcome:
    """A clip made and measured.

    pair: openings of the clip and of its truth while there is speech; unrelated: of the clip and of every other truth.
    changed: pixels that differ from the source where the paste mask is 0, of ``unmasked``. seconds: of the whole
    engine, from pictures and sound in memory to pictures in memory.
    """

    case: Case
    scores: TruthScores
    pair: Pair
    unrelated: list[Pair]
    changed: int
    unmasked: int
    seconds: float
    missing: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mini")
    parser.add_argument("--clips", type=int, default=4, help="of each kind of face (default: 4)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each clip (default: 6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=("rest", "found"), default="rest", help="the mouth of the silent source")
    parser.add_argument("--face", type=Path, action="append", default=[], help="a picture of a face in no training set")
    parser.add_argument("--folder", type=Path, help="keep the clips here")
    parser.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    models = musetalk.load_models(args.models, device=args.device)
    with tempfile.TemporaryDirectory() as passing:
        folder = args.folder or Path(passing)
        options = ClipOptions(args.seconds, args.seed, "all", held_out=True, as_found=args.source == "found")
        cases = synthetic_cases(folder / "clips", args.clips, options)
        for number, picture in enumerate(args.face):
            cases += picture_cases(picture, folder / f"face-{number}", args.clips, options)
        outcomes = [drive(models, case, [other.known for other in cases if other is not case]) for case in cases]
    kinds = list(dict.fromkeys(case.kind for case in cases))
    columns = {kind: summary([one for one in outcomes if one.case.kind == kind]) for kind in kinds}
    missing = {name: reason for one in outcomes for name, reason in one.missing.items()}
    # A picture has no source clip, and the count at the mask is the stricter one.
    missing.pop("truth.outside", None)
    if args.json:
        clips = [{"kind": one.case.kind, "voice": one.case.known.voice, **asdict(one.scores)} for one in outcomes]
        print(json.dumps({"figures": columns, "missing": missing, "clips": clips}, indent=1))
    else:
        print(table(columns))
        for name, reason in missing.items():
            print(f"\n{name}: {reason}")


def synthetic_cases(folder: Path, count: int, options: ClipOptions) -> list[Case]:
    """The clips of `musetalk synthesize --held-out`, kind by kind; of one set, so that each has its own draw of voice
    and sentences."""
    total = count * len(KINDS)
    write_clips(folder, total, options)
    names = {"photographs": "b: photographs", "varied": "c: varied faces", "drawn": "c: drawn faces"}
    paths = [folder / f"clip-{index:04d}" for index in range(total)]
    cases = [Case(names[KINDS[index % len(KINDS)]], path, read_truth(path)) for index, path in enumerate(paths)]
    return sorted(cases, key=lambda case: case.kind)


def picture_cases(path: Path, folder: Path, count: int, options: ClipOptions) -> list[Case]:
    """Clips of the face in a picture, in the crop that the engine finds; the source is the picture as it is."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    picture = np.asarray(image)
    height, width = picture.shape[:2]
    track = track_faces(picture[None], still=True)
    if track.mesh is None or not track.valid[0]:
        raise SystemExit(f"{path} shows no face that can be redrawn; give another picture")
    x0, y0, x1, y1 = (int(value) for value in track.boxes[0])
    box = add_extra_margin((x0, y0, x1, y1), musetalk.Profile().extra_margin, height)
    scale = SIZE / (box[2] - box[0]), SIZE / (box[3] - box[1])
    still = still_from_mesh(crop_face(picture, box), (track.mesh[0] - box[:2]) * scale)
    cases = []
    for index in range(count):
        said = narration(options.seconds, np.random.default_rng((SPEECH_STREAM, options.seed, index)), "test")
        clip = Clip(still, said.speech, Take(), Scene(picture, box), Fraction(FPS))
        known = TruthFile(
            clip.truth(), clip.fps, (width, height), box, still, clip.take, str(said.voice), said.lines, {"clip": index}
        )
        target = folder / f"clip-{index:04d}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        image.save(target / PICTURE_FILE)
        write_truth(target, known)
        write_sound(target / SOUND_FILE, said.speech.samples)
        write_video(target / TALKING_FILE, clip, clip.talking())
        cases.append(Case(f"c: {path.stem}", target, known))
    return cases


def drive(models: musetalk.Models, case: Case, others: Sequence[TruthFile]) -> Outcome:
    """Let the face of a case say its sound, and measure what comes out."""
    known = case.known
    with musetalk.FrameSource.open(case.source) as source:
        frames = musetalk.FrameSource.from_array(source[:], known.fps)
    samples = np.concatenate(list(AudioSource.open(case.folder / SOUND_FILE).blocks()), axis=1)
    started = time.perf_counter()
    avatar = musetalk.prepare_avatar(models, frames, case.boxes)
    features = musetalk.audio_features(models, samples, SAMPLE_RATE, known.fps)[: len(known.truth)]
    faces = musetalk.decode_faces(models, musetalk.inpaint(models, avatar, features))
    talking = np.concatenate(list(musetalk.paste_back(avatar, faces)))
    seconds = time.perf_counter() - started
    missing: dict[str, str] = {}
    scores = compare_with_truth(
        musetalk.FrameSource.from_array(talking, known.fps),
        KnownClip(case.folder, known, tuple(other.truth for other in others)),
        vae=lambda crops: decode_batch(models, encode_faces(models, crops)[:, 4:]),
        missing=missing,
    )
    crops = (crop_face(frame, known.box) for frame in talking)
    openings = OpeningProbe(known.still, known.take).measure(crops, frame_times(len(talking), known.fps))
    return Outcome(
        case,
        scores,
        while_spoken(openings, known, known),
        [while_spoken(openings, known, other) for other in others],
        *outside_mask(avatar, talking),
        seconds,
        missing,
    )


def while_spoken(openings: np.ndarray, known: TruthFile, other: TruthFile) -> Pair:
    """Openings of a clip, in pixels, and the truth of this or another clip, in the frames in which both speak."""
    first = max(known.truth.spoken.start, other.truth.spoken.start)
    stop = min(len(openings), known.truth.spoken.stop, other.truth.spoken.stop)
    found, wanted = openings[first:stop].astype(np.float64), other.truth.openings[first:stop].astype(np.float64)
    return found / known.still.tall, wanted / other.still.tall


def outside_mask(avatar: musetalk.Avatar, talking: np.ndarray) -> tuple[int, int]:
    """How many pixels with a mask of 0 changed, and how many there are; frame i shows source frame i, or the only."""
    changed = unmasked = 0
    for index, frame in enumerate(talking):
        source = min(index, len(avatar.frames) - 1)
        outside = np.ones(frame.shape[:2], bool)
        mask = avatar.mask_of(source)
        if mask is not None:
            x0, y0, x1, y1 = mask.region
            outside[y0:y1, x0:x1] = mask.alpha == 0
        changed += int((frame != avatar.frames[source]).any(axis=-1)[outside].sum())
        unmasked += int(outside.sum())
    return changed, unmasked


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one kind of face; None for what could not be measured."""
    scores = [one.scores for one in outcomes]
    frames = sum(len(one.case.known.truth) for one in outcomes)
    return {
        "clips": len(outcomes),
        "frames": frames,
        "opening_correlation": {
            **correlations([one.opening for one in scores]),
            "pooled": pooled([one.pair for one in outcomes]),
            "truth_itself": correlations([one.ceiling for one in scores])["mean"],
            "vae": correlations([one.vae for one in scores])["mean"],
        },
        "other_correlation": {
            "mean": mean([one.opening.other_correlation for one in scores]),
            "pooled": pooled([pair for one in outcomes for pair in one.unrelated]),
        },
        "opening_rmse": mean([one.opening.rmse for one in scores]),
        "shut_frames": sum(one.opening.shut_frames for one in scores),
        "shut_closed": {
            "clip": share([one.opening for one in scores], shut=True),
            "truth_itself": share([one.ceiling for one in scores], shut=True),
            "vae": share([one.vae for one in scores], shut=True),
        },
        "other_closed": {
            "clip": share([one.opening for one in scores], shut=False),
            "truth_itself": share([one.ceiling for one in scores], shut=False),
            "vae": share([one.vae for one in scores], shut=False),
        },
        "mouth_psnr": {"clip": psnr([one.mouth for one in scores]), "vae": psnr([one.vae_mouth for one in scores])},
        "mouth_lpips": {
            "clip": mean([one.mouth.lpips for one in scores if one.mouth]),
            "vae": mean([one.vae_mouth.lpips for one in scores if one.vae_mouth]),
        },
        "outside_mask": {
            "changed": sum(one.changed for one in outcomes),
            "pixels": sum(one.unmasked for one in outcomes),
        },
        "seconds_per_frame": sum(one.seconds for one in outcomes) / frames,
    }


def correlations(scores: Sequence[OpeningScores | None]) -> dict[str, float | None]:
    """Mean and lowest of the clips' own correlations; a mouth that stands still counts as 0."""
    known = [one.correlation or 0.0 for one in scores if one is not None]
    return {"mean": mean(known), "lowest": min(known, default=None)}


def pooled(pairs: Sequence[Pair]) -> float | None:
    """The correlation over all frames of all pairs."""
    first, second = zip(*pairs, strict=True)
    return pearson(np.concatenate(first), np.concatenate(second))


def share(scores: Sequence[OpeningScores | None], *, shut: bool) -> float | None:
    """The part of all p, b and m frames, or of all others, that have closed lips."""
    closed = total = 0.0
    for one in scores:
        part = None if one is None else one.shut_closed if shut else one.other_closed
        if one is not None and part is not None:
            count = one.shut_frames if shut else one.frames - one.shut_frames
            closed, total = closed + part * count, total + count
    return closed / total if total else None


def psnr(scores: Sequence[RegionScores | None]) -> float | None:
    """dB of the squared error of all clips together; None where none was measured or none differs."""
    known = [one for one in scores if one is not None]
    squares = sum(one.pixels * 10 ** (-one.psnr / 10) for one in known if one.psnr is not None)
    return 10 * float(np.log10(sum(one.pixels for one in known) / squares)) if squares else None


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table(columns: dict[str, dict[str, Any]]) -> str:
    """The summaries as a Markdown table, a kind of face to a column."""
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("clips, frames", lambda c: f"{c['clips']}, {c['frames']}"),
        ("mouth opening, r with truth: mean of clips", lambda c: number(c["opening_correlation"]["mean"])),
        ("- lowest clip", lambda c: number(c["opening_correlation"]["lowest"])),
        ("- all frames pooled", lambda c: number(c["opening_correlation"]["pooled"])),
        ("- ceiling: the truth itself, through the VAE", lambda c: both(c["opening_correlation"])),
        ("r with other clips' truth: mean", lambda c: number(c["other_correlation"]["mean"])),
        ("- all frames pooled", lambda c: number(c["other_correlation"]["pooled"])),
        ("opening, RMSE in pixels of the 256 crop", lambda c: number(c["opening_rmse"])),
        (
            "lips closed on p, b, m",
            lambda c: f"{percent(c['shut_closed']['clip'])} of {c['shut_frames']}",
        ),
        ("- ceiling: the truth itself, through the VAE", lambda c: both(c["shut_closed"], percent)),
        ("lips closed on other frames", lambda c: percent(c["other_closed"]["clip"])),
        ("- the truth itself, through the VAE", lambda c: both(c["other_closed"], percent)),
        ("mouth PSNR, and of the VAE alone (dB)", lambda c: pair_of(c["mouth_psnr"], 1)),
        ("mouth LPIPS, and of the VAE alone", lambda c: pair_of(c["mouth_lpips"], 3)),
        (
            "pixels changed outside the mask",
            lambda c: f"{c['outside_mask']['changed']} of {c['outside_mask']['pixels']}",
        ),
        ("seconds per frame", lambda c: number(c["seconds_per_frame"], 3)),
    ]
    lines = [["", *columns], ["---", *["---:"] * len(columns)]]
    lines += [[name, *(cell(column) for column in columns.values())] for name, cell in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.0f} %"


def both(figures: dict[str, Any], show: Callable[[float | None], str] = number) -> str:
    return f"{show(figures['truth_itself'])}, {show(figures['vae'])}"


def pair_of(figures: dict[str, Any], digits: int) -> str:
    clip, vae = figures["clip"], figures["vae"]
    return "not measured" if clip is None and vae is None else f"{number(clip, digits)}, {number(vae, digits)}"


if __name__ == "__main__":
    main()
