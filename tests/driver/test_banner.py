"""What is said when a run or a sweep begins."""

from pathlib import Path

import pytest

from sisr.driver.run import banner
from sisr.driver.sweep.check import first_run
from sisr.driver.sweep.planning import plan_of
from sisr.tracking.address import Address, default_uri

SMALL = ("network=Compact", "network_options={num_feat: 4, num_conv: 1}", "perceptual=none", "discriminator_features=2")
FACTS = {"source": "demo", "train": 5, "held_out": 1}


@pytest.mark.parametrize(
    ("steps", "warmup", "rungs", "run_warns", "sweep_warns"),
    [(90, 500, (), True, True), (90, 30, (40,), False, False), (90, 40, (40,), False, True), (90, 0, (), False, False)],
)
def test_a_length_in_which_only_the_judge_learns_is_warned_of(
    capsys: pytest.CaptureFixture[str],
    steps: int,
    warmup: int,
    rungs: tuple[int, ...],
    run_warns: bool,
    sweep_warns: bool,
) -> None:
    settings = (*SMALL, f"judge_warmup_steps={warmup}")
    options = {"rungs": list(rungs)} if rungs else {}
    plan, space = plan_of(
        "finetune", settings=settings, changes={"trials": 2, "steps": steps, "scheduler_options": options}
    )
    run, place = first_run(plan, space), Address(default_uri(Path("runs")), "sisr")
    banner.of_run(run, FACTS, place, Path("runs"))
    assert ("only the judge learns" in capsys.readouterr().err) == run_warns
    banner.of_sweep(plan, run, space, FACTS, place, Path("runs"))
    assert ("only the judge learns" in capsys.readouterr().err) == sweep_warns


@pytest.mark.parametrize(("steps", "warned"), [(60, True), (300, False)])
def test_a_searched_number_of_steps_that_no_trial_reaches_is_warned_of(
    capsys: pytest.CaptureFixture[str], steps: int, warned: bool
) -> None:
    plan, space = plan_of("pixelshuffle", changes={"trials": 2, "steps": steps})
    run, place = first_run(plan, space), Address(default_uri(Path("runs")), "sisr")
    banner.of_sweep(plan, run, space, FACTS, place, Path("runs"))
    assert ("warmup_steps is searched up to 150" in capsys.readouterr().err) == warned
