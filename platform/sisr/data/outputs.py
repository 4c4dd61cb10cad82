"""What `sisr upscale` has written beside its inputs, known by its names: no originals, wherever images are wanted."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

_WRITTEN = re.compile(r"(.+)_x\d+(?:_compare)?")
REMEDY = "called as `sisr upscale` calls what it has made, which is no original: move {} away"


def among(names: Collection[str]) -> list[str]:
    """Return the files that are called as outputs of another one: `a_x4.png` and `a_x4_compare.png` beside `a.jpg`.

    `names` have forward slashes.
    """
    paths = {name: PurePosixPath(name) for name in names}
    there = {path.parent / path.stem for path in paths.values()}
    matches = {name: _WRITTEN.fullmatch(path.stem) for name, path in paths.items()}
    return [name for name, found in matches.items() if found and paths[name].parent / found[1] in there]
