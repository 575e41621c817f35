"""The report as a file: what it holds, that it needs nothing else, and that text never becomes markup."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.report.comparison import choose_crops
from ldip_jax.report.content import Crop, KeyFrame, Method, Reference
from ldip_jax.report.page import write_report

HOSTILE = "<script>alert(1)</script> </SCRIPT><!-- & \"quoted\" 'single' $title ${body} %s \u2028 ü"


class Reader(HTMLParser):
    """Elements with their attributes, the text outside scripts and styles, and the page's data."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text, self.data, self.open = [], "", "", []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "script" in self.open:
            self.data = self.data or text
        elif "style" not in self.open:
            self.text += text

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def decode(url):
    kind, content = re.fullmatch(r"data:image/(jpeg|png);base64,(.+)", url).groups()
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format.lower() == kind
    return np.asarray(image)


def video(rng, frames=3, h=48, w=64):
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for _ in range(frames)]


def names(frames):
    return [f"{index:08d}.png" for index in range(frames)]


def test_all_parts_are_present(rng, tmp_path):
    a, b = video(rng), video(rng)
    methods = [
        Method("Bicubic", a, 20.12341, 0.5, 0.1),
        Method("LDIP, 2 stills", b, 30.98765, 0.912345, 61.25, "untrained"),
        Method("Table only", psnr_y=1.0),
    ]
    references = [
        Reference("still.png", 0.834, True, a[0], "calibrated: exposure +0.71 stops"),
        Reference("bad.png", 0.004, False),
        Reference("soft.png", 0.4, False, None, "not used: <blurred>"),
    ]
    keys = [KeyFrame("frame 0", references)]
    crop = Crop(2, 10, 20, 16)
    write_report(
        tmp_path / "report.html",
        title="A title",
        frame_names=names(3),
        methods=methods,
        settings=[("Scale", "4")],
        crops=[crop],
        key_frames=keys,
        notes=["A note."],
    )
    page = Reader(tmp_path / "report.html")
    for text in ("A title", "Scale", "Bicubic", "20.1234", "0.9123", "61.2", "untrained", "A note."):
        assert text in page.text
    assert "83\N{NO-BREAK SPACE}%" in page.text
    for text in ("not used", "calibrated: exposure +0.71 stops", "not used: <blurred>"):
        assert text in page.text
    where = "00000002.png, 16 \N{MULTIPLICATION SIGN} 16 pixels from (10, 20)"
    details = [image for image in page.all("img") if "src" in image]
    assert [image["alt"] for image in details] == [f"Bicubic: {where}", f"LDIP, 2 stills: {where}"]
    for image, method in zip(details, methods, strict=False):
        np.testing.assert_array_equal(decode(image["src"]), crop.cut(method.images[2]))
    data = json.loads(page.data)
    assert data["names"] == ["Bicubic", "LDIP, 2 stills"]
    assert data["frames"] == names(3)
    assert [len(row) for row in data["images"]] == [3, 3]
    for row, method in zip(data["images"], methods, strict=False):
        for url, frame in zip(row, method.images, strict=True):
            # Noise at the highest quality: far closer to its own frame than to any other.
            assert np.abs(decode(url).astype(int) - frame).mean() < 8
    assert [i["data-thumbnail"] for i in page.all("img") if "data-thumbnail" in i] == ["0"]
    assert decode(data["thumbnails"][0]).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("scores", "right"), [((3.0, 5.0, 4.0, None), 1), ((None, None), 1), ((5.0, 5.0), 1), ((5.0, 4.0), 0)]
)
def test_the_slider_starts_with_the_best_method_on_the_right(rng, tmp_path, scores, right):
    path = tmp_path / "report.html"
    methods = [Method(str(i), video(rng, 1), score) for i, score in enumerate(scores)]
    write_report(path, title="t", frame_names=names(1), methods=methods)
    options = Reader(path).all("option")[: 2 * len(scores)]
    assert [i for i, option in enumerate(options) if "selected" in option] == [0, len(scores) + right]


def test_nothing_is_loaded_from_anywhere(rng, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, title="t", frame_names=names(1), methods=[Method(n, video(rng, 1)) for n in "ab"])
    text = path.read_text()
    assert re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:[^\"]*", "", text)) is None
    page = Reader(path)
    for _, attributes in page.elements:
        assert not {"href", "srcset", "action", "onclick", "style"} & attributes.keys()
        assert attributes.get("src", "data:").startswith("data:")
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_text_from_outside_stays_text(rng, tmp_path):
    path = tmp_path / "report.html"
    frames = video(rng, 1)
    write_report(
        path,
        title=HOSTILE,
        frame_names=[HOSTILE],
        methods=[Method(HOSTILE, frames, note=HOSTILE), Method(HOSTILE + "2", frames)],
        settings=[(HOSTILE, HOSTILE)],
        crops=[Crop(0, 0, 0, 8)],
        key_frames=[KeyFrame(HOSTILE, [Reference(HOSTILE, 1.0)])],
        notes=[HOSTILE],
    )
    page = Reader(path)
    assert len(page.all("script")) == 2
    assert page.text.count(HOSTILE) == 17
    assert json.loads(page.data)["names"][0] == json.loads(page.data)["frames"][0] == HOSTILE
    assert page.all("img")[-1]["alt"].startswith(HOSTILE)


def test_names_that_are_not_unicode_are_shown_as_well_as_possible(rng, tmp_path):
    odd = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    methods = [Method(odd, video(rng, 1)), Method("b", video(rng, 1))]
    write_report(tmp_path / "report.html", title=odd, frame_names=[odd], methods=methods)
    assert "caf?.png" in Reader(tmp_path / "report.html").text


def test_unknown_values_are_left_out(rng, tmp_path):
    path = tmp_path / "report.html"
    methods = [Method(name, video(rng, 1, 8, 8), seconds=2.0) for name in ("Input", "Output")]
    write_report(path, title="t", frame_names=["0"], methods=methods)
    text = Reader(path).text
    assert "Time (s)" in text
    for absent in ("PSNR", "SSIM", "What was run", "Details", "Key-frames"):
        assert absent not in text
    assert "hidden" in next(a for a in Reader(path).all("label") if a.get("class") == "track" and len(a) > 1)

    write_report(path, title="t", frame_names=(), methods=[Method("Only numbers", psnr_y=30.0)])
    assert "Before and after" not in Reader(path).text
    assert Reader(path).all("img") == []


def test_a_clip_of_the_demo_size_stays_under_eight_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.random((16, 20, 4, 3)).repeat(14, 1).repeat(112, 2) * 200
    frames = (coarse[:, :256, :448] + rng.random((16, 256, 448, 3)) * 55).astype(np.uint8)
    methods = [Method(f"method {index}", list(np.roll(frames, index, axis=2))) for index in range(6)]
    references = [Reference(str(index), 0.5, True, frames[index]) for index in range(5)]
    write_report(
        tmp_path / "report.html",
        title="t",
        frame_names=names(16),
        methods=methods,
        crops=choose_crops([m.images[8] for m in methods], 8),
        key_frames=[KeyFrame(str(key), references) for key in range(3)],
    )
    assert 1_000_000 < (tmp_path / "report.html").stat().st_size <= 8_000_000
    page = Reader(tmp_path / "report.html")
    assert "JPEG of quality" in page.text
    assert len(json.loads(page.data)["thumbnails"]) == 5


def test_quality_falls_first_and_then_the_number_of_frames(rng, tmp_path):
    path = tmp_path / "report.html"
    methods = [Method(name, video(rng, 9, 64, 96)) for name in "ab"]
    quality, shown, sizes = [], [], []
    for most in (10_000_000, 200_000, 100_000, 1):
        write_report(path, title="t", frame_names=names(9), methods=methods, most_bytes=most)
        page = Reader(path)
        quality.append(int(re.search(r"JPEG of quality (\d+)", page.text)[1]))
        shown.append(json.loads(page.data)["frames"])
        sizes.append(path.stat().st_size)
        assert most == 1 or sizes[-1] <= most
        if len(shown[-1]) < 9:
            assert f"{len(shown[-1])} of 9 frames are shown" in page.text
    assert quality[0] == 95
    assert quality[1] < 95
    assert len(shown[0]) == 9
    assert 1 < len(shown[2]) < 9
    assert shown[3] == ["00000000.png"]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ([("a", 2, 8), ("a", 2, 8)], "needs its own name"),
        ([("a", 2, 8), ("b", 1, 8)], "b has 1 images for 2"),
        ([("a", 2, 8), ("b", 2, 9)], "the same size"),
    ],
)
def test_contradictions_are_refused(rng, tmp_path, methods, reason):
    methods = [Method(name, video(rng, count, side, side)) for name, count, side in methods]
    with pytest.raises(ValueError, match=reason):
        write_report(tmp_path / "report.html", title="t", frame_names=names(2), methods=methods)
    assert not (tmp_path / "report.html").exists()


def test_a_path_that_cannot_be_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "none" / "report.html", title="t", frame_names=(), methods=())
