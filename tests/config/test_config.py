import math
from typing import Any, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from sisr.config.settings import Located, Settings, build, expected, parse_override, parse_overrides, read_yaml
from sisr.config.wording import nearest
from sisr.errors import ConfigError


class Optim(Settings):
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")


class Config(Settings):
    """As large and as mixed as a real recipe's."""

    scale: Literal[2, 3, 4] = 4
    batch_size: int = Field(16, ge=1)
    steps: int = Field(100_000, ge=1)
    hr_crop: int = Field(96, ge=8, multiple_of=4)
    box: tuple[int, int, int, int] | None = None
    learning_rate: float = Field(2e-4, gt=0)
    discriminator_learning_rate: float = Field(2e-4, gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    adversarial_weight: float = Field(0.1, ge=0, le=1)
    perceptual_weight: float = Field(1.0, ge=0)
    blur_sigma_max: float = Field(2.0, ge=0)
    num_features: int = Field(64, ge=1)
    num_blocks: int = Field(7, ge=0)
    bicubic_skip: bool = True
    clip_norm: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)
    precision: str = "auto"
    channels_last: bool = True
    evaluate_every: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=2)
    optim: Optim = Optim()


def message(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(Config, values)
    return str(caught.value)


TYPOS = {
    "bach_size": "batch_size",
    "batchsize": "batch_size",
    "batch-size": "batch_size",
    "batchSize": "batch_size",
    "bs": "batch_size",
    "lr": "learning_rate",
    "learing_rate": "learning_rate",
    "learningrate": "learning_rate",
    "learnig_rate": "learning_rate",
    "rate_learning": "learning_rate",
    "lr_d": "discriminator_learning_rate",
    "discriminator_lr": "discriminator_learning_rate",
    "step": "steps",
    "max_steps": "steps",
    "hr_size": "hr_crop",
    "crop": "hr_crop",
    "patch_size": "hr_crop",
    "beta_1": "beta1",
    "shedule": "schedule",
    "warmup": "warmup_steps",
    "adverserial_weight": "adversarial_weight",
    "adv_weight": "adversarial_weight",
    "perceptual_wieght": "perceptual_weight",
    "blur_sigma": "blur_sigma_max",
    "nb": "num_blocks",
    "n_blocks": "num_blocks",
    "bicubic-skip": "bicubic_skip",
    "random_seed": "seed",
    "eval_every": "evaluate_every",
    "chanels_last": "channels_last",
}


def test_at_least_27_of_30_typos_get_the_right_suggestion() -> None:
    wrong = {typo: nearest(typo, Config.model_fields) for typo in TYPOS}
    wrong = {typo: got for typo, got in wrong.items() if got != TYPOS[typo]}
    assert len(TYPOS) == 30
    assert len(wrong) <= 3, wrong


def test_nonsense_gets_no_suggestion_but_all_names() -> None:
    assert message(qqqq=1) == f"--set: no setting 'qqqq'; all settings: {', '.join(Config.model_fields)}"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert message(bach_size=8) == "--set: no setting 'bach_size'; did you mean 'batch_size'?"


def test_what_is_given_by_another_option_is_named_with_it() -> None:
    with pytest.raises(ConfigError) as raised:
        build(Config, {"patience": 3}, elsewhere={"patience": "--option"})
    assert str(raised.value) == "--set: 'patience' is no setting; it is given by --option patience=..."


def test_an_alias_is_not_suggested_where_its_target_is_unknown() -> None:
    assert nearest("lr", ["seed", "steps"]) is None


@pytest.mark.parametrize(
    ("name", "value", "wants"),
    [
        ("batch_size", True, "a whole number >= 1"),
        ("batch_size", 2.5, "a whole number >= 1"),
        ("batch_size", "8", "a whole number >= 1"),
        ("batch_size", 0, "a whole number >= 1"),
        ("batch_size", None, "a whole number >= 1"),
        ("hr_crop", 30, "a whole number >= 8 and a multiple of 4"),
        ("learning_rate", "fast", "a number > 0"),
        ("learning_rate", "1e-4", "a number > 0"),
        ("learning_rate", False, "a number > 0"),
        ("learning_rate", math.nan, "a number > 0"),
        ("learning_rate", math.inf, "a number > 0"),
        ("beta1", 1.0, "a number >= 0 and < 1"),
        ("clip_norm", -1, "a number > 0, or null"),
        ("clip_norm", True, "a number > 0, or null"),
        ("bicubic_skip", 1, "true or false"),
        ("bicubic_skip", 0.0, "true or false"),
        ("bicubic_skip", "yes", "true or false"),
        ("bicubic_skip", "true", "true or false"),
        ("precision", 16, "a text"),
        ("precision", True, "a text"),
        ("scale", 5, "2 or 3 or 4"),
        ("scale", "4", "2 or 3 or 4"),
        ("box", [1, 2, 3], "a list of 4, each a whole number, or null"),
        ("box", [1, 2, 3, True], "a list of 4, each a whole number, or null"),
        ("box", "1234", "a list of 4, each a whole number, or null"),
        ("optim", 3, "Optim"),
    ],
)
def test_a_wrong_value_names_field_value_and_what_is_wanted(name: str, value: Any, wants: str) -> None:
    assert message(**{name: value}) == f"--set: {name} wants {wants}, got {value!r}"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("learning_rate", 1, 1.0),
        ("steps", 1e5, 100_000),
        ("box", [1, 2, 3, 4], (1, 2, 3, 4)),
        ("clip_norm", None, None),
        ("bicubic_skip", False, False),
        ("optim", {"weight_decay": 0.01}, Optim(weight_decay=0.01)),
    ],
)
def test_a_value_that_means_the_same_is_taken(name: str, value: Any, kept: Any) -> None:
    got = getattr(build(Config, {name: value}), name)
    assert got == kept
    assert type(got) is type(kept)


def test_a_mistyped_choice_gets_the_nearest() -> None:
    assert message(schedule="cosin").endswith("wants 'constant' or 'cosine', got 'cosin'; did you mean 'cosine'?")


def test_nested_settings_are_named_with_dots() -> None:
    assert message(optim={"weight_decay": -1}) == "--set: optim.weight_decay wants a number >= 0, got -1"
    assert message(optim={"weight_decy": 1}).startswith("--set: no setting 'optim.weight_decy'; did you mean")


def test_each_mistake_is_one_line() -> None:
    assert len(message(bach_size=1, steps=0, box=[1, True, "a", None]).splitlines()) == 3


def test_a_long_value_is_shortened() -> None:
    assert len(message(precision=list(range(1000)))) < 200


def test_a_missing_setting_says_what_it_wants() -> None:
    class Needs(Settings):
        steps: int = Field(ge=1)

    with pytest.raises(ConfigError, match=r"^run\.json: steps is missing; it wants a whole number >= 1$"):
        build(Needs, {}, source="run.json")


def test_a_rule_between_settings_speaks_for_itself() -> None:
    class Window(Settings):
        crop: int = 64
        side: int = 64

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.side % self.crop:
                raise ValueError(f"side must be a multiple of crop {self.crop}, got {self.side}")
            return self

    with pytest.raises(ConfigError, match=r"^--set: side must be a multiple of crop 64, got 65$"):
        build(Window, {"side": 65})


def test_the_constructor_is_as_strict_as_the_file() -> None:
    with pytest.raises(ValidationError):
        Config(batch_size=True)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Config().steps = 1  # type: ignore[misc]


def test_settings_survive_json() -> None:
    config = Config(box=(1, 2, 3, 4), clip_norm=0.5, optim=Optim(weight_decay=0.1))
    assert build(Config, config.model_dump(mode="json")) == config


def test_what_is_wanted_reads_as_words() -> None:
    class Layers(Settings):
        layers: tuple[str, ...] = Field(("relu",), min_length=1)

    assert expected(Config.model_fields["adversarial_weight"]) == "a number >= 0 and <= 1"
    assert expected(Layers.model_fields["layers"]) == "a list, each a text, of length >= 1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("08", 8),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("''", ""),
        ("'1'", "1"),
        ("2026-01-01", "2026-01-01"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("[17,52,144,144]", [17, 52, 144, 144]),
        ("celeba:PATH", "celeba:PATH"),
        ("{learning_rate: 1e-3}", {"learning_rate": 1e-3}),
    ],
)
def test_an_override_means_what_it_looks_like(text: str, value: Any) -> None:
    name, got = parse_override(f"name={text}")
    assert (name, got, type(got) if not isinstance(got, dict) else dict) == ("name", value, type(value))


def test_infinity_and_nan_can_be_written_though_settings_refuse_them() -> None:
    assert parse_override("x=-.inf")[1] == -math.inf
    assert math.isnan(parse_override("x=.nan")[1])


@pytest.mark.parametrize("text", ["batch_size", "=3", "", "x=", "x=  ", "x=#1", "x=[1", "x=*y", "x={a: 1, a: 2}"])
def test_an_override_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set"):
        parse_override(text)


def test_an_override_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="--option wants NAME=VALUE, got 'foo'"):
        parse_overrides(["foo"], "--option")
    assert parse_overrides(["a=1", "b=x=y"]) == {"a": 1, "b": "x=y"}
    with pytest.raises(ConfigError, match="a is given twice"):
        parse_overrides(["a=1", "a=2"])


def written(text: str | bytes) -> Located:
    with open("s.yaml", "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    return read_yaml("s.yaml")


def test_a_file_of_settings_is_read() -> None:
    assert written("learning_rate: 1e-4  # slow\nbox: [1, 2, 3, 4]\noptim:\n  weight_decay: 1\n") == {
        "learning_rate": 1e-4,
        "box": [1, 2, 3, 4],
        "optim": {"weight_decay": 1},
    }
    assert written("# nothing yet\n") == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\nsteps: 2\nseed: 3\n", "s.yaml:3: 'seed' is given twice, first at s.yaml:1"),
        ("seed: 1\n2: 3\n", "s.yaml:2: a name must be a text, got 2"),
        ("seed: 1\n? [a]\n: 3\n", r"s.yaml:2: a name must be a text, got \['a'\]"),
        ("seed: 1\n  steps: 2\n", "s.yaml:2: mapping values are not allowed"),
        ("seed: [1\n", "s.yaml:2: while parsing a flow sequence"),
        ("seed: 1\n\tsteps: 2\n", "s.yaml:2: "),
        ("a: &x\n  b: *x\n", "s.yaml:1: an alias stands for what holds it"),
        ("a: " + "[" * 50 + "]" * 50, "s.yaml:1: more than 20 levels deep"),
        ("a: " + "[" * 100_000, "s.yaml:1: more than 20 levels deep"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2: expected a single document"),
        ("a: !!python/object/apply:os.system [ls]\n", "s.yaml:1: could not determine a constructor"),
        ("a: !!int x\n", "s.yaml: invalid literal"),
        ("- 1\n- 2\n", r"s.yaml: wants lines NAME: VALUE, got \[1, 2\]"),
        ("just words\n", "s.yaml: wants lines NAME: VALUE, got 'just words'"),
        ("a: \x01\n", "s.yaml: unacceptable character"),
        (b"a: \xff\n", "s.yaml: not text in UTF-8"),
        (b"a: 1\n" + b"#" * (1 << 20), "s.yaml: 1,048,581 bytes are too many"),
    ],
)
def test_a_trap_in_a_file_is_named_with_its_line(text: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}"):
        written(text)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    with pytest.raises(ConfigError, match="stand for over 100,000 values"):
        written("\n".join(lines))


def test_a_sensible_alias_is_taken() -> None:
    assert written("a: &range [1e-5, 1e-3]\nb: *range\n") == {"a": [1e-5, 1e-3], "b": [1e-5, 1e-3]}


@pytest.mark.parametrize("path", ["absent.yaml", "."])
def test_a_file_that_can_not_be_read_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"^can't read {path}: "):
        read_yaml(path)


def test_a_wrong_value_in_a_file_is_named_with_its_line() -> None:
    settings = written("# mine\nsteps: 10\nbatch_size: yes\noptim:\n  weight_decay: -1\n")
    with pytest.raises(ConfigError) as caught:
        build(Config, settings, source="s.yaml")
    assert str(caught.value).splitlines() == [
        "s.yaml:3: batch_size wants a whole number >= 1, got 'yes'",
        "s.yaml:5: optim.weight_decay wants a number >= 0, got -1",
    ]


def test_an_override_of_a_file_is_blamed_on_the_override() -> None:
    settings = written("steps: 10\nseed: 1\n") | parse_overrides(["steps=0", "sed=1"])
    with pytest.raises(ConfigError) as caught:
        build(Config, settings | {"seed": 2})
    assert str(caught.value).splitlines() == [
        "--set: steps wants a whole number >= 1, got 0",
        "--set: no setting 'sed'; did you mean 'seed'?",
    ]
