"""MLflow's own pages, in a real browser, on what training and registering have recorded: do they answer questions?"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sisr.terminal import cli
from sisr.tracking import views
from trained_runs import QUALITY, Place

pytestmark = [pytest.mark.mlflow, pytest.mark.browser]

PATIENCE_MS = 60_000  # the page is a large program, and the machine may be busy


@pytest.fixture(scope="module")
def client(place: Place) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(place.url, registry_uri=place.url)


@pytest.fixture(scope="module")
def links(client: Any, place: Place) -> Iterator[dict[str, str]]:
    """Where `sisr ui` sends people, after one of the runs was registered."""
    words = ["register", "better", "--data", place.images, "--model-name", "seen", "--runs", place.runs]
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, words), "--tracking-uri", place.url])
    assert not end.value.code
    yield dict(views.links(client, place.url))
    client.delete_registered_model("seen")  # others look for the only one there is


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[str], Any]]:
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)

    def opened(url: str) -> Any:
        page = context.new_page()
        page.goto(url)
        return page

    yield opened
    context.close()


def ids(client: Any) -> tuple[str, dict[str, str]]:
    """The experiment's id, and the runs' by name."""
    experiment = client.get_experiment_by_name("boards")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return str(experiment.experiment_id), {str(r.info.run_name): str(r.info.run_id) for r in found}


def test_the_table_of_runs_opens_with_the_best_first_and_its_quality_beside_it(client, links, open_page):
    _, runs = ids(client)
    page = open_page(links["runs of boards"])
    page.set_viewport_size({"width": 2400, "height": 1000})  # what is out of sight is not drawn
    for name in QUALITY:
        page.get_by_role("link", name=name, exact=True).wait_for()
    page.get_by_text("finished at step").first.wait_for()
    shown = page.inner_text("body")
    assert shown.index("better") < shown.index("worse")
    for column in ("val/psnr_y", "val/ssim_y", "finished at step", "learning_rate"):
        assert column in shown
    best = client.get_run(runs["better"]).data.metrics["val/psnr_y"]
    assert f"{best:.2f}"[:-1] in shown


def test_two_selected_runs_are_compared_by_settings_and_metrics(place, client, links, open_page):
    _, runs = ids(client)
    page = open_page(links["runs of boards"])
    page.get_by_role("link", name="better", exact=True).wait_for()
    for name in QUALITY:
        page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True)).get_by_role(
            "checkbox"
        ).first.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile("compare-runs"))
    page.get_by_text("val/psnr_y").first.wait_for()
    shown = page.inner_text("body")
    for run_id in runs.values():
        assert run_id in shown
    for setting in ("steps", *(str(steps) for steps in QUALITY.values())):
        assert setting in shown


def test_a_run_s_sample_pictures_are_shown_by_step(place, client, open_page):
    from playwright.sync_api import expect

    experiment, runs = ids(client)
    page = open_page(f"{place.url}/#/experiments/{experiment}/runs/{runs['better']}/model-metrics")
    page.set_viewport_size({"width": 1500, "height": 5000})  # what is out of sight is not drawn
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="val/samples")
    slider, picture = card.get_by_role("slider"), card.locator("img").first
    picture.wait_for()
    for key, step in (("Home", 0), ("ArrowRight", 50), ("ArrowRight", 100)):
        slider.press(key)
        expect(slider).to_have_attribute("aria-valuenow", str(step), timeout=PATIENCE_MS)
        expect(picture).to_have_attribute("src", re.compile(f"step%2B{step}%2B"), timeout=PATIENCE_MS)
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())


def test_the_registered_model_s_pages_name_the_champion_and_show_its_card(place, links, open_page):
    page = open_page(links["registered models"])
    page.get_by_role("button", name="Try it now").click()  # MLflow greets whoever comes for the first time
    page.get_by_role("link", name="seen", exact=True).click()
    page.get_by_text("champion").first.wait_for()
    page.goto(f"{place.url}/#/models/seen/versions/1")
    page.get_by_role("heading", name="seen: 2x super-resolution by recipe pixelshuffle").wait_for()
    shown = page.inner_text("body")
    assert "champion" in shown
    assert "bicubic: passed; better: psnr_y" in shown
    picture = page.get_by_role("img").and_(page.locator("img[src^='data:'], img[src*='artifact']")).first
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
