from types import SimpleNamespace

import pytest

from ldip_jax.errors import InputError
from ldip_jax.matching import loading
from ldip_jax.matching.loading import PrecomputedMatcher


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(tmp_path):
    with pytest.raises(InputError, match="gmflo: no such matcher; give gmflow, flow, or a folder"):
        loading.load_matcher("gmflo", {})
    assert isinstance(loading.load_matcher(tmp_path, {}), PrecomputedMatcher)


@pytest.mark.parametrize("refine", [True, False])
def test_gmflow_is_refined_by_default(monkeypatch, tmp_path, refine):
    received = []
    matcher = PrecomputedMatcher(tmp_path)
    weights = SimpleNamespace(params={"of": "gmflow"})
    monkeypatch.setattr(loading, "load_weights", lambda name, **options: weights)
    monkeypatch.setattr(loading, "GMFlowMatcher", lambda *params: received.append(params) or matcher)
    assert loading.load_matcher("gmflow", {"of": "spynet"}, refine=refine) is matcher
    assert received == [({"of": "gmflow"}, {"of": "spynet"} if refine else None)]
