"""What the tests of inference share."""

import pytest

from tests.networks import Networks, write_networks


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of random networks."""
    return write_networks(tmp_path_factory.mktemp("networks"))
