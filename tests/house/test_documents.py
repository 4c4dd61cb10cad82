"""README.md and docs/: commands that are understood, targets and files that exist."""

import re
import shlex
from pathlib import Path

import pytest
from test_layers import ROOMS

from sisr.terminal import cli

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def commands(document: Path) -> list[str]:
    """Every `sisr ...` of a document's blocks, continued lines joined, and of its text where it has an option."""
    text = document.read_text()
    blocks = "\n".join(content for language, content in FENCE.findall(text) if not language)
    lines = [line.split(" #")[0].strip() for line in blocks.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(sisr [a-z]+ --?[^`]*)`", text)
    return [line for line in lines + inline if line.startswith("sisr ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_understood(document: Path) -> None:
    for command in commands(document):
        verb, *words = shlex.split(command)[1:]
        name, parsed, _ = cli._group().resolve_command(None, [verb])
        parsed.make_context(name, words)


def test_commands_are_found() -> None:
    assert len(commands(README)) >= 12
    assert any("--space judge_noise=" in command for command in commands(REPOSITORY / "docs" / "sweeps.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_exists(document: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.M))
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.M)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", document.read_text())]
    places = [document.parent / link for link in links if link and not link.startswith("http")]
    assert [str(place) for place in places if not place.exists()] == []


def named_in(document: Path) -> set[str]:
    """Files and folders of the product that a document names in backticks, beginning with a room's path."""
    found = re.findall(r"`((?:platform|pipelines|search_spaces|tests|docs|deploy)/[\w./-]*)`", document.read_text())
    return {name for name in found if "NAME" not in name}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_place_that_is_named_exists(document: Path) -> None:
    assert {name for name in named_in(document) if not (REPOSITORY / name).exists()} == set()


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_the_picture_of_the_architecture_has_every_room_at_its_floor() -> None:
    drawn = re.findall(
        r'<text x="[^"]*" y="(\d+)"><tspan class="name">(\w+)', (REPOSITORY / "docs/architecture.svg").read_text()
    )
    heights = {name: -int(y) for y, name in drawn}
    assert set(heights) == {room.partition(".")[0] for room in ROOMS}
    for room, (floor, _) in ROOMS.items():
        if room not in heights:  # a part that lies lower than its room is not drawn
            continue
        above = {other for other, (height, _) in ROOMS.items() if height > floor and other in heights}
        assert {other for other in above if heights[other] < heights[room]} == set()
