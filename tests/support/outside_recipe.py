"""The recipe that the README shows, for tests of recipes from outside."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
FIRST_VERSION = Path(__file__).with_name("recipe_of_the_first_version.txt")  # as README showed it at first
# Small enough for a test; as words behind `sisr train FILE`.
SMALL = [
    *("--steps", "4", "--set", "batch_size=4", "--set", "hr_crop=32", "--set", "num_features=4"),
    *("--option", "evaluate_every=2", "--option", "validation_side=48", "--precision", "fp32"),
]


def text() -> str:
    """Return the complete recipe in the README."""
    found = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert len(found) == 1
    return str(found[0])


def write(folder: Path, name: str = "espcn.py", *changes: tuple[str, str]) -> Path:
    """Write it as a file into a folder, changed; return the path."""
    content = text()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return folder / name
