"""Widget values to profiles, and the plan of a contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Part = Callable[[str], ModuleType]
DEFAULTS: dict[str, Any] = {
    "bbox_shift": 0,
    "parsing_mode": "auto",
    "extra_margin": -1,
    "left_cheek_width": 90,
    "right_cheek_width": 90,
    "expand": 1.5,
    "blur_ratio": 0.05,
    "upper_boundary_ratio": 0.5,
    "select": "largest",
    "select_x": 0,
    "select_y": 0,
    "vae_sampling": "mode",
    "vae_seed": 0,
    "parity": False,
    "fps": 0.0,
}
ADDED: dict[str, Any] = {
    "mask_source": "auto",
    "color_match": False,
    "smoothing": 1.0,
    "upright": False,
    "max_yaw": 65.0,
    "max_pitch": 50.0,
    "max_covered": 0.6,
    "fade": 0.12,
    "select_index": 0,
}


@pytest.mark.parametrize("added", [{}, ADDED], ids=["an older prompt", "every widget"])
@pytest.mark.parametrize("version", ["v15", "v1"])
def test_default_widgets_are_the_versions_own_profile(part: Part, version: str, added: dict[str, Any]) -> None:
    settings = part("nodes.settings").read_settings({**DEFAULTS, **added}, version)
    assert settings.profile == part("musetalk.profile").Profile.for_version(version)
    assert settings.select == "largest"


def test_widgets_replace_the_versions_numbers(part: Part) -> None:
    values = {**DEFAULTS, "extra_margin": 0, "parsing_mode": "neck", "select": "nearest", "select_x": 3, "select_y": 4}
    settings = part("nodes.settings").read_settings(values, "v15")
    assert (settings.profile.extra_margin, settings.profile.parsing_mode) == (0, "neck")
    assert settings.select == (3.0, 4.0)


def test_added_widgets_reach_the_profile(part: Part) -> None:
    values = {"mask_source": "hull", "color_match": True, "smoothing": 0.0, "upright": True}
    values |= {"max_yaw": 30.0, "max_pitch": 20.0, "max_covered": 0.1, "fade": 0.0}
    profile = part("nodes.settings").read_settings({**DEFAULTS, **ADDED, **values}, "v15").profile
    assert {name: getattr(profile, name) for name in values} == values


def test_whose_face_is_meant(part: Part) -> None:
    def selected(select: str, reference: Any = None) -> Any:
        values = {**DEFAULTS, **ADDED, "select": select, "select_index": 2, "select_x": 5}
        return part("nodes.settings").read_settings(values, "v15", reference).select

    portraits = np.zeros((2, 8, 8, 3), np.uint8)
    assert selected("reference", portraits[:1]).shape == (8, 8, 3)
    expected = {"nearest": (5.0, 0.0), "index": 2}
    for name in part("nodes.settings").SELECTIONS:
        if name != "reference":
            assert selected(name) == expected.get(name, name)
    for wrong, reason in ((("reference",), "connect a picture"), (("left", portraits), "set select to reference")):
        with pytest.raises(part("musetalk.errors").InputError, match=reason):
            selected(*wrong)
    with pytest.raises(part("musetalk.errors").InputError, match="holds 2 pictures"):
        selected("reference", portraits)


def test_every_word_is_one_the_engine_knows(part: Part) -> None:
    face = part("musetalk.face.sources").FaceObservation(box=(1, 1, 5, 5), score=1.0)
    person = part("musetalk.face.people").Person(0, 1, (0,), (face,), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 8)))
    for word in set(part("nodes.settings").SELECTIONS) - {"nearest", "index", "reference"}:
        assert part("musetalk.face.selection").select_person([person], word, (8, 8)) is person


def test_plan_has_a_row_per_shift_and_value_and_a_profile_per_mode(part: Part) -> None:
    base = part("musetalk.profile").Profile()
    plan = part("nodes.contact_sheet").plan(base, "-7, 0", "jaw,raw", "cheek_width", "60, 90")
    assert [[profile.bbox_shift for profile in row] for row in plan.profiles] == [[-7, -7]] * 2 + [[0, 0]] * 2
    assert [row[0].right_cheek_width for row in plan.profiles] == [60, 90, 60, 90]
    assert plan.labels[0] == ["shift -7 jaw cheek_width 60", "shift -7 raw cheek_width 60"]


@pytest.mark.parametrize(
    ("shifts", "modes", "vary", "values", "reason"),
    [
        ("", "jaw", "nothing", "", "bbox_shifts"),
        ("1.5", "jaw", "nothing", "", "whole numbers"),
        ("0", "", "nothing", "", "parsing_modes"),
        ("0", "jaw", "blur_ratio", "", "vary_values"),
        ("0", "jaw", "blur_ratio", "7", "between"),
    ],
)
def test_plan_refuses_what_cannot_be_tried(
    part: Part, shifts: str, modes: str, vary: str, values: str, reason: str
) -> None:
    base = part("musetalk.profile").Profile()
    with pytest.raises(part("musetalk.errors").InputError, match=reason):
        part("nodes.contact_sheet").plan(base, shifts, modes, vary, values)


def test_a_sheet_has_a_limit(part: Part) -> None:
    sheet = part("nodes.contact_sheet")
    plan = sheet.plan(part("musetalk.profile").Profile(), ",".join(map(str, range(40))), "jaw, raw", "nothing", "")
    sheet.check_size(plan, 3)
    with pytest.raises(part("musetalk.errors").InputError, match="tiles"):
        sheet.check_size(plan, 8)


@pytest.mark.parametrize(
    ("length", "frames", "count", "outputs", "sources"),
    [
        (100, 100, 2, [25, 75], [25, 75]),
        (30, 10, 3, [5, 15, 25], [5, 4, 5]),
        (2, 5, 8, [0, 1], [0, 1]),
        (1, 1, 3, [0], [0]),
    ],
)
def test_moments_are_spread_over_the_sound(
    part: Part, length: int, frames: int, count: int, outputs: list[int], sources: list[int]
) -> None:
    assert part("nodes.contact_sheet").choose_moments(length, frames, count) == (outputs, sources)
