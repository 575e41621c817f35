"""`ldip eval --method mrefsr`: its column and that of linear transfer, next to LDIP's."""

import json
import re

import numpy as np
import pytest

from ldip_jax.evaluation.linear_transfer import transfer
from ldip_jax.evaluation.protocols import PROTOCOLS
from tests.networks import mrefsr_flags, write_mrefsr


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return write_mrefsr(tmp_path_factory.mktemp("mrefsr"))


def test_its_columns_are_next_to_the_others(evaluate, files, tmp_path):
    done = evaluate("--protocol", "table5", *mrefsr_flags(files), "--clips", "one")
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    columns = {column["name"]: column for column in results["scales"][0]["columns"]}
    transfer = "linear transfer, in hindsight"
    assert list(columns) == ["backbone", transfer, "MRefSR"]
    psnr = {name: column["average"]["psnr_rgb"] for name, column in columns.items()}
    # Least squares cannot lose.
    assert psnr[transfer] >= psnr["backbone"]
    assert len({round(value, 6) for value in psnr.values()}) == 3
    assert re.search(r"\| MRefSR +\|", done.out)
    again = evaluate("--protocol", "table5", *mrefsr_flags(files), "--clips", "one")
    assert "dB, SSIM" in done.err
    assert "dB, SSIM" not in again.err


def test_each_set_of_references_has_a_column():
    names = [column.name for column in PROTOCOLS["figure6"].baseline_variants("MRefSR")]
    assert names == ["linear transfer, in hindsight", "MRefSR", "MRefSR, 2"]
    assert PROTOCOLS["bi-x4"].baseline_variants("MRefSR") == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "table5", "--method", "mrefsr"), "publish no trained restoration network"),
        (("--protocol", "table5", "--vgg", "a.pth"), "--vgg a.pth: is for --method mrefsr"),
    ],
)
def test_missing_and_unsupported_arguments_are_named(evaluate, words, message):
    done = evaluate(*words)
    assert done.code == 2
    assert message in done.err


def test_a_protocol_without_references_is_refused(evaluate, files):
    done = evaluate("--protocol", "bi-x4", *mrefsr_flags(files))
    assert done.code == 2
    assert "bi-x4 has no references in HR" in done.err


def test_linear_transfer_recovers_the_detail_of_references(rng):
    image, truth = rng.random((2, 8, 9, 3)).astype(np.float32)
    confidence = np.ones((8, 9), np.float32)
    reference = image + 2 * (truth - image)
    np.testing.assert_allclose(transfer(image, truth, [(reference, confidence)]), truth, atol=1e-5)
    np.testing.assert_array_equal(transfer(image, truth, [(reference, 0 * confidence)]), image)
    np.testing.assert_array_equal(transfer(image, truth, []), image)
