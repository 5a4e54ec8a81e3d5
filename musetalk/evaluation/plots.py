"""The plots of the report, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from ..extras import require
from .loudness import runs
from .result import Evaluation

_MOUTH, _REFERENCE, _SOUND, _INSIDE, _OUTSIDE = "#d9730d", "#888888", "#1f77b4", "#d9730d", "#2a8c4a"
_WIDTH_INCHES, _DPI = 9.0, 110


def plot_all(evaluation: Evaluation) -> list[tuple[str, bytes]]:
    """(title, PNG) of every plot that has something to show. Raises InputError without matplotlib."""
    plots: list[tuple[str, float, Callable[[Any, Evaluation], bool]]] = [
        ("Mouth and sound over time", 3.2, _opening),
        ("Correlation at each offset", 2.6, _offsets),
        ("PSNR against the reference, frame by frame", 2.8, _psnr),
    ]
    drawn = ((title, _draw(evaluation, height, plot)) for title, height, plot in plots)
    return [(title, png) for title, png in drawn if png is not None]


def _draw(evaluation: Evaluation, height: float, plot: Callable[[Any, Evaluation], bool]) -> bytes | None:
    # Figures of their own on the Agg canvas: pyplot's global state and windows are none of our business.
    figure_module = require("matplotlib.figure", "evaluate")
    agg = require("matplotlib.backends.backend_agg", "evaluate")
    figure = figure_module.Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI, layout="constrained")
    canvas = agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if not plot(axes, evaluation):
        return None
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _opening(axes: Any, evaluation: Evaluation) -> bool:
    series = evaluation.series
    if not np.isfinite(series.opening).any():
        return False
    time = np.arange(evaluation.frames) / float(evaluation.fps)
    lines = [axes.plot(time, series.opening, color=_MOUTH, lw=1.2, label="mouth opening")[0]]
    if len(series.reference_opening):
        lines += axes.plot(
            time[: len(series.reference_opening)],
            series.reference_opening,
            color=_REFERENCE,
            lw=1,
            ls="--",
            label="reference's mouth",
        )
    axes.set_xlabel("seconds")
    axes.set_ylabel("opening / eye distance")
    axes.set_xlim(0, evaluation.frames / float(evaluation.fps))
    if np.isfinite(series.articulation).any():
        sound = axes.twinx()
        sound.spines[["top"]].set_visible(False)
        sound.set_ylim(-0.05, 1.6)
        sound.set_yticks([0, 0.5, 1])
        sound.set_ylabel("articulation")
        lines += sound.plot(time, series.articulation, color=_SOUND, lw=1, alpha=0.8, label="sound")
        offset = None if evaluation.sync is None else evaluation.sync.offset_seconds
        if offset is not None:
            label = f"sound moved by {-offset:+.2f} s"
            lines += sound.plot(time - offset, series.articulation, color=_SOUND, lw=0.8, ls=":", label=label)
        for first, stop in runs(series.silent):
            axes.axvspan(first / float(evaluation.fps), stop / float(evaluation.fps), color="#e8e8ee", zorder=0)
    axes.legend(handles=lines, loc="upper left", fontsize=8, ncols=4, frameon=False)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))
    return True


def _offsets(axes: Any, evaluation: Evaluation) -> bool:
    if evaluation.sync is None and evaluation.syncnet is None:
        return False
    sync, syncnet = evaluation.sync, evaluation.syncnet
    if sync is not None:
        axes.plot(sync.lags, sync.curve, color=_MOUTH, marker=".", label="opening and sound, r")
        axes.axhline(sync.chance, color="#aaaaaa", lw=0.8, ls="--", label="chance stays below")
        if sync.offset_frames is not None:
            axes.axvline(sync.offset_frames, color=_MOUTH, lw=0.8, label=f"offset {sync.offset_frames:+.1f} frames")
    if syncnet is not None:
        lags = syncnet.offsets / 25 * float(evaluation.fps)
        axes.plot(lags, syncnet.curve, color=_OUTSIDE, marker=".", label="SyncNet, cosine")
    axes.axvline(0, color="#cccccc", lw=0.8)
    axes.set_xlabel("frames by which the sound is late")
    axes.legend(fontsize=8, frameon=False)
    return True


def _psnr(axes: Any, evaluation: Evaluation) -> bool:
    series = evaluation.series
    drawn = False
    for values, colour, label in ((series.psnr_inside, _INSIDE, "inside"), (series.psnr_outside, _OUTSIDE, "outside")):
        if np.isfinite(values).any():
            time = np.arange(len(values)) / float(evaluation.fps)
            shown = np.where(np.isfinite(values), values, np.nan)
            axes.plot(time, shown, color=colour, lw=1, label=f"{label} the lower face (gaps: identical)")
            drawn = True
    if drawn:
        axes.set_xlabel("seconds")
        axes.set_xlim(0, len(series.psnr_outside) / float(evaluation.fps))
        axes.set_ylabel("PSNR, dB")
        axes.legend(fontsize=8, frameon=False)
    return drawn
