import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import typer

import sisr
from sisr import errors
from sisr.terminal import cli, crashes
from sisr.terminal.cli import verbs

HEAVY = ("torch", "ray", "mlflow", "torchvision", "pandas", "optuna", "skimage")


def sisr_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    command = [str(Path(sys.executable).with_name("sisr")), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


class Ended(NamedTuple):
    """How a command line ended, and which of the heavy modules its process held then."""

    code: int
    out: str
    err: str
    loaded: list[str]


MISTAKES = [
    (["recipess"], "sisr: no verb 'recipess'; did you mean 'recipes'?"),
    (["resume"], "sisr: no verb 'resume'; a run goes on by the command that began it; `sisr show RUN` prints one"),
    (["qqqq"], f"sisr: no verb 'qqqq'; there are {', '.join(verbs())}"),
    (["recipes", "--jsn"], "sisr: no option '--jsn'; did you mean '--json'? (see sisr recipes --help)"),
    (["recipes", "srezz"], "sisr: no recipe 'srezz'; did you mean 'srez'? "),
    (["recipes", "srez", "pixelshuffle"], "sisr: Got unexpected extra argument"),
    (["recipes", "--json=3"], "sisr: Option '--json' does not take a value"),
    (["--verson"], "sisr: no option '--verson'; did you mean '--version'? (see sisr --help)"),
]
AT_ONCE: list[list[str]] = [
    [],
    ["--help"],
    ["--version"],
    ["train", "-h"],
    ["train", "srez", "--set", "learning_rates=1"],
    ["train", "srez", "--set", "box=[0,0,64,64]"],
    ["train", "srez", "--option", "log_evry=1"],
    ["train", "srez", "--workers", "some"],
    *(words for words, _ in MISTAKES),
    *([verb, "--help"] for verb in verbs()),
]
IN_TURN = """
import contextlib, io, json, sys
from sisr.terminal.cli import main
lines, heavy = json.load(sys.stdin)
ended = []
for words in lines:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    ended.append([code, out.getvalue(), err.getvalue(), [name for name in heavy if name in sys.modules]])
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended(session_cache: Path) -> Callable[..., Ended]:
    """How each command line of `AT_ONCE` ends: they run one after the other in a fresh process, which shows
    whether one of them is the first to import something heavy.
    """
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        input=json.dumps([AT_ONCE, HEAVY]),
        env={**os.environ, "SISR_CACHE": str(session_cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = dict(zip(map(tuple, AT_ONCE), json.loads(done.stdout), strict=True))
    return lambda *words: Ended(*found[words])


def exit_code(verb: Any, *words: str) -> int:
    """Run a function as a verb in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(verb, words)
    return int(stopped.value.code or 0)


def failing(error: BaseException) -> Any:
    def verb() -> None:
        raise error

    return verb


def test_help_lists_every_verb_with_its_first_line(ended: Callable[..., Ended]) -> None:
    code, out, _, _ = ended("--help")
    assert code == 0
    listed = " ".join(out.split()).replace("- ", "-")  # lines are broken behind hyphens, too
    for name, line in verbs().items():
        assert f"{name} {line}" in listed


def test_no_words_show_the_help(ended: Callable[..., Ended]) -> None:
    assert sisr_command().stdout == ended().out == ended("--help").out


def test_every_verb_has_a_description() -> None:
    assert {name: line for name, line in verbs().items() if not line.endswith(".")} == {}


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_help(verb: str, ended: Callable[..., Ended]) -> None:
    code, out, err, _ = ended(verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: sisr {verb}")


def test_the_version_is_the_package_s(ended: Callable[..., Ended]) -> None:
    assert ended("--version").out == sisr_command("--version").stdout == f"sisr {sisr.__version__}\n"


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(
    words: list[str], message: str, ended: Callable[..., Ended]
) -> None:
    code, out, err, _ = ended(*words)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_mistake_ends_the_installed_command_as_it_ends_its_function(ended: Callable[..., Ended]) -> None:
    done = sisr_command("recipes", "srezz")
    assert (done.returncode, done.stdout, done.stderr) == ended("recipes", "srezz")[:3]


@pytest.mark.parametrize("words", AT_ONCE, ids=" ".join)
def test_help_and_mistakes_import_nothing_heavy(words: Sequence[str], ended: Callable[..., Ended]) -> None:
    assert ended(*words).loaded == []


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
    assert len(kept) == crashes.KEPT
    assert str(kept[-1]) in second
    assert "Traceback" in kept[-1].read_text()
    assert "in verb" in kept[-1].read_text()


def test_names_in_an_error_can_neither_steer_the_terminal_nor_look_like_another_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(failing(errors.DataError("\x1b[2J\x9b31m.png\nsisr: all is well\r\udcff"))) == 3
    assert capsys.readouterr().err == "sisr: \\x1b[2J\\x9b31m.png\n  sisr: all is well\\r\\udcff\n"


def test_help_shows_options_in_their_panels(ended: Callable[..., Ended]) -> None:
    short, long = ended("train", "-h").out, ended("train", "--help").out
    assert short == long
    titles = [line for line in long.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Images:", "What is learned:", "How it is run:", "Where it is kept:", "Options:"]


def test_debug_anywhere_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(failing(errors.ConfigError("no")), "--debug") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("sisr: no\n")
    for words in (["recipes", "--debug", "srezz"], ["--debug", "recipes", "srezz"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert capsys.readouterr().err.startswith("Traceback")


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


DROPS = """
import signal
from contextlib import suppress

with suppress(KeyboardInterrupt):
    signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_in_an_import_that_drops_it_ends_the_verb(tmp_path: Path) -> None:
    """As torch's of NumPy does, with which `sisr train` spends its first second."""
    (tmp_path / "drops.py").write_text(DROPS)
    script = (
        "import time\nfrom sisr.terminal import cli\ndef main():\n    import drops\n    time.sleep(60)\ncli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (130, "sisr: interrupted\n")


def test_a_closed_pipe_is_not_an_error() -> None:
    program = "from sisr.terminal.cli import run\ndef main():\n    for i in range(100000): print('x' * 100)\nrun(main)"
    pipeline = f"{sys.executable} -c {json.dumps(program)} | head -1; exit ${{PIPESTATUS[0]}}".replace("\\n", "\n")
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, timeout=300)
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


def test_a_pipeline_file_runs_as_a_script_where_it_lies(repository: Path) -> None:
    script = repository / "pipelines" / "recipes.py"
    done = subprocess.run([sys.executable, script, "srezz"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("sisr: no recipe 'srezz'")


def asked(line: str) -> dict[str, str]:
    """What Bash puts into the environment of a command that is to complete a line."""
    return {"_SISR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}


def test_the_shell_completes_verbs_options_and_recipes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def completions(line: str) -> list[str]:
        for name, value in asked(line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            cli.main([])
        return capsys.readouterr().out.split()

    assert sisr_command(**asked("sisr reci")).stdout.split() == completions("sisr reci") == ["recipes"]
    assert set(verbs()) <= set(completions("sisr "))
    assert "pixelshuffle" in completions("sisr train pix")
    assert completions("sisr train pixelshuffle --preset ph") == ["photos"]
    assert completions("sisr train pixelshuffle --precision bf") == ["bf16"]
    (Path("runs") / "faces").mkdir(parents=True)
    (Path("runs") / "faces" / "run.json").write_text("{}")
    assert completions("sisr evaluate fa") == ["faces"]
    assert completions("sisr train --from fa") == ["faces"]
    assert completions("sisr recipes --js") == ["--json"]
    assert completions("sisr recipes sre") == ["srez"]
    assert "--json" not in completions("sisr qqqq ")


def test_a_completion_script_can_be_had() -> None:
    assert "complete -o default" in sisr_command(_SISR_COMPLETE="source_bash").stdout


@pytest.fixture(scope="module")
def listed(session_cache: Path) -> list[dict[str, Any]]:
    """What `sisr recipes --json` says."""
    done = sisr_command("recipes", "--json", SISR_CACHE=str(session_cache))
    recipes: list[dict[str, Any]] = json.loads(done.stdout)["recipes"]
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
def test_one_recipe_is_shown_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["recipes", "srez"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "generator 3,844,451, discriminator 4,175,937" in shown
    assert "│ beta1 │ 0.5 │ a number >= 0 and < 1" in shown
    assert "[17,52,144,144]" in shown


HUNG_UP = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
print("ready", flush=True)
try:
    sys.stdin.read()  # until the terminal is gone
except OSError:
    pass
from sisr.terminal import cli, console
console.err.print("nobody reads this", markup=False)
cli.main(["show", "nothing"])
"""


def test_a_terminal_that_hung_up_changes_no_exit_code(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", HUNG_UP])
    shown = b""
    while not shown.endswith(b"ready\r\n"):  # the whole line, or its end would be what can't be written
        shown += os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2, "no such run"
