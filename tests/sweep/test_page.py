"""A sweep's results as files: complete, harmless, and never in the way of the sweep."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import synthetic_sweep as synthetic
from sisr import recipes
from sisr.errors import DiskError
from sisr.pictures.contact_sheet import HEADER
from sisr.sweep import state
from sisr.sweep.report import gallery, headline, results
from sisr.terminal import cli

VOID = ("meta", "img")


class Reader(HTMLParser):
    """Collects a page's elements, and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def write(name: str) -> tuple[list[Path], str]:
    paths = results.write(Path(name), state.read(Path(name)))
    return paths, (Path(name) / "results" / "index.html").read_text()


def pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.slow
def test_results_are_the_leaderboard_pictures_and_a_page() -> None:
    synthetic.asha(Path("s"), 24, pictures=24)
    paths, html = write("s")
    names = ["leaderboard.json", "importance.svg", "parallel.svg", "curves.svg", "front.svg", "index.html"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in Path("s/results").iterdir()) == sorted(names)
    assert len(json.loads(paths[0].read_text())["trials"]) == 24
    page = Reader(html)
    assert len(page.named("tr")) > 24
    titles = [attributes["aria-label"] for attributes in page.named("svg")]
    assert titles.count("How they learned") == 2, "for a screen, and for a telephone"
    assert titles.count("Where the good ones lie") == 1


@pytest.mark.slow
def test_the_page_asks_for_nothing_beside_itself() -> None:
    synthetic.asha(Path("s"), 24, pictures=24)
    page = Reader(write("s")[1])
    assert {name for name, _ in page.elements} & {"link", "iframe", "object", "base", "form"} == set()
    for _, attributes in page.elements:
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
        assert "href" not in attributes
    assert not re.search(r"https?:|url\(|@import|fetch|localStorage", "".join(page.texts))
    assert "style" not in {name for _, attributes in page.elements for name in attributes}


def test_names_messages_and_settings_are_text_whatever_they_hold() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    writer = synthetic.Writer(Path("s"), name=evil, recipe=evil, space={evil: {"choice": [evil]}}, trials=2)
    writer.trial(0, {evil: evil})
    writer.segment(0, 300, [(300, {"val/score": 1.0})])
    writer.trial(1, {evil: evil})
    writer.row(op="end", trial=1, state="failed", step=0, message=f"</title><script>{evil}</script>")
    _, html = write("s")
    page = Reader(html)
    assert len(page.named("script")) == 1
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert evil in page.texts
    assert f"</title><script>{evil}</script>" in [a.get("title") for a in page.named("td")]


def test_trials_hang_side_by_side_with_the_cells_of_their_own_pictures() -> None:
    writer = synthetic.Writer(Path("s"), trials=3)
    for number in range(3):
        writer.trial(number, {"learning_rate": 10.0 ** -(3 + number)})
        writer.segment(number, 300, [(300, {"val/score": float(number)})])
        writer.run_folder(number, [0, 300], rows=2)
    (samples,) = gallery.step_samples(Path("s"), state.read(Path("s")), 12, 5_000_000)
    assert (samples.step, [trial.number for trial in samples.trials]) == (300, [2, 1, 0])
    side = synthetic.CELL
    for row in range(2):
        top = HEADER + row * side
        for trial, column in zip(samples.trials, samples.sr, strict=True):
            sheet = np.asarray(synthetic.sample(trial.number, 300, 2)).astype(int)
            wanted = sheet[top : top + side, 2 * side : 3 * side]
            assert np.abs(pixels(column[row]) - wanted).mean() < 8  # WebP keeps colour at half the resolution
        for name, place in (("bicubic", 1), ("HR", 3)):
            wanted = np.asarray(synthetic.sample(0, 300, 2)).astype(int)[top : top + side, place * side :][:, :side]
            assert np.abs(pixels(samples.references[name][row]) - wanted).mean() < 8


def test_a_step_is_shown_where_it_adds_a_trial() -> None:
    assert gallery.steps_to_show([{0, 300, 900, 2700}, {0, 300, 900}, {0, 300}, {0, 300}]) == [2700, 900, 300]
    assert gallery.steps_to_show([{0, 100, 200}, {0, 100, 200}]) == [200]
    assert gallery.steps_to_show([set(), {5}]) == [5]
    assert gallery.steps_to_show([]) == []


def test_missing_torn_and_strange_pictures_are_left_out() -> None:
    writer = synthetic.Writer(Path("s"), trials=5)
    for number in range(5):
        writer.trial(number, {"learning_rate": 10.0 ** -(3 + number)})
        writer.segment(number, 300, [(300, {"val/score": float(number)})])
        writer.run_folder(number, [300])
    torn = Path("s/trials/0003/samples/val/step_000000300.png")
    torn.write_bytes(torn.read_bytes()[:500])
    Path("s/trials/0002/run.json").unlink()
    Image.new("RGB", (200, 77)).save("s/trials/0001/samples/val/step_000000300.png")
    (samples,) = gallery.step_samples(Path("s"), state.read(Path("s")), 12, 5_000_000)
    assert [trial.number for trial in samples.trials] == [4, 2, 0]
    assert "trial 0, image 1, step 300" in write("s")[1]


@pytest.mark.parametrize("limit", [15_000, 6_000, 10])
def test_pictures_give_way_to_a_limit(limit: int) -> None:
    synthetic.asha(Path("s"), 12, pictures=12)
    sweep = state.read(Path("s"))
    free = gallery.step_samples(Path("s"), sweep, 12, 5_000_000)
    made = gallery.step_samples(Path("s"), sweep, 12, limit)
    took = sum(len(uri) for one in made for column in (*one.references.values(), *one.sr) for uri in column)
    assert took <= limit < sum(len(uri) for one in free for column in one.sr for uri in column)
    assert bool(made) == (limit > 10)


@pytest.mark.slow
def test_a_page_of_200_trials_stays_below_8_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CELL", 128)
    writer = synthetic.asha(Path("s"), 200, objective=["val/psnr_y", "val/perceptual"], mode=["max", "min"])
    random = np.random.default_rng(0)
    sweep = state.read(Path("s"))
    for trial in sweep.ranking()[:12]:
        folder = writer.run_folder(trial.number, [trial.step], rows=4)
        noise = random.integers(0, 256, (HEADER + 4 * 128, 4 * 128, 3), dtype=np.uint8)  # what compresses worst
        Image.fromarray(noise).save(folder.samples / "val" / f"step_{trial.step:09d}.png")
    paths, html = write("s")
    assert "image 4" in html
    assert 1_000_000 < paths[-1].stat().st_size < 8_000_000


@pytest.mark.parametrize("trials", [0, 1])
def test_a_sweep_that_has_just_begun_has_a_page(trials: int) -> None:
    writer = synthetic.Writer(Path("s"))
    writer.trial(0, {"learning_rate": 1e-3})
    writer.row(op="start", trial=0, until=300)
    if trials:
        writer.segment(0, 300, [(300, {"val/score": 1.0})])
    paths, html = write("s")
    page = Reader(html)
    assert ("curves.svg" in [path.name for path in paths]) == bool(trials)
    assert f"too few trials: {trials} of at least 8" in page.texts
    assert ("No trial has been evaluated yet." in page.texts) != bool(trials)


def test_a_sweep_without_any_trial_has_a_page() -> None:
    synthetic.Writer(Path("s"))
    assert [path.name for path in write("s")[0]] == ["leaderboard.json", "index.html"]


def test_values_that_are_not_finite_do_not_break_the_page() -> None:
    writer = synthetic.Writer(Path("s"), trials=2)
    writer.trial(0, {"learning_rate": 1e-3})
    writer.segment(0, 300, [(300, {"val/score": 1.0, "val/psnr_y": float("inf")})])
    writer.trial(1, {"learning_rate": 1e-4})
    writer.segment(1, 300, [(300, {"val/score": float("nan"), "val/psnr_y": float("nan"), "val/lpips": 0.2})])
    paths, _ = write("s")
    assert json.loads(paths[0].read_text())["trials"][0]["psnr_y"] is None


@pytest.mark.slow
def test_pictures_of_an_earlier_state_are_not_left_beside_the_page() -> None:
    synthetic.asha(Path("s"), 12)
    Path("s/results").mkdir()
    for name in ("schedules.svg", "curves.png"):  # version 0.1.0 wrote PNG
        Path("s/results", name).write_bytes(b"old")
    Path("s/results/mine.txt").write_text("kept")
    write("s")
    assert not Path("s/results/schedules.svg").exists()
    assert not Path("s/results/curves.png").exists()
    assert Path("s/results/mine.txt").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named() -> None:
    synthetic.asha(Path("s"), 2)
    Path("s/results").write_text("a file")
    with pytest.raises(DiskError, match=r"s/results/leaderboard.json can't be written"):
        write("s")


@pytest.mark.slow
def test_copies_are_drawn_and_told() -> None:
    synthetic.pbt(Path("s"))
    paths, html = write("s")
    assert "schedules.svg" in [path.name for path in paths]
    assert "copied better trials" in html


def winner(first: dict[str, object], recipe: str, scores: tuple[float, float]) -> list[str]:
    second: dict[str, object] = {"learning_rate": 1e-5}
    writer = synthetic.Writer(Path("s"), trials=2, recipe=recipe, space={"learning_rate": {"loguniform": [1e-6, 1]}})
    for number, (params, score) in enumerate(zip((first, second), scores, strict=True)):
        writer.trial(number, dict(params))
        writer.segment(number, 300, [(300, {"val/score": score, "val/psnr_y": 25 + score, "val/ssim_y": 0.75})])
    writer.run_folder(1, [300])
    sweep = state.read(Path("s"))
    return headline.sentences(sweep, {"val/psnr_y": 25.0, "val/ssim_y": 0.7})


def test_the_headline_says_who_leads_and_by_how_much() -> None:
    assert winner({"learning_rate": 0.5}, "srgan_gp", (1.0, 1.5)) == [
        "Trial 1 leads at step 300: score 1.500, PSNR-Y 26.50 dB.",
        "Against trial 0: score +0.500 at step 300.",
        "Against bicubic: PSNR-Y +1.50 dB (bicubic: 25.00 dB), SSIM-Y +0.0500 (bicubic: 0.7000).",
    ]


def test_the_headline_knows_the_recipes_own_settings() -> None:
    published = recipes.load("srgan_gp").Config().learning_rate
    found = winner({"learning_rate": published}, "srgan_gp", (1.0, 1.5))
    assert "Against trial 0, the recipe's own settings: score +0.500 at step 300." in found


def test_a_recipe_of_somebody_else_has_no_known_settings_of_its_own() -> None:
    assert "Against trial 0: score +0.500 at step 300." in winner({"learning_rate": 1.0}, "theirs", (1.0, 1.5))


def test_the_headline_says_when_nothing_beat_trial_0() -> None:
    assert "No other trial beats trial 0." in winner({"learning_rate": 0.5}, "srgan_gp", (1.5, 1.0))


def test_trials_are_compared_at_the_last_step_that_both_reached() -> None:
    writer = synthetic.Writer(Path("s"), trials=2)
    for number, steps in ((0, [300]), (1, [300, 900])):
        writer.trial(number, {"learning_rate": 0.5})
        writer.segment(number, 900, [(step, {"val/score": number + step / 1000}) for step in steps])
    found = headline.sentences(state.read(Path("s")), {})
    assert "Against trial 0: score +1.000 at step 300, the last that both reached." in found


@pytest.mark.slow
def test_the_verb_writes_the_page_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.asha(Path("runs/mine"), 12, pictures=4)
    with pytest.raises(SystemExit) as end:
        cli.main(["leaderboard", "mine", "--page", "--json"])
    assert not end.value.code
    written = json.loads(capsys.readouterr().out)["written"]
    assert written[-1] == "runs/mine/results/index.html"
    assert all(Path(path).is_file() for path in written)


@pytest.mark.browser
def test_a_browser_sorts_filters_changes_step_and_enlarges(browser: Any) -> None:
    synthetic.asha(Path("s"), 24, pictures=24)
    sweep = state.read(Path("s"))
    write("s")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(Path("s/results/index.html").resolve().as_uri())

    def trials() -> list[str]:
        return list(page.locator("#board tbody tr:visible td:nth-child(2)").all_inner_texts())

    assert trials()[0] == str(best.number if (best := sweep.best()) else None)
    numbers = [str(number) for number in range(24)]
    for expected in (numbers, numbers[::-1]):
        page.locator("#board th:nth-child(2) button").click()
        assert trials() == expected
    page.locator(".filters [data-state=diverged]").click()
    assert set(trials()) == {str(trial.number) for trial in sweep.trials if trial.state == "diverged"}
    page.locator(".steps [data-step='300']").click()
    assert [step.get_attribute("data-step") for step in page.locator(".at-step:visible").all()] == ["300"]
    page.locator(".at-step:visible tr:first-child td:nth-child(4) button").click()
    second, third = (trial.number for trial in sweep.ranking()[1:3])
    shown = page.locator("#zoom figcaption")
    assert shown.all_inner_texts() == [f"{name}, image 1, step 300" for name in ("bicubic", f"trial {second}", "HR")]
    page.keyboard.press("ArrowRight")
    assert shown.nth(1).inner_text() == f"trial {third}, image 1, step 300"
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert complaints == []
    page.close()
