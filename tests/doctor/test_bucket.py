"""What `sisr doctor s3://...` says of a place for runs, over sockets."""

import json
from typing import Any

import pytest

from object_storage import Wire
from sisr.doctor import bucket
from sisr.storage.bucket import Bucket
from sisr.terminal import cli

pytestmark = pytest.mark.slow


def test_a_place_that_will_do_is_said_to_be_so_and_left_empty(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", wire.address().written, "--json"])
    assert not end.value.code
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert list(found) == ["bucket", "permissions", "speed", "conditional writes", "versions"]
    assert {one["level"] for name, one in found.items() if name != "speed"} == {"ok"}
    assert [*Bucket(wire.address("")).names()] == []


def test_a_server_that_ignores_conditions_is_an_error(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Bucket.call

    def unconditionally(self: Bucket, doing: str, operation: str, **options: Any) -> Any:
        for condition in ("IfNoneMatch", "IfMatch"):
            options.pop(condition, None)
        return ask(self, doing, operation, **options)

    monkeypatch.setattr(Bucket, "call", unconditionally)
    (wrong,) = [one for one in bucket.examine(wire.address().written) if one.level == "error"]
    assert (wrong.what, wrong.found) == ("conditional writes", "If-None-Match: * and If-Match: ignored")


def test_versions_that_are_kept_and_refused_rights_are_named(wire: Wire) -> None:
    place = Bucket(wire.address(""))
    place.call("keep versions", "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    try:
        assert [one.what for one in bucket.examine(wire.address().written) if one.level == "warning"] == ["versions"]
    finally:
        place.call("keep none", "put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"})
    wire.fault, wire.only = "forbidden", "PUT"
    (*_, wrong) = bucket.examine(wire.address().written)
    assert wrong.found.endswith("access denied (AccessDenied)")
    assert wrong.remedy == "allow s3:GetObject, PutObject, DeleteObject and ListBucket"


def test_a_bucket_that_is_not_there_is_to_be_created(wire: Wire) -> None:
    (wrong,) = bucket.examine(wire.address().written.replace(wire.address().bucket, "nowhere", 1))
    assert ("no bucket nowhere" in wrong.found, wrong.remedy.partition(",")[0]) == (True, "create it")
