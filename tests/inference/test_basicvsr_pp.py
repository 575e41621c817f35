"""LDIP on BasicVSR++: everything but the backbone is the same."""

from dataclasses import replace

import numpy as np
import pytest

from ldip_jax.inference import references
from ldip_jax.inference.model import load_model
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.weights.export import save_export
from ldip_jax.weights.load import save_weights
from tests.inference.stubs import TopLeftMatcher
from tests.networks import HR, LR, random_backbone, random_export, silent

COUNT = 5


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Outputs of only the backbone, of an untrained LRRF, and of a trained one."""
    folder = tmp_path_factory.mktemp("networks")
    backbone = random_backbone(1, "basicvsrpp")
    save_weights(folder / "backbone.safetensors", backbone)
    trained = random_export(backbone)
    save_export(folder / "trained.safetensors", trained)
    untrained = replace(trained, groups={"lrrf": silent(trained.groups["lrrf"])})
    save_export(folder / "untrained.safetensors", untrained)
    rng = np.random.default_rng(5)
    frames = rng.uniform(0, 1, (COUNT, *LR, 3)).astype(np.float32)
    still = Still("still", rng.uniform(0, 1, (*HR, 3)).astype(np.float32))
    outputs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "load_matcher", lambda *args, **kwargs: TopLeftMatcher())
        for name in ("none", "untrained", "trained"):
            lrrf = "none" if name == "none" else str(folder / f"{name}.safetensors")
            model = load_model(str(folder / "backbone.safetensors"), lrrf, native=True)
            upscaler = Upscaler(model, LR, HR, key_stride=2, rules=ReferenceRules(as_given=True))
            outputs[name] = np.stack(list(upscaler.frames(frames, [still])))
            if name != "none":
                used = [choice.used for choices in upscaler.choices.values() for choice in choices]
                assert len(upscaler.choices) == 3
                assert all(used)
    return outputs


def test_an_untrained_lrrf_changes_nothing(images):
    np.testing.assert_array_equal(images["untrained"], images["none"])


def test_a_trained_lrrf_changes_every_frame(images):
    changed = np.abs(images["trained"] - images["none"]).max(axis=(1, 2, 3))
    assert changed.shape == (COUNT,)
    assert changed.min() > 1e-3
