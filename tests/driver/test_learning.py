"""What a sweep takes from earlier sweeps' ledgers."""

import json
from pathlib import Path
from typing import Any

import pytest

from sisr.driver.sweep.execute import changes
from sisr.driver.sweep.planning import plan_of, prepare
from sisr.errors import ConfigError
from sisr.sweep import plan as plans
from sisr.sweep.earlier import compared, described, first_points
from sisr.sweep.plan import Plan
from sisr.sweep.space.space import SearchSpace
from synthetic_sweep import Writer

SPACE = {"learning_rate": {"loguniform": [1e-4, 1e-2]}, "warmup_steps": {"choice": [0, 50]}}
TEXTS = ("learning_rate=loguniform(1e-4, 1e-2)", "warmup_steps=choice(0, 50)", "schedule=", "beta1=", "beta2=")
FIXED = {"hr_crop": 16, "num_features": 8, "num_hr_features": 4, "num_blocks": 1, "batch_size": 2, "steps": 90}
STEPS = 90
# Trial 1 is the best of those that went furthest; trial 2 diverged.
TRIALS: list[tuple[dict[str, Any], str, list[tuple[int, float]]]] = [
    ({"learning_rate": 2e-4, "warmup_steps": 0}, "paused", [(30, 20.0)]),
    ({"learning_rate": 1e-3, "warmup_steps": 50}, "finished", [(30, 21.0), (90, 24.0)]),
    ({"learning_rate": 9e-3, "warmup_steps": 0}, "diverged", []),
    ({"learning_rate": 5e-4, "warmup_steps": 0}, "finished", [(30, 22.0), (90, 23.0)]),
]


def searched(folder: Path, **changed: Any) -> Path:
    """A finished sweep of `TRIALS`."""
    fields = {"recipe": "pixelshuffle", "space": SPACE, "fixed": FIXED, "steps": STEPS, "fingerprint": "same"}
    fields |= {"objective": ["val/psnr_y"], "trials": len(TRIALS), "scheduler_options": {"rungs": [30]}}
    writer = Writer(folder, **(fields | {"options": {"evaluate_every": 10, "seed": 0}} | changed))
    for number, (params, state, curve) in enumerate(TRIALS):
        writer.trial(number, params)
        writer.segment(number, STEPS, [(step, {"val/psnr_y": psnr}) for step, psnr in curve], state)
    writer.row(op="sweep", state="finished")
    return folder


def planned(*folders: Path, fingerprint: str = "same", **asked: Any) -> tuple[Plan, SearchSpace]:
    """A sweep that learns from others, on images that are known already."""
    fixed = asked.pop("fixed", FIXED)
    asked = {"space": (*TEXTS, "zero_last="), "options": {"evaluate_every": 10}, **asked}
    settings = [f"{name}={value}" for name, value in fixed.items() if name != "steps"]
    plan, space = plan_of(
        asked.pop("recipe", "pixelshuffle"),
        changes={"steps": asked.pop("steps", STEPS), "search": asked.pop("search", "tpe"), "scheduler": "asha"},
        settings=settings,
        scheduler_options={"rungs": asked.pop("rungs", (30,))},
        learn_from=folders,
        **asked,
    )
    return plan.model_copy(update={"fingerprint": fingerprint}), space


def test_all_trials_of_the_same_search_count_with_what_they_measured(tmp_path: Path) -> None:
    plan, _ = planned(searched(tmp_path / "old"))
    found = {one.trial: one for one in compared(plan.earlier, "same")}
    assert {number: [step for step, _ in one.curve] for number, one in found.items()} == {
        0: [30],
        1: [30, 90],
        2: [],
        3: [30, 90],
    }
    assert [number for number, one in found.items() if one.lost] == [2]


def test_the_best_earlier_setting_comes_right_after_the_recipes_own(tmp_path: Path) -> None:
    plan, space = planned(searched(tmp_path / "old"))
    own = {"learning_rate": 2e-4, "warmup_steps": 0}
    assert first_points(plan.earlier, space.baseline()) == [own, TRIALS[1][0]]


def test_values_on_other_images_do_not_count_but_their_best_setting_does(tmp_path: Path) -> None:
    plan, space = planned(searched(tmp_path / "old"), fingerprint="others")
    assert compared(plan.earlier, plan.fingerprint) == []
    assert TRIALS[1][0] in first_points(plan.earlier, space.baseline())
    assert described(plan.earlier, plan.fingerprint) == [
        "learning from old: its values don't compare (its images are others); the settings of its trial 1 are tried "
        "early"
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"objective": ["val/ssim_y"]}, "it searched for val/ssim_y"),
        ({"options": {"evaluate_every": 10, "validation_side": 48}}, "option validation_side was 48 and is "),
        ({"fixed": FIXED | {"num_features": 16}}, "setting num_features was 16 and is 8"),
        ({"init_sha256": "a" * 64}, "its trials began with other weights"),
        ({"scheduler": "pbt", "scheduler_options": {"interval": 30}}, "its trials copied each other"),
    ],
)
def test_values_that_were_measured_otherwise_do_not_count(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    if "objective" in changed:
        folder = searched(tmp_path / "old")
        old = plans.read(folder)
        assert old is not None
        plans.write(folder, old.model_copy(update=changed | {"objective": ("val/psnr_y",), "mode": ("min",)}), {})
        reason = "it searched for val/psnr_y"
    else:
        folder = searched(tmp_path / "old", **changed)
    plan, _ = planned(folder)
    assert compared(plan.earlier, "same") == []
    assert reason in plan.earlier[0].unlike


def test_a_longer_sweep_learns_from_a_short_one_and_a_short_one_from_the_beginning_of_a_long_one(
    tmp_path: Path,
) -> None:
    folder = searched(tmp_path / "old")
    longer, shorter = planned(folder, steps=270)[0], planned(folder, steps=30, rungs=(10,))[0]
    assert [step for step, _ in compared(longer.earlier, "same")[0].curve] == [30, 90]
    assert [step for step, _ in compared(shorter.earlier, "same")[0].curve] == [30]


def test_a_setting_that_was_fixed_then_has_that_value_and_points_outside_the_space_are_left_out(tmp_path: Path) -> None:
    folder = searched(tmp_path / "old", fixed=FIXED | {"beta1": 0.8})
    space = ("learning_rate=loguniform(1e-4, 2e-3)", *TEXTS[1:3], "beta1=choice(0.8, 0.9)", "beta2=", "zero_last=")
    plan, _ = planned(folder, space=space)
    assert [one.trial for one in plan.earlier] == [1, 3, 0]
    assert plan.earlier[0].params == {**TRIALS[1][0], "beta1": 0.8}
    assert not plan.earlier[0].unlike


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"recipe": "srresnet", "space": (), "fixed": {}},
            "sweep old searched pixelshuffle, from which",
        ),
        (
            {"space": ("learning_rate=loguniform(1e-6, 1e-5)", *TEXTS[1:], "zero_last=")},
            "sweep old has no trial",
        ),
        ({"space": (TEXTS[1], "learning_rate=", *TEXTS[2:], "zero_last="), "search": "grid"}, "no effect on a grid"),
    ],
)
def test_what_can_not_be_learnt_from_is_refused_with_the_reason(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(searched(tmp_path / "old"), **asked)


def test_a_begun_sweep_keeps_what_it_knew_at_its_beginning(tmp_path: Path) -> None:
    folder = searched(tmp_path / "old")
    begun, _, _ = prepare(*planned(folder, name="new", fingerprint=""), tmp_path, 1)
    (tmp_path / "new").mkdir()
    plans.write(tmp_path / "new", begun, {})
    rows = [
        {"op": "trial", "trial": 4, "params": {"learning_rate": 0.003, "warmup_steps": 0}},
        {"op": "start", "trial": 4, "until": 90},
        {"op": "end", "trial": 4, "state": "finished", "step": 90, "curve": [[90, {"val/psnr_y": 30.0}]]},
    ]
    with open(folder / "ledger.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert len(planned(folder)[0].earlier) == 5
    again, _, _ = prepare(*planned(folder, name="new", fingerprint=""), tmp_path, 1)
    assert changes(begun, again) == []
    assert again.earlier == begun.earlier


def test_a_sweep_that_learns_is_another_one_and_a_plan_without_has_its_old_name(tmp_path: Path) -> None:
    learning, alone = planned(searched(tmp_path / "old"))[0], planned()[0]
    assert learning.hash(()) != alone.hash(())
    assert "learn_from" not in alone._content()
