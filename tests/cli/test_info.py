"""`ldip info`: components with their parameter counts, and what is installed."""

import re

import jax
import pytest

import ldip_jax


def counts(text):
    return {
        name: int(count.replace(",", "")) for name, count in re.findall(r"^ *(\w+) +([\d,]+)", text, re.M)
    }


def test_parameters_are_counted_without_fetching_anything(ldip, monkeypatch):
    def fetch(*args, **kwargs):
        raise AssertionError("fetched")

    monkeypatch.setattr("ldip_jax.weights.load.fetch", fetch)
    done = ldip("info")
    assert (done.code, done.err) == (0, "")
    found = counts(done.out)
    assert found["basicvsr"] == 6_291_311
    assert found["spynet"] == 1_440_300
    assert found["lrrf"] == 2_098_240
    assert found["ref_align"] == 119_808
    assert found["ref_fusion"] == 1_204_480
    assert found["hrip"] == 2 * 386_976
    assert found["as_head"] == 157_248
    assert found["as_decoder"] == 38_659
    assert found["lrrf"] == found["ref_align"] + found["ref_fusion"] + found["hrip"]
    assert f"ldip_jax {ldip_jax.__version__}" in done.out
    assert f"jax {jax.__version__}" in done.out
    assert f"({jax.devices()[0].platform})" in done.out
    assert "basicvsr-reds4 (basicvsr), not fetched yet" in done.out


def test_the_parameters_of_a_file_are_counted(ldip, networks):
    done = ldip("info", "--backbone", networks.backbone)
    assert (done.code, done.err) == (0, "")
    found = counts(done.out)
    parts = (
        "spynet",
        "backward_trunk",
        "forward_trunk",
        "fusion",
        "upconv1",
        "upconv2",
        "conv_hr",
        "conv_last",
    )
    assert found["basicvsr"] == sum(found[part] for part in parts) < 2_000_000
    assert found["lrrf"] == 2_098_240
    assert "sha256 " + f"{1:064x}" in done.out


@pytest.mark.parametrize("name", ["gmflow", "cityCC0", "nothing.pth"])
def test_names_that_are_not_backbones(ldip, name):
    done = ldip("info", "--backbone", name)
    assert (done.code, done.out) == (2, "")
    assert done.message.startswith(f"ldip: {name}: ")


def test_an_export_is_not_a_backbone(ldip, networks):
    done = ldip("info", "--backbone", networks.trained)
    assert done.code == 2
    assert done.message.startswith(f"ldip: {networks.trained}: ")
