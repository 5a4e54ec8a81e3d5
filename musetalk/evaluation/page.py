"""The report: report.json and a one-page report.html that needs nothing else."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

from .. import __version__
from ..errors import OutputError
from .figures import Figure, figures
from .plots import plot_all
from .result import Evaluation
from .sync_strip import summary

REPORT_FILES = ("report.json", "report.html")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 1.8rem }
table { border-collapse: collapse; width: 100% } td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #e4e4e8;
vertical-align: top } td.value { font-variant-numeric: tabular-nums; font-weight: 600 } td.meaning { color: #555 }
.none { color: #999; font-weight: 400 } .inputs { color: #555; overflow-wrap: anywhere }
img { width: 100%; height: auto }
.verdict { font-size: 1.1rem }
"""


def html_page(evaluation: Evaluation) -> str:
    """The report as one HTML page with its plots inside; nothing is fetched. Raises InputError without matplotlib."""
    inputs = [("video", evaluation.video), ("reference", evaluation.reference), ("sound", evaluation.audio)]
    names = "<br>".join(f"{kind}: {escape(name)}" for kind, name in inputs if name is not None)
    picture = f"{evaluation.width}x{evaluation.height}, {evaluation.frames} frames at {float(evaluation.fps):.6g} fps"
    plots = "\n".join(
        f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="data:image/png;base64,{_base64(png)}">'
        for title, png in plot_all(evaluation)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lip sync report</title><style>{_STYLE}</style></head><body>
<h1>Lip sync report</h1>
<p class="verdict">{escape(summary(evaluation))}</p>
<p class="inputs">{names}<br>{picture}</p>
<table>
{_rows(figures(evaluation))}
</table>
{plots}
<h2>Not measured</h2>
{_missing(evaluation)}
<p class="inputs">MuseTalk Studio {escape(__version__)}. What each figure means and where it misleads:
docs/evaluation.md.</p>
</body></html>
"""


def write_report(evaluation: Evaluation, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write ``report.json`` and ``report.html`` into a folder, made if need be; each whole or not at all.

    Raises OutputError where they exist already or cannot be written.
    """
    check_report_target(folder, overwrite=overwrite)
    texts = (json.dumps(evaluation.to_dict(), indent=2) + "\n", html_page(evaluation))
    paths = [folder / name for name in REPORT_FILES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts, strict=True):
            part = path.with_name(f".{path.name}.part")
            try:
                part.write_text(text, encoding="utf-8")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the report cannot be written to {folder}: {error}") from error
    return paths


def check_report_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder the report cannot go to, before any work. Raises OutputError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; name a folder for the report")
    for name in REPORT_FILES:
        if (folder / name).exists() and not overwrite:
            raise OutputError(f"{folder / name} exists; choose another folder or pass --overwrite")


def _rows(rows: list[Figure]) -> str:
    return "\n".join(
        f'<tr><td>{escape(row.name)}</td><td class="value">'
        + ('<span class="none">not measured</span>' if row.value is None else escape(row.value))
        + f'</td><td class="meaning">{escape(row.meaning)}</td></tr>'
        for row in rows
    )


def _missing(evaluation: Evaluation) -> str:
    if not evaluation.missing:
        return "<p>Everything was.</p>"
    items = (f"<li><code>{escape(name)}</code>: {escape(why)}</li>" for name, why in evaluation.missing.items())
    return f"<ul>{''.join(items)}</ul>"


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
