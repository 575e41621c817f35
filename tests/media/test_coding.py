"""Settings of encoders, and the memory that they use."""

from pathlib import Path

import pytest

from ldip_jax.media.coding import CODECS, choose_coding

SIZES = {"HD": (1080, 1920), "4K": (2160, 3840)}


def coding(codec, size=SIZES["HD"], *, bit_depth=8, lossless=False, suffix=".mkv"):
    return choose_coding(
        Path("a").with_suffix(".mov" if codec == "prores" else suffix),
        height=size[0],
        width=size[1],
        source=None,
        bit_depth="auto" if codec in ("vp9", "prores") else bit_depth,
        crf=None,
        lossless=lossless,
        codec=codec,
    )


@pytest.mark.parametrize("codec", CODECS)
def test_memory_of_an_encoder_grows_with_pixels_and_up_to_a_limit_with_frames(codec):
    chosen = coding(codec)
    few, many, unknown = (chosen.held_bytes(1000, count) for count in (3, 1000, None))
    assert 0 < few < many == unknown
    assert chosen.held_bytes(2000, 3) == 2 * few


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "ffv1"])
def test_higher_bit_depths_take_more_memory(codec):
    assert coding(codec, bit_depth=16).held_bytes(1000, None) > coding(codec).held_bytes(1000, None)


@pytest.mark.parametrize("lossless", [False, True])
def test_x264_looks_ahead_at_fewer_frames_if_they_are_large(lossless):
    codings = {name: coding("h264", size, lossless=lossless, suffix=".mp4") for name, size in SIZES.items()}
    assert "rc-lookahead" not in codings["HD"].options.get("x264-params", "")
    assert "rc-lookahead=10" in codings["4K"].options["x264-params"]
    each = {name: codings[name].held_bytes(h * w, None) / (h * w) for name, (h, w) in SIZES.items()}
    assert each["4K"] < 0.6 * each["HD"]


def test_x265_never_codes_a_single_column_of_blocks():
    block = {width: coding("h265", (48, width)).options["x265-params"].count("ctu=32") for width in (64, 66)}
    assert block == {64: 1, 66: 0}
