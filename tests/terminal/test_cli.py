import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

import sisr
from sisr import errors
from sisr.terminal import cli
from sisr.terminal.cli import verbs

HEAVY = ("torch", "ray", "mlflow", "torchvision", "pandas", "optuna", "skimage")


def sisr_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    command = [str(Path(sys.executable).with_name("sisr")), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def exit_code(verb: Any, *words: str) -> int:
    """Run a function as a verb in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(verb, words)
    return int(stopped.value.code or 0)


def failing(error: BaseException) -> Any:
    def verb() -> None:
        raise error

    return verb


def test_help_lists_every_verb_with_its_first_line() -> None:
    done = sisr_command("--help")
    assert done.returncode == 0
    listed = " ".join(done.stdout.split()).replace("- ", "-")  # lines are broken behind hyphens, too
    for name, line in verbs().items():
        assert f"{name} {line}" in listed


def test_no_words_show_the_help() -> None:
    assert sisr_command().stdout == sisr_command("--help").stdout


def test_every_verb_has_a_description() -> None:
    assert {name: line for name, line in verbs().items() if not line.endswith(".")} == {}


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_help(verb: str) -> None:
    done = sisr_command(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: sisr {verb}")


def test_the_version_is_the_package_s() -> None:
    assert sisr_command("--version").stdout == f"sisr {sisr.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipess"], "sisr: no verb 'recipess'; did you mean 'recipes'?"),
        (["qqqq"], f"sisr: no verb 'qqqq'; there are {', '.join(verbs())}"),
        (["recipes", "--jsn"], "sisr: no option '--jsn'; did you mean '--json'? (see sisr recipes --help)"),
        (["recipes", "srezz"], "sisr: no recipe 'srezz'; did you mean 'srez'? "),
        (["recipes", "srez", "pixelshuffle"], "sisr: Got unexpected extra argument"),
        (["recipes", "--json=3"], "sisr: Option '--json' does not take a value"),
        (["--verson"], "sisr: no option '--verson'; did you mean '--version'? (see sisr --help)"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(words: list[str], message: str) -> None:
    done = sisr_command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["recipess"],
        ["recipes", "srezz"],
        ["recipes", "--jsn"],
        *([verb, "--help"] for verb in verbs()),
    ],
    ids=" ".join,
)
def test_help_and_mistakes_import_nothing_heavy(words: Sequence[str]) -> None:
    program = (
        "import sys; from sisr.terminal.cli import main\n"
        "try: main(sys.argv[1:])\n"
        f"except SystemExit: print('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "loaded:", done.stdout + done.stderr


def test_every_error_has_a_documented_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SisrError)]
    assert len(kinds) > 5
    for kind in kinds:
        assert f"| {kind.exit_code} |" in (errors.__doc__ or "")
        assert f" {kind.exit_code} " in cli.EPILOG


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.ConfigError("no recipe 'x'"), 2, "sisr: no recipe 'x'\n"),
        (errors.DataError("bad images"), 3, "sisr: bad images\n"),
        (errors.StoppedError("stopped at step 5"), 75, "sisr: stopped at step 5\n"),
        (errors.DiskError(28, "No space left", "f"), 73, "sisr: [Errno 28] No space left: 'f'\n"),
        (OSError(28, "No space left on device", "runs/a"), 73, "sisr: runs/a: No space left on device\n"),
        (PermissionError(13, "Permission denied", "runs"), 73, "sisr: runs: Permission denied\n"),
        (KeyboardInterrupt(), 130, "sisr: interrupted\n"),
    ],
)
def test_an_error_becomes_a_line_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(failing(error)) == code
    assert capsys.readouterr() == ("", message)


def test_our_own_mistake_exits_70_and_keeps_the_newest_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SISR_CACHE", str(tmp_path))
    (tmp_path / "crashes").mkdir()
    for number in range(9):
        (tmp_path / "crashes" / f"20000101-00000{number}-1.txt").touch()
    assert exit_code(failing(ZeroDivisionError("by zero"))) == 70
    first, second = capsys.readouterr().err.splitlines()
    assert first == "sisr: ZeroDivisionError: by zero"
    kept = sorted((tmp_path / "crashes").glob("*.txt"))
    assert len(kept) == cli.CRASHES_KEPT
    assert str(kept[-1]) in second
    assert "Traceback" in kept[-1].read_text()
    assert "in verb" in kept[-1].read_text()


def test_names_in_an_error_can_neither_steer_the_terminal_nor_look_like_another_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(failing(errors.DataError("\x1b[2J\x9b31m.png\nsisr: all is well\r\udcff"))) == 3
    assert capsys.readouterr().err == "sisr: \\x1b[2J\\x9b31m.png\n  sisr: all is well\\r\\udcff\n"


def test_help_shows_options_in_their_panels() -> None:
    short, long = sisr_command("train", "-h").stdout, sisr_command("train", "--help").stdout
    assert short == long
    titles = [line for line in long.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Images:", "What is learned:", "How it is run:", "Where it is kept:", "Options:"]


def test_debug_anywhere_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(failing(errors.ConfigError("no")), "--debug") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("sisr: no\n")
    assert "Traceback" in sisr_command("recipes", "--debug", "srezz").stderr
    assert "Traceback" in sisr_command("--debug", "recipes", "srezz").stderr


def test_words_behind_two_dashes_are_not_options(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(words: list[str]) -> None:
        print(words)

    assert exit_code(verb, "a", "--", "--debug") == 0
    assert capsys.readouterr().out == "['a', '--debug']\n"


def test_a_wrong_option_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(steps: Annotated[int, typer.Option()] = 1) -> None:
        pass

    assert exit_code(verb, "--steps", "many") == 2
    message = capsys.readouterr().err
    assert message.startswith("sisr: Invalid value for '--steps'")
    assert message.count("\n") == 1


def test_a_missing_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(recipe: str) -> None:
        pass

    assert exit_code(verb) == 2
    assert capsys.readouterr().err.startswith("sisr: Missing argument")


def test_a_closed_pipe_is_not_an_error() -> None:
    program = "from sisr.terminal.cli import run\ndef main():\n    for i in range(100000): print('x' * 100)\nrun(main)"
    pipeline = f"{sys.executable} -c {json.dumps(program)} | head -1; exit ${{PIPESTATUS[0]}}".replace("\\n", "\n")
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_seen_enough_of_a_table_is_not_an_error() -> None:
    script = (
        "from sisr.terminal import cli, console\n"
        "def main(): console.table('', ('a',), [['x' * 99]] * 9999)\n"
        "cli.run(main, [])"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_closed_streams_are_not_an_error() -> None:
    script = "from sisr.terminal import cli, console; cli.run(lambda: console.print_json({'a': 1}), [])"
    closing = "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    assert subprocess.run([sys.executable, "-c", closing, script], check=False).returncode == 0


def test_a_file_where_a_folder_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    done = sisr_command("ui", "--runs", str(tmp_path / "runs"))
    assert (done.returncode, done.stderr) == (73, f"sisr: {tmp_path}/runs: File exists\n")


def test_a_full_disk_behind_stdout_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sisr.terminal.cli", "--version"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 73
    assert done.stderr == b"sisr: can't write the output: No space left on device\n"


def test_a_pipeline_file_runs_alone_elsewhere(tmp_path: Path, repository: Path) -> None:
    copy = tmp_path / "mine.py"
    copy.write_bytes((repository / "pipelines" / "recipes.py").read_bytes())
    done = subprocess.run([sys.executable, copy, "srezz"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("sisr: no recipe 'srezz'")


@pytest.mark.parametrize("verb", verbs())
def test_every_pipeline_file_runs_as_a_script(verb: str, repository: Path) -> None:
    script = repository / "pipelines" / f"{verb}.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {verb}.py")


def completions(line: str) -> list[str]:
    words = {"_SISR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return sisr_command(**words).stdout.split()


def test_the_shell_completes_verbs_options_and_recipes() -> None:
    assert completions("sisr reci") == ["recipes"]
    assert set(verbs()) <= set(completions("sisr "))
    assert completions("sisr recipes --js") == ["--json"]
    assert completions("sisr recipes sre") == ["srez"]
    assert "--json" not in completions("sisr qqqq ")


def test_a_completion_script_can_be_had() -> None:
    assert "complete -o default" in sisr_command(_SISR_COMPLETE="source_bash").stdout


@pytest.fixture(scope="module")
def listed() -> list[dict[str, Any]]:
    """What `sisr recipes --json` says."""
    recipes: list[dict[str, Any]] = json.loads(sisr_command("recipes", "--json").stdout)["recipes"]
    return recipes


@pytest.mark.slow
def test_a_listed_recipe_has_its_published_size(listed: list[dict[str, Any]]) -> None:
    sizes = {recipe["name"]: recipe["parameters"] for recipe in listed}
    assert sizes["srez"] == {"generator": 3_844_451, "discriminator": 4_175_937}
    assert sizes["pixelshuffle"] == {"generator": 134_199}


@pytest.mark.slow
def test_every_recipe_says_its_source_command_and_cost(listed: list[dict[str, Any]]) -> None:
    for recipe in listed:
        assert recipe["source"]
        assert recipe["measured"]
        assert recipe["command"].startswith(f"sisr train {recipe['name']}")


@pytest.mark.slow
def test_every_setting_of_every_recipe_has_a_meaning(listed: list[dict[str, Any]]) -> None:
    silent = [(recipe["name"], row["name"]) for recipe in listed for row in recipe["settings"] if not row["meaning"]]
    assert silent == []


@pytest.mark.slow
def test_one_recipe_is_shown_with_its_settings() -> None:
    shown = " ".join(sisr_command("recipes", "srez").stdout.split())
    assert "generator 3,844,451, discriminator 4,175,937" in shown
    assert "│ beta1 │ 0.5 │ a number >= 0 and < 1" in shown
    assert "[17,52,144,144]" in shown
