"""Files that PyTorch writes are read as PyTorch reads them."""

import collections

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.formats import read_checkpoint

torch = pytest.importorskip("torch")

LAYOUTS = pytest.mark.parametrize("zipped", [True, False])


def assert_same(path, state):
    read = read_checkpoint(path).arrays
    assert list(read) == list(state)
    for key, value in state.items():
        value = value.detach()
        expected = value.float() if value.dtype == torch.bfloat16 else value
        assert read[key].shape == tuple(value.shape)
        assert read[key].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(read[key], expected.numpy())
        assert read[key].flags.c_contiguous


@LAYOUTS
def test_every_type_and_window(tmp_path, zipped):
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    kinds = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    state = {kind: (10 * torch.randn(3, 4)).abs().to(getattr(torch, kind)) for kind in kinds}
    state |= {
        "whole": base,
        "transposed": base.t(),
        "rows": base[1::2],
        "columns": base[:, 3],
        "expanded": base[:1].expand(5, 8),
        "again": base,
        "diagonal": base.diagonal(),
        "scalar": torch.tensor(3.5),
        "scalar bfloat16": torch.tensor(3.5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert_same(tmp_path / "a.pth", state)


@LAYOUTS
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_training_checkpoint(tmp_path, zipped, protocol):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "meta": {
            "iter": 3,
            "lr": 1e-4,
            "best": np.float64(2.0),
            "shape": torch.Size([1, 2]),
            "env": ("a", None),
        },
    }
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    expected = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    assert_same(path, expected)
    notes = read_checkpoint(path).notes
    assert notes == ["unwrapped 'state_dict', left out meta, optimizer", "left out 1.num_batches_tracked"]


@LAYOUTS
def test_anything_but_plain_data_is_refused_by_name(tmp_path, zipped):
    net = torch.nn.Conv2d(3, 4, 3)
    path = tmp_path / "a.pth"
    torch.save(net, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"names torch\.nn\.modules\.conv\.Conv2d"):
        read_checkpoint(path)
    content = {"params": net.state_dict(), "done": collections.Counter("a")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"names collections\.Counter"):
        read_checkpoint(path)
