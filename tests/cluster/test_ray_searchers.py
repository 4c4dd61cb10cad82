"""Ray Tune's searchers, really asked: they find what is better, forget nothing, and say what they lack."""

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from sisr.cluster.searchers import PACKAGES, RaySearchers, _built, _searcher_class, _seeded, _tell
from sisr.errors import ConfigError
from sisr.sweep.searchers import Places, Point, Question, Scale, Told

AXES: dict[str, Scale | Places] = {"rate": Scale(-5.0, -2.0), "blocks": Scale(0.5, 8.5), "norm": Places(3)}
NUMBERS: dict[str, Scale | Places] = {name: axis for name, axis in AXES.items() if isinstance(axis, Scale)}
# Each is tried where its package is installed. ZOOpt takes no trials back, and Ray 2.60's AxSearch asks ax-platform 1.3
# for an attribute that it has no more: both are refused.
REAL = [name for name in PACKAGES if name not in ("ax", "zoopt")]

pytestmark = pytest.mark.slow  # each imports its package, and Ray


@pytest.fixture(params=REAL)
def name(request: pytest.FixtureRequest) -> str:
    """Each searcher whose package is installed here."""
    module, package = PACKAGES[request.param]
    pytest.importorskip(module, reason=f"pip install {package}", exc_type=ImportError)
    return str(request.param)


def axes_of(name: str) -> dict[str, Scale | Places]:
    return NUMBERS if name == "bayesopt" else AXES


def question(name: str, told: tuple[Told, ...] = (), seed: int = 3, **more: Any) -> Question:
    fields: dict[str, Any] = {"options": {}, "axes": axes_of(name), "mode": "max", "trials": 30, **more}
    return Question(name=name, told=told, seed=seed, **fields)


def score(point: Point) -> float:
    """Best at a rate of -3, 4 blocks and the middle norm."""
    return -((point["rate"] + 3) ** 2) - ((point["blocks"] - 4) / 4) ** 2 - (point.get("norm", 1) != 1)


def grid(name: str, number: int = 24) -> tuple[Told, ...]:
    """Trials all over the space."""
    rng = np.random.default_rng(0)
    points: list[Point] = []
    for _ in range(number):
        point: Point = {"rate": float(rng.uniform(-5, -2)), "blocks": float(rng.integers(1, 9))}
        points.append(point | ({} if name == "bayesopt" else {"norm": float(rng.integers(0, 3))}))
    return tuple(Told(point, ((30, score(point) - 1), (90, score(point)))) for point in points)


def test_the_same_question_has_the_same_answer_within_the_space(name: str) -> None:
    told = grid(name, 6)
    points = [RaySearchers().suggest(question(name, told)) for _ in range(2)]
    assert points[0] == points[1]
    assert points[0] is not None
    for axis, place in points[0].items():
        wanted = AXES[axis]
        assert (0 <= place < wanted.count) if isinstance(wanted, Places) else (wanted.low <= place <= wanted.high)


def test_a_searcher_that_knows_trials_suggests_better_ones_than_chance(name: str) -> None:
    told, scores = grid(name), []
    for number in range(6):
        point = RaySearchers().suggest(question(name, told, seed=number))
        assert point is not None
        scores.append(score(point))
    assert np.mean(scores) > np.mean([one.curve[-1][1] for one in grid(name, 200)])


def test_a_searcher_lives_through_the_trials_of_the_ledger(name: str) -> None:
    """What it has in mind for each of them is the point that was tried, to the end of a trial that goes on."""
    told = (*grid(name, 5), Told(grid(name, 6)[-1].point, ()), Told(grid(name, 7)[-1].point, (), lost=True))
    asked = question(name, told)
    with _seeded(0):
        searcher = _built(asked, _searcher_class(name))
        completed, of_ray = list[str](), searcher.on_trial_complete

        def note(trial: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            completed.append(f"{trial} lost" if error else trial)
            of_ray(trial, result, error)

        searcher.on_trial_complete = note
        _tell(searcher, asked)
    assert completed == ["0", "1", "2", "3", "4", "6 lost"]


def test_asking_leaves_the_random_numbers_of_the_process_as_they_were(name: str) -> None:
    np.random.seed(5)
    expected = np.random.random(3).tolist()
    np.random.seed(5)
    RaySearchers().suggest(question(name, grid(name, 3)))
    assert np.random.random(3).tolist() == expected


def test_a_space_that_fits_is_accepted(name: str) -> None:
    RaySearchers().check(question(name, grid(name, 4)))


@pytest.mark.skipif(not find_spec("hyperopt"), reason="pip install hyperopt")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_initial_point": 4}, "hyperopt has no 'n_initial_point'; did you mean 'n_initial_points'?"),
        ({"gamma": "wide"}, "search hyperopt: "),
    ],
)
def test_an_option_that_a_searcher_has_not_or_can_not_use_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        RaySearchers().check(question("hyperopt", grid("hyperopt", 24), options=options))


@pytest.mark.skipif(not find_spec("hyperopt"), reason="pip install hyperopt")
def test_an_option_reaches_the_searcher() -> None:
    told = grid("hyperopt", 12)
    answers = {n: RaySearchers().suggest(question("hyperopt", told, options={"n_initial_points": n})) for n in (4, 20)}
    assert answers[4] != answers[20]


@pytest.mark.skipif(not find_spec("bayes_opt"), reason="pip install bayesian-optimization==1.4.3")
def test_a_list_of_values_that_a_searcher_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match="it can't search norm: use search tpe"):
        RaySearchers().check(question("bayesopt", axes=AXES))


@pytest.mark.skipif(not find_spec("nevergrad"), reason="pip install nevergrad")
def test_nevergrads_optimizers_are_chosen_by_name() -> None:
    with pytest.raises(ConfigError, match="no optimizer 'OnePlusTwo'; did you mean"):
        RaySearchers().check(question("nevergrad", options={"optimizer": "OnePlusTwo"}))
    assert RaySearchers().suggest(question("nevergrad", grid("nevergrad", 3), options={"optimizer": "NGOpt"}))


def test_a_searcher_that_does_not_take_trials_back_is_refused() -> None:
    pytest.importorskip("zoopt", reason="pip install zoopt")
    with pytest.raises(ConfigError, match="zoopt can't be told of trials that it has not suggested itself"):
        RaySearchers().check(question("zoopt", grid("zoopt", 4)))


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "hyperopt", raising=False)
    with pytest.raises(ConfigError, match=r"search hyperopt .* is not here: pip install hyperopt$"):
        RaySearchers().check(question("hyperopt"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no search 'hyper-opt'; did you mean 'hyperopt'\?"):
        RaySearchers().check(question("hyper-opt"))


def test_every_searcher_of_ray_has_a_package_that_is_named() -> None:
    from ray.tune.search import SEARCH_ALG_IMPORT

    assert SEARCH_ALG_IMPORT.keys() - PACKAGES == {"random", "variant_generator"}
