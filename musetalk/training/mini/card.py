"""The model card that goes with the exported weights."""

CARD = """\
# musetalk-mini

The small complete MuseTalk of [MuseTalk Studio](https://github.com/musetalk-studio/musetalk-studio), MIT \
licensed: official
layout, float16, trained by `musetalk train-mini --config configs/mini.yaml` on synthetic talking faces alone. For \
first runs,
tests and live avatars on a CPU, not for results to show. Data, recipe, figures and limits: `docs/mini.md` of the
repository.
"""
