"""How far Python runs ahead of the device: results are awaited, and images returned, in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference import in_flight as module
from ldip_jax.inference.in_flight import InFlight, most_in_flight, to_host


def test_nothing_is_in_flight_on_a_cpu():
    assert jax.local_devices()[0].platform == "cpu"
    assert most_in_flight() == 0


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_oldest_result_is_awaited(monkeypatch, most):
    waited = []
    monkeypatch.setattr(module, "most_in_flight", lambda: most)
    monkeypatch.setattr(module.jax, "block_until_ready", waited.append)
    in_flight = InFlight()
    assert [in_flight.add(number) for number in range(10)] == list(range(10))
    assert waited == list(range(10 - most))


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_image_is_copied_while_later_ones_are_computed(monkeypatch, most, count):
    monkeypatch.setattr(module, "most_in_flight", lambda: most)
    requested = []

    def images():
        for number in range(count):
            requested.append(number)
            yield jnp.full((1, 2, 3, 3), number, jnp.float32)

    for number, image in enumerate(to_host(images())):
        assert isinstance(image, np.ndarray)
        np.testing.assert_array_equal(image, np.full((2, 3, 3), number))
        assert len(requested) == min(count, number + 1 + most)
    assert len(requested) == count
