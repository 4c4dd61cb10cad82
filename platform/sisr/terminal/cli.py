"""The command `sisr VERB`: finds the verbs, runs one, and turns errors into lines and exit codes.

A verb is a module of `sisr.pipelines` with a function `main` whose annotations are its command line. No verb is
imported before it is asked for, so that help, completion and mistakes answer at once.
"""

import ast
import atexit
import errno
import functools
import importlib
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

import sisr
from sisr.config.wording import did_you_mean, printable
from sisr.disk import code_revision
from sisr.errors import ConfigError, DiskError, SisrError
from sisr.terminal import crashes, signals
from sisr.terminal.wrapping import wrapped

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR)
# Plain help: it survives pipes and narrow terminals, and shows [a, b] as written.
STYLE: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_ended_with: list[int] = []  # this process's exit code, once it is known


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `sisr ...` and end the process with its exit code."""
    if argv is None:  # the program itself
        atexit.register(_leave)  # before all others, so that it comes last
        signals.end_on(signal.SIGINT, KeyboardInterrupt)
    _execute(_group(), "sisr", sys.argv[1:] if argv is None else argv)


def run(verb: Callable[..., Any], argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb's `main` as a program of its own: the last line of every pipeline file."""
    module, name = sys.modules[verb.__module__], Path(sys.argv[0]).name
    _warn(code_revision.complaint_about_script(Path(getattr(module, "__file__", name))))
    if argv is None:
        signals.end_on(signal.SIGINT, KeyboardInterrupt)
    _execute(command(verb, name, module.__doc__), name, sys.argv[1:] if argv is None else argv)


@functools.cache
def verbs() -> dict[str, str]:
    """Return every verb's name and one-line description, without importing any."""
    import sisr.pipelines as package

    files = sorted(path for folder in package.__path__ for path in Path(folder).glob("[!_]*.py"))
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_bytes())) or "" for path in files}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}


# What is meant by words that are no verbs: the nearest one, `remove`, is the last that should be proposed.
GOING_ON = dict.fromkeys(
    ("resume", "continue", "restart"), "a run goes on by the command that began it; `sisr show RUN` prints one"
)


class Verbs(TyperGroup):
    """The group `sisr`: lists verbs from their files and imports the one that runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(verbs())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # A stand-in that only knows its description, for lists.
        return TyperCommand(cmd_name, short_help=verbs().get(cmd_name), rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, known = args[0], verbs()
        if name not in known:
            if ctx.resilient_parsing:  # shell completion asks quietly
                return None, None, []
            hint = GOING_ON.get(name) or did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ConfigError(f"no verb '{name}'; {hint}")
        module = importlib.import_module(f"sisr.pipelines.{name}")
        return name, command(module.main, name, module.__doc__), args[1:]


DESCRIPTION = "Trains, measures and serves super-resolution GANs, on a laptop or a cluster."
EPILOG = (
    "Start with `sisr demo`. Every verb has --help. --debug, anywhere on the line, shows the traceback of an error. "
    "Exit codes: 0 done, 2 command line or setting, 3 images, 4 checkpoint, 5 diverged or out of memory, 6 run in use, "
    "7 model refused, 69 tracking server, 70 our mistake, 73 can't write, 74 object storage, "
    "75 stopped (run it again to go on), "
    "130 interrupted."
)


def _group() -> Any:
    app = typer.Typer(cls=Verbs, **STYLE)
    app.callback(invoke_without_command=True, help=DESCRIPTION, epilog=EPILOG)(_root)
    return typer.main.get_command(app)


def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        typer.echo(f"sisr {sisr.__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


class Verb(TyperCommand):
    """A verb, whose help shows its options in their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if (line := parameter.get_help_record(ctx)) is not None:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(line)
        for title, lines in panels.items():
            with formatter.section(title):
                formatter.write_dl(lines)


def command(verb: Callable[..., Any], name: str, doc: str | None) -> Any:
    """Return the command line of a verb's `main`; `doc` is its module's."""
    app = typer.Typer(add_completion=False, **STYLE)
    app.command(name, cls=Verb, help=doc)(verb)
    return typer.main.get_command(app)


def _execute(command: Any, name: str, argv: Sequence[str]) -> NoReturn:
    _prepare_streams()
    argv = list(argv)
    options = argv[: argv.index("--")] if "--" in argv else argv
    debug = "--debug" in options
    argv = [word for word in options if word != "--debug"] + argv[len(options) :]
    try:
        if f"_{name.upper()}_COMPLETE" in os.environ:
            command.main(argv, prog_name=name)  # answers the shell and ends the process
        _warn(code_revision.complaint_about_submitted())
        with command.make_context(name, argv) as context:  # not main(), which handles errors in its own way
            result = command.invoke(context)
        code: int | str | None = (
            result if isinstance(result, int) else None
        )  # else it is what Python gets: see `sisr.interface`
        sys.stdout.flush()
    except BaseException as error:
        if debug and not isinstance(error, SystemExit | typer.Exit | TyperException):
            traceback.print_exc()
        code = _report(error, debug, " ".join([name, *argv[:1]]))
    if code is None or isinstance(code, int):
        _ended_with.append(code or 0)
    sys.exit(code)


def _leave() -> None:
    """End the process without taking the modules of torch and Ray to pieces, for which somebody would wait a second."""
    if _ended_with:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(_ended_with[-1])


def _prepare_streams() -> None:
    """Make sure that printing works: where the caller closed the streams, and for file names that are no text."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _report(error: BaseException, debug: bool, command: str) -> int | str | None:
    """Write to stderr what went wrong with a command, given by its first two words; return the exit code."""
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _fail("interrupted", 130)
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, TyperException):
        return _fail(_usage(error, command), 2)
    if isinstance(error, SisrError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        place = error.filename or "can't write the output"
        return _fail(f"{place}: {error.strerror}", DiskError.exit_code)
    kept = "" if debug else f" The traceback is in {crashes.keep(error)}; --debug shows it here."
    return _fail(f"{type(error).__name__}: {error}\nThis is our mistake, not yours.{kept}", SisrError.exit_code)


def _warn(complaint: str | None) -> None:
    if complaint:
        _fail(complaint, 0)


def _fail(message: str, code: int) -> int:
    """Write a message to stderr, whose further lines are indented: no name with a line end looks like one of ours."""
    text = "sisr: " + printable(message, keep="\n").replace("\n", "\n  ")
    with suppress(OSError):  # a terminal that hung up: the exit code still counts
        text = wrapped(text, shutil.get_terminal_size().columns) if sys.stderr.isatty() else text
        sys.stderr.write(f"{text}\n")
    return code


def _usage(error: TyperException, command: str) -> str:
    """Return what is wrong with the command line, and where help is."""
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".").replace("Input should be", "it should be")
    option = getattr(error, "option_name", None)
    if option and context is not None and message.startswith("No such option"):
        known = [word for parameter in context.command.get_params(context) for word in parameter.opts]
        hint = did_you_mean(option, known)
        message = f"no option '{option}'" + (f"; {hint}" if hint else "")
    program, _, verb = command.partition(" ")
    typed = command if verb and not verb.startswith("-") and program == "sisr" else program
    path = context.command_path if context is not None else typed
    return f"{message} (see {path} --help)"


if __name__ == "__main__":
    main()
