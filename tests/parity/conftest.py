"""PyTorch computes in one thread: on the twins' small maps, several mostly wait for each other."""

import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    # Where it is installed, the modules of the tests have imported it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
