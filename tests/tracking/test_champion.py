"""Aliases of a registered model: one champion and the one before it, whoever registers at the same time or dies."""

import threading
import time

import pytest

from forks import forkserver
from sisr.errors import ConfigError
from sisr.tracking import address

pytestmark = pytest.mark.mlflow

HANGS_S = 240


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database, that of the whole process as in `selection.asking`; creating one takes seconds."""
    uri = address.default_uri(tmp_path_factory.mktemp("champion"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture(scope="module")
def client(store):
    from mlflow import MlflowClient

    return MlflowClient(store, registry_uri=store)


@pytest.fixture(scope="module")
def model_id(client):
    return client.finalize_logged_model(client.create_logged_model("0").model_id, "READY").model_id


@pytest.fixture
def entry(model_id):
    from sisr.tracking.champion import Entry

    run_id = None  # the aliases don't depend on it
    return lambda name: Entry(name, model_id, run_id, "a card", {"sisr.recipe": "none"})


def aliases(client, name):
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_the_first_version_has_no_predecessor(client, entry):
    from sisr.tracking import champion

    version = champion.promote(client, entry("first"), None)
    assert version is not None
    found = client.get_model_version("first", version.version)
    assert (found.description, found.tags[champion.STATE]) == ("a card", "promoted")
    assert aliases(client, "first") == {"champion": "1"}


def test_who_was_compared_with_another_champion_changes_nothing(client, entry):
    from sisr.tracking import champion

    champion.promote(client, entry("changed"), None)
    assert champion.promote(client, entry("changed"), None) is None
    assert aliases(client, "changed") == {"champion": "1"}
    assert [str(v.version) for v in client.search_model_versions("name = 'changed'")] == ["1"]


def test_a_candidate_whose_process_died_is_passed_over(client, entry, monkeypatch):
    from sisr.tracking import champion

    monkeypatch.setattr(champion, "PATIENCE_S", 0.5)
    client.create_registered_model("dead")
    client.create_model_version("dead", f"models:/{entry('dead').model_id}", tags={champion.STATE: "candidate"})
    assert champion.promote(client, entry("dead"), None) is not None
    assert aliases(client, "dead") == {"champion": "2"}
    assert client.get_model_version("dead", "1").tags[champion.STATE] == "abandoned"


def test_a_candidate_in_front_goes_first(client, entry):
    from sisr.tracking import champion

    client.create_registered_model("queue")
    client.create_model_version("queue", f"models:/{entry('queue').model_id}", tags={champion.STATE: "candidate"})

    def decide():
        time.sleep(1)
        client.set_registered_model_alias("queue", "champion", "1")
        client.set_model_version_tag("queue", "1", champion.STATE, "promoted")

    thread = threading.Thread(target=decide)
    thread.start()
    assert champion.promote(client, entry("queue"), None) is None  # it was not compared with version 1
    thread.join()
    assert aliases(client, "queue") == {"champion": "1"}


def test_a_crash_before_the_champion_changes_leaves_it_in_use_and_the_same_command_goes_on(client, entry, monkeypatch):
    from sisr.tracking import champion

    champion.promote(client, entry("crash"), None)
    real = client.set_registered_model_alias

    def dies(name, alias, version):
        if alias == champion.CHAMPION:
            raise KeyboardInterrupt
        real(name, alias, version)

    monkeypatch.setattr(client, "set_registered_model_alias", dies)
    with pytest.raises(KeyboardInterrupt):
        champion.promote(client, entry("crash"), "1")
    monkeypatch.undo()
    monkeypatch.setattr(champion, "PATIENCE_S", 0.5)
    assert aliases(client, "crash") == {"champion": "1", "previous": "1"}
    with pytest.raises(ConfigError, match="no version was champion before"):
        champion.roll_back(client, "crash")
    assert champion.promote(client, entry("crash"), "1") is not None
    assert aliases(client, "crash") == {"champion": "3", "previous": "1"}


def test_a_rollback_swaps_and_swaps_back(client, entry):
    from sisr.tracking import champion

    for against in (None, "1", "2"):
        champion.promote(client, entry("swap"), against)
    assert champion.roll_back(client, "swap") == ("2", "3")
    assert aliases(client, "swap") == {"champion": "2", "previous": "3"}
    assert champion.roll_back(client, "swap") == ("3", "2")


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "x" * 65, ".x"])
def test_a_name_that_can_not_be_part_of_an_address_is_refused(name):
    from sisr.tracking.champion import check_name

    with pytest.raises(ConfigError, match="--model-name"):
        check_name(name)


def race(store, model_id, gate, done):
    """Promote four times, each time against the champion that was seen before."""
    import mlflow

    from sisr.tracking import champion

    mlflow.set_tracking_uri(store)  # as `selection.asking` does: MLflow looks models up in its default store
    client = mlflow.MlflowClient(store, registry_uri=store)
    gate.wait()
    promoted: list[tuple[str, str | None]] = []
    while len(promoted) < 4:
        present = champion.holder(client, "race")
        against = present and str(present.version)
        version = champion.promote(client, champion.Entry("race", model_id, None, "", {}), against)
        if version is not None:
            promoted.append((version.version, against))
    done.put(promoted)


@pytest.mark.slow
def test_two_processes_that_register_at_once_take_turns(client, store, model_id):
    """Every promotion took the place of exactly the champion that it was compared with: the results form one chain."""
    processes = forkserver()
    gate, done = processes.Barrier(2), processes.Queue()
    racers = [processes.Process(target=race, args=(store, model_id, gate, done), daemon=True) for _ in range(2)]
    for racer in racers:
        racer.start()
    found = [pair for _ in racers for pair in done.get(timeout=HANGS_S)]
    for racer in racers:
        racer.join()
    chain = sorted((int(version), against and int(against)) for version, against in found)
    versions = [version for version, _ in chain]
    assert [against for _, against in chain] == [None, *versions[:-1]]
    assert aliases(client, "race") == {"champion": str(versions[-1]), "previous": str(versions[-2])}
