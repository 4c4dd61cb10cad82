"""The HTTP service in this process: formats, limits, every error, and a change of model."""

import asyncio
import io
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import outside_recipe
from asgi import Answer, acall, call
from sisr import recipes
from sisr.errors import CheckpointError
from sisr.inference.enlarge import enlarge
from sisr.models.files import CONFIG, WEIGHTS, save_model, save_one_file
from sisr.models.model import load_model
from sisr.serving import opening
from sisr.serving.app import build
from sisr.serving.engine import Engine
from sisr.serving.limits import Limits, Refusal
from sisr.serving.pace import Pace
from sisr.serving.request import choose
from tiny_model import save

CPU = torch.device("cpu")
LIMITS = Limits(max_bytes=100_000, max_pixels=4_000, queue=2, time_s=30, body_s=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def release(folder):
    return opening.read(folder, "tiny", "7")


@pytest.fixture(scope="module")
def engine(release):
    return Engine(release, CPU, LIMITS)


@pytest.fixture(scope="module")
def app(engine):
    return build(engine)


def file(picture: Image.Image, format_: str = "PNG", **options) -> bytes:
    written = io.BytesIO()
    picture.save(written, format_, **options)
    return written.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


def opened(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body))


PICTURE = file(noise(13, 9))


def test_a_picture_sent_as_body_or_form_comes_back_enlarged_as_upscale_does(app, folder, tmp_path):
    (tmp_path / "in.png").write_bytes(PICTURE)
    enlarge(load_model(folder).generator, tmp_path / "in.png", tmp_path / "out.png")
    expected = np.asarray(Image.open(tmp_path / "out.png"))
    answer = call(app, "POST", "/upscale", PICTURE)
    assert answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(opened(answer)), expected)
    form = b'--x\r\nContent-Disposition: form-data; name="any"; filename="a.png"\r\n\r\n' + PICTURE + b"\r\n--x--\r\n"
    answer = call(app, "POST", "/upscale", form, content_type="multipart/form-data; boundary=x")
    np.testing.assert_array_equal(np.asarray(opened(answer)), expected)


def test_the_answer_names_the_model_its_version_and_scale(app, engine):
    headers = call(app, "POST", "/upscale", PICTURE).headers
    assert (headers["sisr-model"], headers["sisr-version"]) == ("tiny", "7")
    assert int(headers["sisr-scale"]) == engine.serving.model.scale


@pytest.mark.parametrize(
    ("target", "accept", "expected"),
    [
        ("/upscale?format=webp", "image/png", "WEBP"),
        ("/upscale?format=jpeg&quality=40", "*/*", "JPEG"),
        ("/upscale", "image/webp", "WEBP"),
        ("/upscale", "text/html,image/*;q=0.8", "PNG"),
    ],
)
def test_format_decides_before_accept(app, target, accept, expected):
    assert opened(call(app, "POST", target, PICTURE, accept=accept)).format == expected


@pytest.mark.parametrize(
    ("accept", "suffix"),
    [
        (None, ".png"),
        ("image/jpeg;q=0.9,image/webp;q=0.95", ".webp"),
        ("image/*;q=0.1,image/jpeg", ".jpg"),
        ("image/png;q=0,*/*", ".webp"),
        ("IMAGE/JPEG", ".jpg"),
    ],
)
def test_accept_is_weighed_as_http_says(accept, suffix):
    assert choose(None, accept) == suffix


def test_lower_quality_makes_smaller_files(app):
    sizes = [len(call(app, "POST", f"/upscale?format=jpg&quality={q}", PICTURE).body) for q in (20, 95)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_and_transparent_pictures_keep_their_channels(app, mode):
    assert opened(call(app, "POST", "/upscale", file(noise(9, 7, mode)))).mode == mode


def test_exif_orientation_is_applied(app, engine):
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = call(app, "POST", "/upscale", file(noise(12, 8), "JPEG", exif=exif))
    assert opened(answer).size == (8 * engine.serving.model.scale, 12 * engine.serving.model.scale)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(file(noise(8, 8).convert("P")), id="palette"),
        pytest.param(file(noise(8, 8, "CMYK"), "JPEG"), id="CMYK"),
        pytest.param(file(Image.fromarray(np.full((8, 8), 40_000, np.uint16))), id="16 bits"),
        pytest.param(file(noise(8, 8), "TIFF"), id="TIFF"),
        pytest.param(file(noise(1, 1)), id="one pixel"),
    ],
)
def test_unusual_pictures_are_enlarged(app, engine, picture):
    answer = opened(call(app, "POST", "/upscale", picture))
    assert answer.width == Image.open(io.BytesIO(picture)).width * engine.serving.model.scale


def bomb() -> bytes:
    """A small PNG that claims, and holds, 400 megapixels."""
    rows = zlib.compress(b"\0" * (20_000 // 8 + 1) * 20_000, 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") * 2 + b"\1\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def frames(format_: str) -> bytes:
    return file(noise(8, 8), format_, save_all=True, append_images=[Image.new("RGB", (8, 8))])


REFUSED = {
    "a text": (b"hello", 415, "not an image"),
    "an animated GIF": (frames("GIF"), 415, "unsupported format"),
    "an animated WebP": (frames("WEBP"), 422, "several frames"),
    "half a picture": (PICTURE[: len(PICTURE) // 2], 422, "truncated"),
    "32 bits": (file(Image.new("F", (8, 8)), "TIFF"), 422, "unsupported depth"),
    "nothing": (b"", 422, "empty file"),
    "too many pixels": (file(Image.new("L", (100, 41))), 413, "too many pixels"),
    "a bomb": (bomb(), 413, "too many pixels"),
    "too many bytes": (bytes(100_001), 413, "too many bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_used_is_refused_in_json(app, name):
    body, status, error = REFUSED[name]
    answer = call(app, "POST", "/upscale", body)
    assert answer.status == status
    found = answer.json()
    assert found["error"] == error
    assert found["detail"]
    limits = {"too many pixels": {"max_pixels": 4_000}, "too many bytes": {"max_bytes": 100_000}}
    assert found["limit"] == limits.get(error)


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/upscale", {}, 405),
        ("POST", "/upscale", {"accept": "application/json"}, 406),
        ("POST", "/upscale?format=gif", {}, 422),
        ("POST", "/upscale?quality=0", {}, 422),
        ("POST", "/upscale?fromat=webp", {}, 422),
        ("POST", "/upscale", {"content_type": "multipart/form-data"}, 422),
        ("POST", "/upscale", {"content_type": "multipart/form-data; boundary=y"}, 422),
    ],
)
def test_a_wrong_request_is_answered_in_json(app, method, target, headers, status):
    answer = call(app, method, target, PICTURE, **headers)
    assert answer.status == status
    assert set(answer.json()) == {"error", "detail", "limit"}


def test_jpeg_is_refused_for_a_transparent_picture(app):
    answer = call(app, "POST", "/upscale?format=jpg", file(noise(8, 8, "RGBA")))
    assert answer.status == 422
    assert "transparency" in answer.json()["detail"]


def test_a_body_that_is_announced_too_large_is_not_read(app):
    answer = call(app, "POST", "/upscale", [bytes(50_000)] * 4, content_length="200000")
    assert (answer.status, answer.taken) == (413, 0)


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=x"])
def test_a_body_of_unknown_length_is_read_up_to_the_limit_only(app, content_type):
    start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    answer = call(app, "POST", "/upscale", [start, *[bytes(30_000)] * 50], content_type=content_type)
    assert answer.status == 413
    assert answer.taken <= 100_000 + 30_000


def test_a_body_that_does_not_arrive_is_given_up(app):
    async def stalled():
        yield PICTURE[:10]
        await asyncio.Event().wait()

    answer = call(app, "POST", "/upscale", stalled())
    assert answer.status == 408
    assert answer.json()["limit"] == {"body_s": 0.2}


class Gate(torch.nn.Module):
    """A layer that waits until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = threading.Event(), threading.Event()

    def forward(self, x):
        self.reached.set()
        assert self.open.wait(30)
        return x


@pytest.fixture
def gated(release):
    """Return an engine for one picture at a time, with a gate before its generator."""
    from sisr.serving.interruption import make_interruptible

    engine = Engine(release, CPU, LIMITS)
    gate = Gate()
    generator = engine.serving.model.generator
    generator.register_forward_pre_hook(lambda module, args: (gate(args[0]),))
    make_interruptible(generator)  # a check after the gate, too
    yield engine, gate
    gate.open.set()


async def reached(gate):
    await asyncio.to_thread(gate.reached.wait, 30)


def test_the_queue_s_end_is_answered_with_503_and_when_to_come_back(gated):
    engine, gate = gated
    app = build(engine)

    async def story():
        first = [asyncio.ensure_future(acall(app, "POST", "/upscale", PICTURE)) for _ in range(3)]
        await reached(gate)
        ready, health = await acall(app, "GET", "/ready"), await acall(app, "GET", "/health")
        refused = await acall(app, "POST", "/upscale", PICTURE)
        gate.open.set()
        return await asyncio.gather(*first), refused, ready, health

    first, refused, ready, health = asyncio.run(story())
    assert [answer.status for answer in first] == [200] * 3
    assert (refused.status, refused.taken) == (503, 0)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["limit"] == {"queue": 2}
    assert (ready.status, ready.json()["ready"], ready.json()["waiting"]) == (503, False, 2)
    assert health.status == 200


def test_a_picture_that_takes_too_long_is_answered_with_504_and_one_that_waits_with_503(release):
    engine = Engine(release, CPU, Limits(time_s=0.2))
    gate = Gate()
    engine.serving.model.generator.register_forward_pre_hook(lambda module, args: (gate(args[0]),))
    app = build(engine)

    async def story():
        first = asyncio.ensure_future(acall(app, "POST", "/upscale", PICTURE))
        await reached(gate)
        answers = await asyncio.gather(first, acall(app, "POST", "/upscale", PICTURE))
        gate.open.set()
        return answers

    slow, waiting = asyncio.run(story())
    assert (slow.status, slow.json()["limit"]) == (504, {"time_s": 0.2})
    assert waiting.status == 503
    assert "retry-after" in waiting.headers
    assert call(app, "POST", "/upscale", PICTURE).status == 200


def test_what_would_not_be_done_in_time_is_refused_at_once_with_the_size_that_would(release):
    engine = Engine(release, CPU, Limits(time_s=10))
    engine.serving = replace(engine.serving, pace=Pace(0.01))
    app = build(engine)
    refused, taken = (call(app, "POST", "/upscale", file(noise(*size))) for size in ((40, 30), (20, 30)))
    assert (refused.status, refused.json()["limit"]) == (413, {"max_pixels": 800, "time_s": 10})
    assert "would take about 12 s" in refused.json()["detail"]
    assert taken.status == 200
    assert call(app, "GET", "/ready").json()["limits"]["max_pixels"] == 800


def test_the_pace_follows_what_pictures_really_take():
    pace = Pace(1e-6)
    for _ in range(50):
        pace.took(100_000, 2.0)
    pace.took(10, 60.0)  # too small to say anything
    assert pace.seconds(100_000) == pytest.approx(2.0, rel=1e-3)
    assert pace.most_pixels(100) == pytest.approx(0.8 * 100 / 2e-5, rel=1e-3)


def test_work_that_nobody_waits_for_ends_at_the_next_layer(gated):
    engine, gate = gated
    ended = threading.Event()
    layers = list(engine.serving.model.generator.modules())
    layers[-1].register_forward_hook(lambda *_: ended.set())
    app = build(engine)

    async def story():
        request = asyncio.ensure_future(acall(app, "POST", "/upscale", PICTURE))
        await reached(gate)
        request.cancel()  # what a server does when its client has gone
        with pytest.raises(asyncio.CancelledError):
            await request
        gate.open.set()
        gate.reached.clear()
        return await acall(app, "GET", "/ready")

    assert asyncio.run(story()).json()["waiting"] == 0
    engine._pool.submit(lambda: None).result(30)  # the thread is free again
    assert not ended.is_set()


def test_another_release_takes_over_between_two_requests(release, tmp_path):
    engine = Engine(release, CPU, LIMITS)
    app = build(engine)
    before = call(app, "POST", "/upscale", PICTURE)
    engine.replace(opening.read(save(tmp_path / "other", seed=1), "tiny", "8"))
    after = call(app, "POST", "/upscale", PICTURE)
    assert (before.headers["sisr-version"], after.headers["sisr-version"]) == ("7", "8")
    assert before.body != after.body


def broken(folder: Path, how: str) -> Path:
    save(folder, weight=float("nan") if how == "nan" else None)
    weights = folder / WEIGHTS
    if how == "cut off":
        weights.write_bytes(weights.read_bytes()[:-50])
    if how == "config":
        (folder / CONFIG).write_text("{")
    return folder


@pytest.mark.parametrize(("how", "reason"), [("nan", "finite"), ("cut off", "safetensors"), ("config", "config.json")])
def test_a_release_that_does_not_work_is_refused_and_the_old_one_goes_on(release, tmp_path, how, reason):
    engine = Engine(release, CPU, LIMITS)
    with pytest.raises(CheckpointError, match=reason):
        engine.replace(opening.read(broken(tmp_path / "broken", how), "tiny", "8"))
    assert call(build(engine), "POST", "/upscale", PICTURE).headers["sisr-version"] == "7"


def test_a_model_s_own_code_runs_in_replicas_only_after_its_user_has_allowed_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SISR_CACHE", str(tmp_path / "cache"))  # nothing is trusted there
    source = recipes.find(str(outside_recipe.write(tmp_path / "mine")))
    module = recipes.load(source.name, source.text)
    config = module.tiny()
    meta = {"recipe": source.name, "recipe_source": source.text, "config": config.model_dump(), "scale": 4}
    save_model(tmp_path / "model", module.generator(config), meta)
    found = opening.read(tmp_path / "model", "espcn")
    with pytest.raises(CheckpointError, match="--recipe"):
        opening.open_release(found, CPU, [])
    assert opening.open_release(found, CPU, [str(tmp_path / "mine" / "espcn.py")]).scale == 4
    assert opening.open_release(found, CPU).scale == 4  # in a replica, where it comes from who has allowed it


def test_a_weights_file_alone_is_served(tmp_path):
    model = load_model(save(tmp_path / "model"))
    save_one_file(tmp_path / "alone.safetensors", model.generator, model.meta)
    found = opening.read(tmp_path / "alone.safetensors", "alone")
    assert opening.open_release(found, CPU, []).scale == model.scale


def test_our_own_mistake_is_answered_in_json_and_the_service_goes_on(release, monkeypatch):
    engine = Engine(release, CPU, LIMITS)
    app = build(engine)

    def fail(*_, **__):
        raise KeyError("oops")

    with monkeypatch.context() as patch:
        patch.setattr("sisr.serving.engine.enlarge_bytes", fail)
        with pytest.raises(KeyError):  # after the answer it goes to the server's log
            call(app, "POST", "/upscale", PICTURE)
    assert call(app, "POST", "/upscale", PICTURE).status == 200


def test_the_description_names_every_answer_and_header(app):
    found = call(app, "GET", "/openapi.json").json()
    operation = found["paths"]["/upscale"]["post"]
    assert set(operation["responses"]) == {"200", "403", "406", "408", "413", "415", "422", "503", "504"}
    assert set(operation["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
    assert {"Sisr-Model", "Sisr-Version", "Sisr-Scale"} <= set(operation["responses"]["200"]["headers"])
    assert {"/upscale", "/health", "/ready"} == set(found["paths"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_needs_nothing_from_elsewhere(app, path):
    answer = call(app, "GET", path)
    html = answer.body.decode()
    assert answer.status == 200
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_refusals_carry_their_own_headers():
    assert Refusal(503, "busy", "later", retry_after_s=3).headers == {"Retry-After": "3"}  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:80", "192.168.7.3:80", "Photos.Example:443"])
def test_the_service_answers_to_its_own_names(engine, host):
    assert call(build(engine, ["photos.example"]), "GET", "/health", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[", "127.0.0.1.nip.io"]
)
@pytest.mark.parametrize("target", ["/health", "/", "/openapi.json"])
def test_a_name_that_points_here_by_dns_alone_is_refused(app, host, target):
    answer = call(app, "GET", target, host=host)
    assert answer.status == 403
    assert "--allowed-hosts" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:3000", 200),
        ("https://photos.example", 200),
        ("https://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_a_page_from_elsewhere_makes_nothing_compute(engine, origin, status):
    app = build(engine, ["photos.example"])
    answer = call(app, "POST", "/upscale", PICTURE, host="127.0.0.1:8000", origin=origin)
    assert answer.status == status
    assert answer.taken == (len(PICTURE) if status == 200 else 0)


@pytest.mark.parametrize("target", ["/", "/docs", "/health", "/ready", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(app, target):
    head, get = call(app, "HEAD", target), call(app, "GET", target)
    assert (head.status, head.body) == (200, b"")
    assert head.headers == get.headers


def test_slow_bodies_hold_no_place(release):
    engine = Engine(release, CPU, Limits(queue=0, body_s=30))
    app = build(engine)

    async def story():
        stop = asyncio.Event()

        async def stalled():
            yield PICTURE[:10]
            await stop.wait()
            yield PICTURE[10:]

        slow = [asyncio.ensure_future(acall(app, "POST", "/upscale", stalled())) for _ in range(80)]
        await asyncio.sleep(0)
        quick = await acall(app, "POST", "/upscale", PICTURE)
        for request in slow:
            request.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return quick

    assert asyncio.run(story()).status == 200


def test_so_many_bodies_arrive_at_once_and_no_more(release):
    app = build(Engine(release, CPU, Limits(receiving=1)))

    async def story():
        stop = asyncio.Event()

        async def stalled():
            await stop.wait()
            yield PICTURE

        slow = asyncio.ensure_future(acall(app, "POST", "/upscale", stalled()))
        await asyncio.sleep(0)
        refused = await acall(app, "POST", "/upscale", PICTURE)
        stop.set()
        return await slow, refused

    slow, refused = asyncio.run(story())
    assert slow.status == 200
    assert (refused.status, refused.json()["limit"]) == (503, {"receiving": 1})
