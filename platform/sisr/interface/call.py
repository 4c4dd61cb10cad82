"""A verb called from Python: its arguments become the words of a command line, and its result comes back.

So a call is checked as the command is, does what it does, and fails with the same texts, as exceptions of
`sisr.errors` instead of exit codes. What the verb prints is kept, not shown, unless somebody wants it.
"""

import importlib
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from sisr.config.wording import did_you_mean
from sisr.errors import ConfigError
from sisr.terminal import cli


def call(verb: str, arguments: Sequence[str], options: Mapping[str, Any], *, verbose: bool = False) -> tuple[Any, str]:
    """Return what the `main` of a verb returns, and what it has printed.

    Args:
        verb: Such as `evaluate`.
        arguments: The words without a name, such as models.
        options: By the names of `main`'s parameters, with or without a last `_`. None is the verb's default; a mapping
            becomes NAME=VALUE for each item; of a list, each item is given.
        verbose: Show what the verb prints, as it comes, and keep nothing.

    Raises:
        ConfigError: An option is unknown or has a value that can't be used.
        SisrError: As the verb.
    """
    module = importlib.import_module(f"sisr.pipelines.{verb}")
    command = cli.command(module.main, verb, module.__doc__)
    words = [*_words(verb, command.params, options), "--", *map(str, arguments)]
    shown = io.StringIO()
    try:
        with command.make_context(verb, words) as context:
            if verbose:
                return command.invoke(context), ""
            with redirect_stdout(shown), redirect_stderr(shown):
                return command.invoke(context), shown.getvalue()
    except TyperException as error:
        raise ConfigError(f"{verb}: {error.format_message()}") from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error


def _words(verb: str, parameters: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line.

    Raises:
        ConfigError: One is unknown.
    """
    known = {parameter.name.rstrip("_"): parameter for parameter in parameters if parameter.param_type_name == "option"}
    words = []
    for name, value in options.items():
        parameter = known.get(name.rstrip("_"))
        if parameter is None:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ConfigError(f"{verb} has no option '{name}'; {hint}")
        if isinstance(value, bool):
            words += parameter.opts[:1] if value else parameter.secondary_opts[:1]
        elif value is not None:
            words += [f"{parameter.opts[0]}={text}" for text in _texts(value)]
    return words


def _texts(value: Any) -> list[str]:
    """Return the words that give an option a value: one, or one for each item."""
    if isinstance(value, Mapping):
        return [f"{name}={item if isinstance(item, str | Path) else json.dumps(item)}" for name, item in value.items()]
    if isinstance(value, str | Path) or not isinstance(value, Sequence):
        return [str(value)]
    return [str(item) for item in value]
