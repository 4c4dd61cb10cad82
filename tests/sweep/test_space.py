"""Search spaces: what a file may say, what it means, and what is refused before anything starts."""

import itertools
import json
import re
import statistics
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

import pytest
from pydantic import Field, model_validator

from sisr import recipes
from sisr.config.settings import Settings
from sisr.errors import ConfigError
from sisr.sweep.plan import Plan
from sisr.sweep.space import file as space_file
from sisr.sweep.space.domains import Choice, Domain, Number
from sisr.sweep.space.file import SpaceFile, find, load
from sisr.sweep.space.objectives import Logged
from sisr.sweep.space.operators import OPERATORS, domain_of
from sisr.sweep.space.space import SearchSpace, build

REPOSITORY = Path(__file__).resolve().parents[2]


class Config(Settings):
    """As mixed as a real recipe's."""

    scale: Literal[2, 4] = 4
    batch_size: int = Field(16, ge=1)
    steps: int = Field(100_000, ge=1)
    pretrain_steps: int = Field(10, ge=0)
    hr_crop: int = Field(96, ge=8, multiple_of=4)
    learning_rate: float = Field(2e-4, gt=0)
    penalty_weight: float = Field(0.0, ge=0)
    offset: float = 0.0
    beta1: float = Field(0.9, ge=0, lt=1)
    norm: Literal["batch", "none"] = "batch"
    turn: bool = False
    widths: tuple[int, int] = (8, 16)
    clip_norm: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.pretrain_steps >= self.steps:
            raise ValueError(f"pretrain_steps must be less than steps {self.steps}, got {self.pretrain_steps}")
        if self.norm == "batch" and self.penalty_weight > 50:
            raise ValueError(f"penalty_weight must be at most 50 with norm batch, got {self.penalty_weight}")
        return self


HEAD = "objective: val/score\ntrials: 4\nsteps: 1000\n"
RATE = "space:\n  learning_rate: {loguniform: [1e-5, 1e-3]}\n"


def loaded(text: str, **changes: Any) -> tuple[SpaceFile, SearchSpace]:
    Path("s.yaml").write_text(text)
    return load(Path("s.yaml"), Config, **changes)


def refused(text: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text, **changes)
    return str(caught.value)


def swept(line: str) -> str:
    return f"{HEAD}space:\n  {line}\n"


ALL_OPERATORS = ", ".join(OPERATORS)
AT = "s.yaml:5: space."
WRONG = [
    # the file as a whole
    (HEAD, "s.yaml: space is missing; it wants a mapping of length >= 1"),
    (HEAD + "space: {}\n", "s.yaml:4: space wants a mapping of length >= 1, got {}"),
    (HEAD + "space:\n", "s.yaml:4: space wants a mapping of length >= 1, got None"),
    (HEAD + "sapce: {}\n" + RATE, "s.yaml:4: no setting 'sapce'; did you mean 'space'?"),
    (HEAD + "trails: 3\n" + RATE, "s.yaml:4: no setting 'trails'; did you mean 'trials'?"),
    (
        "trials: 4\nsteps: 9\n" + RATE,
        "s.yaml: objective is missing; it wants a list, each a text, of length >= 1 and of length <= 2",
    ),
    (HEAD.replace("4", "0") + RATE, "s.yaml:2: trials wants a whole number >= 1, got 0"),
    (HEAD.replace("1000", "yes") + RATE, "s.yaml:3: steps wants a whole number >= 1, got 'yes'"),
    (
        HEAD + "scheduler: asah\n" + RATE,
        "s.yaml:4: scheduler: no scheduler 'asah'; did you mean 'asha'?",
    ),
    # what it is after
    (
        HEAD.replace("score", "psnr") + RATE,
        "s.yaml:1: objective: no validation logs 'val/psnr'; did you mean 'val/psnr_y'?",
    ),
    (
        HEAD.replace("val/score", "loss") + RATE,
        "s.yaml:1: objective: no validation logs 'loss'; all are val/psnr_y, val/ssim_y, val/perceptual, val/score, "
        "val/lpips, val/vgg_relu3_1, val/swd",
    ),
    (
        HEAD.replace("val/score", "[val/swd, val/swd]") + RATE,
        "s.yaml:1: objective: val/swd is given twice; name two metrics, or one",
    ),
    (
        HEAD + "mode: min\n" + RATE,
        "s.yaml:4: mode: larger is better for val/score; write max, or leave mode out",
    ),
    (
        HEAD.replace("score", "lpips") + "mode: max\n" + RATE,
        "s.yaml:4: mode: smaller is better for val/lpips; write min, or leave mode out",
    ),
    (
        HEAD + "mode: [max, min]\n" + RATE,
        "s.yaml:4: mode: wants max or min for each of val/score, or no line at all",
    ),
    # settings
    (
        swept("learing_rate: {uniform: [0, 1]}"),
        AT + "learing_rate: the recipe has no such setting; did you mean 'learning_rate'?",
    ),
    (
        swept("qqqq: {uniform: [0, 1]}"),
        AT + f"qqqq: the recipe has no such setting; it has {', '.join(Config.model_fields)}",
    ),
    (
        swept("steps: {randint: [10, 20]}"),
        AT + "steps: can't be swept: trials are compared at equal steps; `steps` at the top of the file holds for all",
    ),
    (
        swept("scale: {choice: [2, 4]}"),
        AT + "scale: can't be swept: scores at different scales don't compare; sweep each by itself: --set scale=N",
    ),
    (HEAD + "fixed: {bach_size: 8}\n" + RATE, "s.yaml:4: no setting 'bach_size'; did you mean 'batch_size'?"),
    (HEAD + "fixed: {batch_size: 0}\n" + RATE, "s.yaml:4: batch_size wants a whole number >= 1, got 0"),
    (HEAD + "fixed: 3\n" + RATE, "s.yaml:4: fixed wants a mapping, got 3"),
    (
        HEAD + "fixed: {batch_size: 8}\ncheap: {batch_size: 4}\n" + RATE,
        "s.yaml:5: cheap.batch_size: is fixed, too; leave out one of them",
    ),
    (
        HEAD + "fixed: {steps: 10}\n" + RATE,
        "s.yaml:4: fixed.steps: stands at the top of the file; option: --steps",
    ),
    (
        HEAD + "fixed: {learning_rate: 1}\n" + RATE,
        "s.yaml:4: fixed.learning_rate: is swept, too (s.yaml:6); leave out one of them",
    ),
    # operators
    (
        swept("learning_rate: {logunform: [1, 2]}"),
        AT + "learning_rate: no operator 'logunform'; did you mean 'loguniform'?",
    ),
    (swept("learning_rate: {zzz: [1, 2]}"), AT + f"learning_rate: no operator 'zzz'; all: {ALL_OPERATORS}"),
    (
        swept("learning_rate: 0.1"),
        AT + "learning_rate: wants one {OPERATOR: ARGUMENTS}, got 0.1; one value for all trials stands under fixed, "
        "not under space",
    ),
    (
        swept("learning_rate: [0.1, 0.2]"),
        AT + "learning_rate: wants one {OPERATOR: ARGUMENTS}, got [0.1, 0.2]; {choice: [0.1, 0.2]} draws from a list",
    ),
    (
        swept("learning_rate: {}"),
        AT + "learning_rate: wants one {OPERATOR: ARGUMENTS}, got {}; such as {loguniform: [1e-5, 1e-3]}",
    ),
    (
        swept("learning_rate: {uniform: 1}"),
        AT + "learning_rate: uniform wants [lower, upper], got 1",
    ),
    (
        swept("learning_rate: {loguniform: [1, 2, 3]}"),
        AT + "learning_rate: loguniform wants [lower, upper], got [1, 2, 3]",
    ),
    (
        swept("learning_rate: {uniform: [slow, 1]}"),
        AT + "learning_rate: uniform wants numbers as [lower, upper], got 'slow'",
    ),
    (
        swept("learning_rate: {uniform: [true, 2]}"),
        AT + "learning_rate: uniform wants numbers as [lower, upper], got True",
    ),
    (
        swept("learning_rate: {uniform: [1, .inf]}"),
        AT + "learning_rate: uniform wants numbers as [lower, upper], got inf",
    ),
    (
        swept("learning_rate: {uniform: [1e-3, 1e-5]}"),
        AT + "learning_rate: lower 0.001 must be less than upper 1e-05",
    ),
    (
        swept("penalty_weight: {loguniform: [0, 10]}"),
        AT + "penalty_weight: lower must be more than 0 on a logarithmic scale, got 0",
    ),
    (
        swept("penalty_weight: {quniform: [0, 10, 3]}"),
        AT + "penalty_weight: lower 0 and upper 10 must be multiples of q 3",
    ),
    (swept("penalty_weight: {quniform: [0, 10, 0]}"), AT + "penalty_weight: q must be more than 0, got 0"),
    (
        swept("penalty_weight: {quniform: [0, 1, 1e-6]}"),
        AT + "penalty_weight: q 1e-06 is too fine to distinguish values; use uniform",
    ),
    (swept("offset: {randn: [0, 0]}"), AT + "offset: sd must be more than 0, got 0"),
    (
        swept("batch_size: {randint: [4, 8.5]}"),
        AT + "batch_size: randint wants whole numbers as [lower, upper], got 8.5",
    ),
    (
        swept("batch_size: {randint: [4, 5]}"),
        AT + "batch_size: fewer than two values lie in 4 .. 5 (the upper bound is excluded); widen it, or fix the "
        "setting",
    ),
    (
        swept("batch_size: {qrandint: [4, 7, 4]}"),
        AT + "batch_size: fewer than two values lie in 4 .. 7 (values are multiples of q 4); widen it, or fix the "
        "setting",
    ),
    (
        swept("batch_size: {uniform: [4, 8]}"),
        AT + "batch_size: uniform gives numbers that are not whole, but the setting wants a whole number >= 1; use "
        "randint, qrandint or lograndint",
    ),
    (
        swept("learning_rate: {randint: [1, 8]}"),
        AT + "learning_rate: randint gives whole numbers, but the setting wants a number > 0; use uniform, quniform or "
        "loguniform",
    ),
    (
        swept("norm: {uniform: [0, 1]}"),
        AT + "norm: uniform gives numbers, but the setting wants 'batch' or 'none'; use choice",
    ),
    (swept("norm: {choice: batch}"), AT + "norm: choice wants a list of at least two values, got 'batch'"),
    (swept("norm: {choice: [batch]}"), AT + "norm: choice wants a list of at least two values, got ['batch']"),
    (swept("beta1: {choice: [0, 0.0]}"), AT + "beta1: a value is given twice in [0.0, 0.0]"),
    # what the recipe takes
    (
        swept("norm: {choice: [batch, group]}"),
        AT + "norm: choice gives 'group', but the setting wants 'batch' or 'none'",
    ),
    (
        swept("beta1: {uniform: [0, 1]}"),
        AT + "beta1: uniform gives 1.0, but the setting wants a number >= 0 and < 1",
    ),
    (
        swept("hr_crop: {randint: [16, 65]}"),
        AT + "hr_crop: randint gives 42, but the setting wants a whole number >= 8 and a multiple of 4",
    ),
    (
        swept("learning_rate: {randn: [1e-3, 1e-3]}"),
        AT + "learning_rate: randn gives -0.003, but the setting wants a number > 0",
    ),
    (
        swept("turn: {choice: [0, 1]}"),
        AT + "turn: choice gives 0, but the setting wants true or false",
    ),
    # how it is searched
    (
        HEAD + "search: grid\n" + RATE,
        "s.yaml:6: space.learning_rate: loguniform has no end of values, and search is grid; use grid_search: "
        "[VALUE, ...], or search: random",
    ),
    (
        swept("turn: {grid_search: [false, true]}"),
        AT + "turn: grid_search tries every value, but search is random; use choice, or search: grid",
    ),
    (
        HEAD + "search: tpe\nspace:\n  offset: {randn: [0, 1]}\n",
        "s.yaml:6: space.offset: tpe knows no randn; use uniform or loguniform with bounds, or search: random",
    ),
    # rules between settings
    (
        swept("pretrain_steps: {randint: [0, 2000]}"),
        AT + "pretrain_steps: allows pretrain_steps=1999, but pretrain_steps must be less than steps 1000, got 1999; "
        "change its values, or what is fixed",
    ),
    (
        swept("beta1: {choice: [0.5, 0.9]}\n  norm: {choice: [batch, none]}\n  penalty_weight: {uniform: [0, 100]}"),
        "s.yaml:6: space.norm: allows norm=batch, penalty_weight=100.0, but penalty_weight must be at most 50 with "
        "norm batch, got 100.0; change its values, or what is fixed",
    ),
    (
        HEAD + "fixed: {pretrain_steps: 1000}\n" + RATE,
        "s.yaml:3: steps: every trial has steps 1000, but pretrain_steps must be less than steps 1000, got 1000; put "
        "what fits under fixed",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_wrong_file_is_refused_with_place_fault_and_remedy(text: str, message: str) -> None:
    assert refused(text) == message


def test_each_mistake_is_one_line() -> None:
    text = f"{HEAD}mode: min\nfixed: {{bach_size: 8}}\nspace:\n  lr: {{uniform: [0, 1]}}\n  norm: {{choice: [1]}}\n"
    assert [line.split(" ")[0] for line in refused(text).splitlines()] == [
        "s.yaml:4:",
        "s.yaml:5:",
        "s.yaml:7:",
        "s.yaml:8:",
    ]


def test_a_good_file_becomes_the_fields_of_a_plan() -> None:
    file, space = loaded(
        "objective: [val/psnr_y, val/perceptual]\ntrials: 4\nsteps: 1000\nsearch: tpe\nscheduler: pbt\n"
        "fixed: {hr_crop: 32}\n" + RATE + "  penalty_weight: {choice: [0, 10]}\n"
    )
    plan = Plan(**file.plan_fields(), name="n", recipe="r", data="demo")
    assert plan.mode == ("max", "min")
    assert plan.fixed == {"hr_crop": 32, "steps": 1000}
    assert plan.space == {"learning_rate": {"loguniform": [1e-5, 1e-3]}, "penalty_weight": {"choice": [0, 10]}}
    assert space.domains == {"learning_rate": Number(1e-5, 1e-3, log=True), "penalty_weight": Choice((0.0, 10.0))}
    recorded = json.loads(plan.model_dump_json())["space"]
    assert build(recorded, Config, source="sweep.json", fixed=plan.fixed) == space, (
        "a sweep's record gives the same space"
    )


def test_an_objective_may_be_a_metric_that_options_or_further_sets_let_trials_measure() -> None:
    text = HEAD.replace("val/score", "[val/dists, val/set5/psnr_y]") + RATE
    file, _ = loaded(text, logged=Logged(further=("niqe", "dists"), sets=("set5",)))
    assert file.mode == ("min", "max")
    said = refused(text, logged=Logged(further=("niqe",)))
    assert "no trial measures 'val/dists': --option metrics=niqe,dists does" in said
    assert "there is no validation set 'set5': --validation set5=PATH names its images" in said


def test_one_objective_and_one_mode_may_be_texts() -> None:
    file, _ = loaded(HEAD + "mode: max\n" + RATE)
    assert (file.objective, file.mode) == (("val/score",), ("max",))


def test_a_block_of_comments_fixes_nothing() -> None:
    assert loaded(HEAD + "fixed:\n  # hr_crop: 32\n" + RATE)[0].fixed == {}


# The command line.


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("learning_rate=loguniform(1e-6,1e-2)", Number(1e-6, 1e-2, log=True)),
        (" learning_rate = uniform( 0.1 , 0.2 ) ", Number(0.1, 0.2)),
        ("batch_size=qrandint(4, 16, 4)", Number(4, 16, q=4, whole=True)),
        ("batch_size=randint(4, 17)", Number(4, 16, q=1, whole=True)),
        ("norm=choice(batch, none)", Choice(("batch", "none"))),
        ("norm=choice(['batch', 'none'])", Choice(("batch", "none"))),
        ("penalty_weight=choice(0, 10)", Choice((0.0, 10.0))),
        ("widths=choice([8, 16], [4, 8])", Choice(([8, 16], [4, 8]))),
        ("offset=randn()", Number(-4.0, 4.0, normal=(0.0, 1.0))),
    ],
)
def test_an_operator_on_the_command_line_means_the_same_as_in_a_file(text: str, domain: Domain) -> None:
    _, space = loaded(HEAD + RATE, space=[text])
    assert space.domains[text.partition("=")[0].strip()] == domain


def test_what_is_swept_on_the_command_line_is_no_longer_fixed() -> None:
    file, space = loaded(HEAD + "fixed: {batch_size: 8}\n" + RATE, space=["batch_size=choice(4, 8)"])
    assert file.fixed == {}
    assert list(space.domains) == ["learning_rate", "batch_size"]


def test_what_is_set_on_the_command_line_is_no_longer_swept() -> None:
    text = HEAD + "fixed: {batch_size: 8}\n" + RATE + "  norm: {choice: [batch, none]}\n"
    file, space = loaded(text, settings=["norm=none", "batch_size=4"])
    assert file.fixed == {"norm": "none", "batch_size": 4}
    assert list(space.domains) == ["learning_rate"]


def test_a_setting_taken_out_of_the_space_has_its_default() -> None:
    file, space = loaded(HEAD + RATE + "  norm: {choice: [batch, none]}\n", space=["norm="])
    assert "norm" not in {**file.fixed, **space.domains}


def test_options_replace_the_files_and_a_new_objective_brings_its_mode() -> None:
    options = {"objective": "val/swd", "trials": 9, "steps": None}
    file, _ = loaded(HEAD + "mode: max\n" + RATE, options=options)
    assert (file.objective, file.mode, file.trials, file.steps) == (("val/swd",), ("min",), 9, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"space": ["learning_rate"]},
            "--space wants NAME=OPERATOR(ARGUMENTS), or NAME= to sweep it no longer, got 'learning_rate'",
        ),
        (
            {"space": ["learning_rate=0.1"]},
            "--space learning_rate wants OPERATOR(ARGUMENTS), such as loguniform(1e-5, 1e-3), got '0.1'; one value for "
            "all trials: --set learning_rate=VALUE",
        ),
        ({"space": ["a=choice(1,2)", "a="]}, "--space a is given twice"),
        ({"space": ["norm="]}, "--space norm= removes nothing; swept are learning_rate"),
        (
            {"space": ["norm=choice(batch, none)"], "settings": ["norm=none"]},
            "--space norm and --set norm contradict each other: leave out one of them",
        ),
        (
            {"space": ["learning_rate=loguniform(1)"]},
            "--space learning_rate: space.learning_rate: loguniform wants [lower, upper], got [1]",
        ),
        (
            {"space": ["learning_rate=__import__('os')"]},
            "--space learning_rate: space.learning_rate: no operator '__import__'; all: " + ALL_OPERATORS,
        ),
        ({"settings": ["bach_size=8"]}, "--set bach_size: no setting 'bach_size'; did you mean 'batch_size'?"),
        ({"settings": ["steps=8"]}, "--set steps: fixed.steps: stands at the top of the file; option: --steps"),
        ({"settings": ["hr_crop=30"]}, "--set hr_crop: hr_crop wants a whole number >= 8 and a multiple of 4, got 30"),
        ({"space": ["learning_rate="]}, "s.yaml:4: space wants a mapping of length >= 1, got {}"),
        ({"options": {"trials": 0}}, "--trials: trials wants a whole number >= 1, got 0"),
        (
            {"options": {"objective": "val/score", "mode": "min"}},
            "--mode: mode: larger is better for val/score; write max, or leave mode out",
        ),
    ],
)
def test_a_wrong_option_is_named(changes: dict[str, Any], message: str) -> None:
    assert refused(HEAD + RATE, **changes) == message


def test_arguments_on_the_command_line_can_not_leave_their_brackets() -> None:
    assert refused(HEAD + RATE, space=["norm=choice(batch], [none)"]).startswith("--space norm: ")


# Where files are.


def test_a_recipe_outside_the_repository_has_its_space_beside_it() -> None:
    Path("mine.yaml").write_text("")
    assert find("mine.py") == Path("mine.yaml")
    assert find("mine.py", Path("other.yaml")) == Path("other.yaml")


def test_a_recipe_without_a_space_is_told_where_to_put_one() -> None:
    with pytest.raises(ConfigError, match=r"'their\.py' has no search space: write their\.yaml, beside the recipe, or"):
        find("their.py")
    with pytest.raises(ConfigError, match=r"'none' has no search space: write .*none\.yaml, or give a file by --se"):
        find("none")


# Values.


SPACES: dict[str, tuple[str, list[Any]]] = {
    "learning_rate": ("uniform", [0.25, 0.75]),
    "penalty_weight": ("quniform", [0.0, 1.0, 0.25]),
    "beta1": ("loguniform", [1e-4, 0.5]),
    "offset": ("qloguniform", [0.5, 8.0, 0.5]),
    "clip_norm": ("randn", [3.0, 0.5]),
    "batch_size": ("randint", [2, 9]),
    "hr_crop": ("qrandint", [8, 64, 8]),
    "steps": ("lograndint", [1, 33]),
    "pretrain_steps": ("qlograndint", [6, 50, 4]),
    "norm": ("choice", ["batch", "none"]),
}


def domain(name: str) -> Domain:
    operator, arguments = SPACES[name]
    return domain_of({operator: arguments}, Config.model_fields[name])


@pytest.mark.parametrize("name", SPACES)
def test_draws_lie_in_the_domain_repeat_and_are_as_the_recipe_wants_them(name: str) -> None:
    values = [domain(name).sample(Random(seed)) for seed in range(300)]
    assert values == [domain(name).sample(Random(seed)) for seed in range(300)]
    assert all(map(domain(name).contains, values))
    assert len({type(value) for value in values}) == 1
    fitting = {"pretrain_steps": 0, "norm": "none"}
    for value in values:
        kept = Config.model_validate({**fitting, name: value})
        assert getattr(kept, name) == value
        assert type(getattr(kept, name)) is type(value)


@pytest.mark.parametrize("name", [name for name in SPACES if name != "norm"])
def test_numbers_have_six_digits(name: str) -> None:
    assert all(float(f"{v:.6g}") == v for v in (domain(name).sample(Random(seed)) for seed in range(300)))


@pytest.mark.parametrize("name", SPACES)
def test_pbt_moves_within_the_domain_and_away_from_where_it_was(name: str) -> None:
    rng, one = Random(1), domain(name)
    values = [one.sample(rng) for _ in range(50)] + one.corners()
    explored = [(value, one.explore(value, rng)) for value in values for _ in range(20)]
    assert all(one.contains(new) and type(new) is type(old) for old, new in explored)
    moved = sum(old != new for old, new in explored) / len(explored)
    assert moved == 0 if name == "norm" else moved > 0.6


def test_pbt_scales_numbers_by_a_fifth_or_draws_anew() -> None:
    rng, wide = Random(2), Number(1e-6, 1e6, log=True)
    factors = [round(wide.explore(1.0, rng), 5) for _ in range(4000)]
    shares = {factor: factors.count(factor) / len(factors) for factor in (0.8, 1.2)}
    assert shares[0.8] == pytest.approx(0.375, abs=0.03)
    assert shares[1.2] == pytest.approx(0.375, abs=0.03)


def test_pbt_moves_small_whole_numbers_although_a_fifth_of_them_is_nothing() -> None:
    rng = Random(3)
    assert {Number(1, 9, whole=True).explore(2, rng) for _ in range(200)} >= {1, 3}


def test_pbt_takes_neighbours_in_a_list_of_numbers() -> None:
    rng, steps = Random(4), Choice((1, 2, 3, 4, 5))
    found = [steps.explore(3, rng) for _ in range(1000)]
    assert found.count(2) + found.count(4) > 750
    assert steps.explore(99, rng) in steps.values


def test_pbt_leaves_zero_which_no_factor_can() -> None:
    assert Number(0.0, 1.0).explore(0.0, Random(5)) > 0


def test_true_is_not_one() -> None:
    assert not Choice((0, 1)).contains(True)
    assert not Number(0, 1, whole=True).contains(True)
    assert Choice((False, True)).contains(True)


def test_a_grid_lists_every_combination_in_the_order_of_names_however_the_file_is_ordered() -> None:
    lines = ["  turn: {choice: [true, false]}\n", "  beta1: {grid_search: [0, 0.5, 0.9]}\n"]
    expected = [{"turn": t, "beta1": b} for b, t in itertools.product([0.0, 0.5, 0.9], [True, False])]
    for ordered in (lines, lines[::-1]):
        _, space = loaded(HEAD + "search: grid\nspace:\n" + "".join(ordered))
        assert list(space.grid()) == expected


def test_a_range_has_no_grid() -> None:
    with pytest.raises(ConfigError, match="learning_rate has no list of values; a grid wants choice or grid_search"):
        loaded(HEAD + RATE)[1].grid()


def test_the_baseline_is_the_recipes_own_setting_where_the_space_holds_it() -> None:
    assert loaded(HEAD + RATE)[1].baseline() == {"learning_rate": 2e-4}
    assert loaded(swept("learning_rate: {uniform: [0.1, 0.2]}"))[1].baseline() is None
    assert loaded(swept("widths: {choice: [[8, 16], [4, 8]]}"))[1].baseline() == {"widths": [8, 16]}


# Ray Tune's own domains are the truth about what an operator means.


@pytest.mark.parametrize("name", SPACES)
def test_an_operator_draws_like_ray_tunes(name: str) -> None:
    import numpy as np
    from ray import tune

    operator, arguments = SPACES[name]
    theirs = getattr(tune, operator)(*([arguments] if operator == "choice" else arguments))
    generator, rng = np.random.default_rng(0), Random(0)
    expected = [theirs.sample(random_state=generator) for _ in range(4000)]
    found = [domain(name).sample(rng) for _ in range(4000)]
    if operator == "choice":
        assert found.count("batch") / 4000 == pytest.approx(expected.count("batch") / 4000, abs=0.05)
        return
    assert distance(found, expected) < 0.045  # two samples of one distribution: 0.036 in 99 of 100 cases
    if operator not in ("uniform", "loguniform", "randn"):
        rounded = [[round(float(v), 6) for v in values] for values in (found, expected)]
        assert set(rounded[0]) == set(rounded[1])


def distance(one: list[float], other: list[float]) -> float:
    """The largest distance of two samples' cumulative distributions (Kolmogorov and Smirnov)."""
    points = sorted({round(float(v), 6) for v in [*one, *other]})
    return max(abs(share(one, point) - share(other, point)) for point in points[:: max(1, len(points) // 500)])


def share(values: list[float], limit: float) -> float:
    return sum(value <= limit + 1e-9 for value in values) / len(values)


def test_normal_numbers_have_their_mean_and_deviation_and_an_end() -> None:
    rng = Random(6)
    values = [Number(1.0, 5.0, normal=(3.0, 0.5)).sample(rng) for _ in range(20_000)]
    assert statistics.mean(values) == pytest.approx(3.0, abs=0.02)
    assert statistics.stdev(values) == pytest.approx(0.5, abs=0.02)
    assert max(abs(value - 3.0) for value in values) <= 2.0


# Every recipe of ours has a space, and every space of ours is one of a recipe.


def test_every_recipe_has_a_search_space_and_no_space_is_left_over() -> None:
    assert sorted(path.stem for path in (REPOSITORY / "search_spaces").glob("*.yaml")) == recipes.names()


@pytest.fixture(params=recipes.names())
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_recipes_space_passes_its_checks_and_draws_right_settings(recipe: str) -> None:
    config = recipes.load(recipe).Config
    file, space = load(find(recipe), config)
    rng, fixed = Random(7), file.plan_fields()["fixed"]
    for params in (space.sample(rng) for _ in range(100)):
        explored = space.explore(params, rng)
        for values in (params, explored):
            kept = config.model_validate(fixed | values).model_dump(mode="json")
            assert {name: kept[name] for name in values} == values


def test_a_recipes_space_holds_the_published_settings(recipe: str) -> None:
    _, space = load(find(recipe), recipes.load(recipe).Config)
    assert space.baseline() is not None


def test_a_recipes_space_serves_two_objectives_and_other_searches(recipe: str) -> None:
    config = recipes.load(recipe).Config
    for search in ("random", "tpe"):
        options = {"objective": ["val/psnr_y", "val/perceptual"], "search": search, "scheduler": "pbt"}
        file, _ = load(find(recipe), config, options=options)
        assert file.mode == ("max", "min")


def test_a_sweep_aims_at_the_score_where_there_is_a_judge(recipe: str) -> None:
    module = recipes.load(recipe)
    has_judge = any("discriminator" in name or "critic" in name for name in module.Config.model_fields)
    file, space = load(find(recipe), module.Config)
    assert file.objective == (("val/score",) if has_judge else ("val/psnr_y",))
    assert "learning_rate" in space.domains
    assert ("adversarial_weight" in space.domains) is has_judge


def test_every_swept_line_says_what_it_varies(recipe: str) -> None:
    lines = find(recipe).read_text().partition("\nspace:\n")[2].splitlines()
    assert len(lines) == len(load(find(recipe), recipes.load(recipe).Config)[1].domains)
    assert [line for line in lines if not re.search(r"\}\s+# \w", line)] == []


def test_the_docstring_of_the_format_is_right() -> None:
    example = "\n".join(line[4:] for line in str(space_file.__doc__).splitlines() if line.startswith("    "))
    Path("example.yaml").write_text(example)
    file, _ = load(Path("example.yaml"), recipes.load("encdec_gan").Config)
    assert file.trials == 24
