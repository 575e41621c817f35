"""`ldip demo` from the command line, on a small synthetic clip with a narrow backbone."""

import argparse
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.cli import demo
from ldip_jax.demo import material, methods
from ldip_jax.demo.output import check_folder, replacing
from ldip_jax.errors import InputError
from ldip_jax.inference import model, references
from ldip_jax.matching.matcher import Match
from ldip_jax.media.images import read_image
from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer
from ldip_jax.ops.imresize import imresize
from ldip_jax.ops.warp import pixel_grid
from ldip_jax.weights import fetch
from ldip_jax.weights.load import load_weights
from tests.networks import HR, random_backbone

FRAMES, KEYS = 4, 2
TABLE = re.compile(r"^(\S.*?) {2,}(-?[\d.]+) +(-?[\d.]+) +(.+)$", re.MULTILINE)


class Everywhere:
    """Matches each pixel with the same place in the reference, with full confidence; records its calls."""

    def __init__(self):
        self.asked = []

    def coarse(self, pair):
        self.asked.append((pair.key_frame, pair.name))
        height, width = pair.size
        grid = pixel_grid(height, width)[None]
        return Match(grid, jnp.ones((1, height, width, 1)))

    def refine(self, pair, match, scale):
        return match


@pytest.fixture
def matcher():
    return Everywhere()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video file: a camera moves along a scene of random tiles."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    scene = np.random.default_rng(1).random((20, 49, 3)).astype(np.float32).repeat(2, 0).repeat(2, 1)
    with open_writer(path, height=40, width=52, fps=Fraction(25), lossless=True) as writer:
        for index in range(16):
            writer.write(scene[:, 3 * index : 3 * index + 52])
    return path


@pytest.fixture
def small(monkeypatch, clip, matcher):
    """The demo on 4 synthetic frames of 40x32, as if no LRRF weights were shipped."""
    for module in (model, methods):
        monkeypatch.setattr(module, "shipped_export", lambda backbone, kind: None)
    monkeypatch.setattr(material, "FIRST", 6)
    monkeypatch.setattr(material, "COUNT", FRAMES)
    monkeypatch.setattr(material, "BEFORE", (2, 4))
    monkeypatch.setattr(material, "AFTER", (2, 4, 6))
    for module in (material, methods):
        monkeypatch.setattr(module, "SIZE", HR)
    monkeypatch.setattr(fetch, "fetch", lambda name, progress: clip)
    weights = replace(random_backbone(1), name=methods.BACKBONE)
    monkeypatch.setattr(model, "load_weights", lambda *args, **options: weights)
    monkeypatch.setattr(references, "load_matcher", lambda *args, **options: matcher)


def call(*words):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    args = parser.parse_args(["demo", *map(str, words)])
    return args.run(args)


def table(text):
    """Rows of the printed table: name -> PSNR, SSIM, time or note."""
    rows = {name: (float(psnr), float(ssim), took) for name, psnr, ssim, took in TABLE.findall(text)}
    assert list(rows) == [
        "Bicubic",
        "basicvsr-reds4 only",
        "LDIP, no stills",
        "LDIP, 2 stills",
        "LDIP, 5 stills",
    ]
    return rows


def slider(report):
    """The methods that a reader of the report can choose from."""
    left = re.search(r'<select id="left-method".*?</select>', report, re.DOTALL)[0]
    return re.findall(r"<option[^>]*>([^<]*)</option>", left)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small")
def test_without_weights_ldip_is_called_untrained_and_not_computed(tmp_path, capsys, matcher):
    assert call() == 0
    text = capsys.readouterr().out
    rows = table(text)
    text = " ".join(text.split())
    backbone = rows["basicvsr-reds4 only"]
    for name in ("LDIP, no stills", "LDIP, 2 stills", "LDIP, 5 stills"):
        assert rows[name] == (*backbone[:2], "untrained")
    assert "No LRRF weights are shipped for basicvsr-reds4 yet" in text
    assert "without being computed" in text
    assert matcher.asked == []
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count("untrained") >= 3
    assert "No LRRF weights are shipped" in report
    assert slider(report) == ["Bicubic", "basicvsr-reds4 only", "Original"]


@pytest.mark.usefixtures("small")
def test_what_will_be_done_is_printed_first(capsys):
    call("--lrrf", "none")
    first, rest = capsys.readouterr().out.split("PSNR Y", 1)
    for words in ("4 frames", "10x8", "40x32", "minute", "81 MB of downloads", "Licence: CC0", "Apache-2.0"):
        assert words in first
    assert "gmflow" not in first
    assert "--lrrf none" in rest


@pytest.mark.usefixtures("small")
def test_inputs_and_results_are_written_to_the_folder(tmp_path, clip):
    call("--output", "out")
    folder = tmp_path / "out"
    numbers = [f"{index:08d}.png" for index in range(FRAMES)]
    stills = ["2_before", "4_before", "2_after", "4_after", "6_after"]
    assert files(folder) == {
        *("report.html", "comparison.png", "upscaled.mp4"),
        *(f"{name}/{number}" for name in ("input", "truth") for number in numbers),
        *(f"stills/{name}.png" for name in stills),
    }
    whole = list(open_clip(clip))
    truth = list(open_clip(folder / "truth"))
    for place, (image, low) in enumerate(zip(truth, open_clip(folder / "input"), strict=True)):
        expected = imresize(np.round(whole[6 + place] * 255).astype(np.uint8), size=(32, 42))[:, 1:41]
        np.testing.assert_array_equal(np.round(image * 255), expected)
        np.testing.assert_array_equal(np.round(low * 255), imresize(expected, 0.25))
    for name in stills:
        still, _ = read_image(folder / "stills" / f"{name}.png")
        assert all(np.abs(still - image).mean() > 0.02 for image in truth)
    video = open_clip(folder / "upscaled.mp4")
    assert (video.count, video.fps, video.height, video.width) == (FRAMES, 25, *HR)


@pytest.mark.usefixtures("small")
def test_with_shipped_weights_every_row_is_computed(monkeypatch, tmp_path, capsys, matcher, networks):
    for module in (model, methods):
        monkeypatch.setattr(module, "shipped_export", lambda backbone, kind: networks.trained)
    # Images of random networks have nothing in common with stills.
    monkeypatch.setattr(references, "rejection_reason", lambda *_: "")
    call()
    text = capsys.readouterr().out
    rows = table(text)
    assert all(took.endswith(" s") for *_, took in rows.values())
    assert len({row[:2] for row in rows.values()}) == len(rows)
    assert "untrained" not in text
    assert "gmflow" in text.split("PSNR Y")[0]
    # Each key-frame is matched once with each still, although two rows use the nearest two.
    assert len(matcher.asked) == len(set(matcher.asked)) == KEYS * 5
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "untrained" not in report
    assert slider(report) == [*rows, "Original"]
    for words in ("LDIP, 2 stills: frame 6 of the clip", "LDIP, 5 stills: frame 9 of the clip"):
        assert words in report
    assert report.count("still, 2 frames before") == report.count("still, 2 frames after") == 2 * KEYS
    assert report.count("still, 6 frames after") == KEYS


@pytest.mark.usefixtures("small")
def test_the_row_without_stills_has_its_own_weights(monkeypatch, capsys, networks):
    kinds = {"x4": networks.trained, "x4-self": networks.untrained}
    for module in (model, methods):
        monkeypatch.setattr(module, "shipped_export", lambda backbone, kind: kinds.get(kind))
    call()
    rows = table(capsys.readouterr().out)
    backbone = rows["basicvsr-reds4 only"][:2]
    assert rows["LDIP, no stills"][:2] == backbone
    assert rows["LDIP, 2 stills"][:2] != backbone


@pytest.mark.usefixtures("small")
def test_a_file_of_weights_counts_as_trained(capsys, networks):
    call("--lrrf", networks.trained)
    rows = table(capsys.readouterr().out)
    assert rows["LDIP, 2 stills"][0] != rows["basicvsr-reds4 only"][0]


@pytest.mark.usefixtures("small")
def test_weights_without_lrrf_are_refused(monkeypatch, tmp_path, networks):
    weights = load_weights(networks.wide)
    monkeypatch.setattr(model, "load_weights", lambda *args, **options: weights)
    with pytest.raises(InputError, match=r"head\.safetensors: contains no LRRF weights"):
        call("--lrrf", networks.head)
    assert not (tmp_path / "demo").exists()


@pytest.mark.usefixtures("small")
def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path):
    folder = tmp_path / "demo"
    for name in ("report.html", "input/00000099.png", "stills/99_after.png", "truth/00000000.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"earlier")
    call()
    held = files(folder)
    assert not {"input/00000099.png", "stills/99_after.png"} & held
    assert all((folder / name).read_bytes() != b"earlier" for name in held)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize(
    "foreign", ["photo.jpg", "input/holiday.png", "stills/me.png", ".hidden", "a/report.html"]
)
def test_other_content_is_refused_before_any_work(monkeypatch, tmp_path, foreign):
    monkeypatch.setattr(model, "load_weights", None)
    path = tmp_path / "demo" / foreign
    path.parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=re.escape(foreign)) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "demo") == {foreign}
    assert path.read_bytes() == b"precious"


def test_places_that_cannot_hold_a_folder_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    for place, reason in (
        ("file", "is a file"),
        ("file/demo", "is not an existing folder"),
        ("no/such/demo", "is not an existing folder"),
    ):
        with pytest.raises(InputError, match=reason):
            call("--output", tmp_path / place)
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, InputError("x"), OSError(28, "No space left on device")]
)
def test_a_demo_that_ends_early_leaves_the_folder_unchanged(tmp_path, error):
    folder = tmp_path / "demo"

    def end_early():
        with replacing(folder) as part:
            (part / "report.html").write_text("half")
            raise error

    for attempt in range(2):
        with pytest.raises((KeyboardInterrupt, InputError)):
            end_early()
        held = {"report.html": b"earlier"} if attempt else {}
        assert {path.name: path.read_bytes() for path in tmp_path.glob("demo/*")} == held
        assert list(tmp_path.glob(".*.part")) == []
        folder.mkdir(exist_ok=True)
        (folder / "report.html").write_text("earlier")


@pytest.mark.usefixtures("small")
def test_an_interrupted_computation_writes_nothing(monkeypatch, tmp_path):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "score_frames", interrupted)
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert files(tmp_path) == before


@pytest.mark.usefixtures("small")
def test_without_network_nothing_is_written(monkeypatch, tmp_path):
    def offline(name, progress):
        raise InputError(f"{name}: cannot be fetched (no network); try again")

    monkeypatch.setattr(fetch, "fetch", offline)
    with pytest.raises(InputError, match="no network"):
        call()
    assert not (tmp_path / "demo").exists()


def test_stills_are_from_the_same_shot_and_are_not_scored():
    scored = range(material.FIRST, material.FIRST + material.COUNT)
    stills = material.still_frames()
    assert len(stills) == max(methods.STILLS) == 5
    distances = [min(abs(frame - scored[0]), abs(frame - scored[-1])) for frame in stills.values()]
    assert distances == sorted(distances)
    assert min(distances) >= 8
    assert max(distances) <= 40
    for name, frame in stills.items():
        assert 0 <= frame <= 116
        assert frame not in scored
        assert name == f"{distances.pop(0)} frames {'before' if frame < scored[0] else 'after'}"
    first, second, *_ = stills.values()
    assert first < scored[0] < scored[-1] < second
    assert scored[-1] <= 116


def test_the_parser_is_built_without_jax():
    code = "import sys, ldip_jax.cli.demo; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_empty_folder_is_accepted(tmp_path):
    (tmp_path / "demo").mkdir()
    check_folder(tmp_path / "demo")
