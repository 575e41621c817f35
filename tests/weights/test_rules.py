"""The tables: nothing may be left over on either side, and all errors are reported at once."""

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.rules import (
    Rule,
    as_params,
    check_params,
    conv,
    convert,
    dense,
    flatten,
    nest,
    norm,
    renamed,
)

RULES = (
    *conv(r"stem", "stem"),
    *dense(r"body\.(?P<layer>\d+)\.(in|out)", r"body.0.\2"),
    *norm(r"last\.(\d)", r"last.\1"),
    Rule(r"table", "table"),
    Rule(r"mean", None, value=np.ones((3,), np.float32)),
)


def checkpoint(rng):
    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    arrays = {"stem.weight": draw(4, 3, 5, 5), "stem.bias": draw(4)}
    for layer in (1, 0, 2):
        for part in ("in", "out"):
            arrays |= {f"body.{layer}.{part}.weight": draw(6, 4), f"body.{layer}.{part}.bias": draw(6)}
    return arrays | {
        "last.3.weight": draw(4),
        "last.3.bias": draw(4),
        "table": draw(4, 4),
        "mean": np.ones(3, np.float32),
    }


def skeleton():
    body = {"kernel": (3, 4, 6), "bias": (3, 6)}
    shapes = {
        "stem": {"kernel": (5, 5, 3, 4), "bias": (4,)},
        "body_0": {"in": body, "out": body},
        "last_3": {"scale": (4,), "bias": (4,)},
        "table": (4, 4),
    }
    return nest({name: np.empty(shape) for name, shape in flatten(shapes).items()})


@pytest.fixture
def arrays(rng):
    return checkpoint(rng)


def errors_of(arrays):
    with pytest.raises(InputError) as caught:
        convert(arrays, RULES, skeleton(), "net.pth, as Net")
    message = str(caught.value)
    assert message.startswith("net.pth, as Net: ")
    assert "\n" not in message
    return message


def test_layouts_and_layers(arrays):
    params, ignored = convert(arrays, RULES, skeleton(), "net")
    assert ignored == {"mean": "a constant of the network"}
    assert list(params) == list(skeleton())
    np.testing.assert_array_equal(params["stem"]["kernel"][1, 2, 0, 3], arrays["stem.weight"][3, 0, 1, 2])
    for layer in range(3):
        kernel = arrays[f"body.{layer}.out.weight"]
        np.testing.assert_array_equal(params["body_0"]["out"]["kernel"][layer], kernel.T)
    np.testing.assert_array_equal(params["last_3"]["scale"], arrays["last.3.weight"])
    # Arrays without axes to transpose are not changed, not even a square table.
    np.testing.assert_array_equal(params["table"], arrays["table"])
    assert all(leaf.dtype == np.float32 and leaf.flags.c_contiguous for leaf in flatten(params).values())


@pytest.mark.parametrize("code", ["f8", "f2", ">f4"])
def test_other_floating_point_becomes_float32(arrays, code):
    arrays["stem.bias"] = arrays["stem.bias"].astype(code)
    params, _ = convert(arrays, RULES, skeleton(), "net")
    assert params["stem"]["bias"].dtype == np.float32
    np.testing.assert_allclose(params["stem"]["bias"], arrays["stem.bias"], rtol=1e-3)


def test_all_errors_are_reported_at_once(arrays):
    del arrays["stem.bias"]
    del arrays["body.1.in.weight"]
    arrays["body.3.in.weight"] = arrays["body.2.in.weight"]
    arrays["body.2.out.bias"] = np.zeros(5, np.float32)
    arrays["extra.weight"] = np.zeros(3)
    arrays["last.3.bias"] = np.zeros((4, 1), np.float32)
    arrays["last.3.weight"][1] = np.nan
    arrays["body.0.in.bias"][1] = np.nan
    arrays["table"] = np.zeros((4, 4), np.int64)
    message = errors_of(arrays)
    assert "9 errors" in message
    for error in (
        "extra.weight: not part of this network",
        "last.3.weight: holds NaN or infinity",
        "body.0.in.bias: holds NaN or infinity",
        "table: int64, not floating point",
        "body_0/in/kernel, layer 1: missing",
        "body_0/in/kernel, layer 3: one too many",
        "body_0/out/bias, layer 2: shape (5,), (6,) expected",
        "stem/bias: missing",
        "last_3/bias: shape (4, 1), (4,) expected",
    ):
        assert error in message


def test_many_errors_are_counted(arrays):
    message = errors_of({f"x.{index}": np.zeros(1) for index in range(30)})
    assert "x.11: not part" in message
    assert "x.12" not in message
    assert message.endswith(" more")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e39])
def test_values_that_float32_cannot_hold_are_refused(arrays, value):
    arrays["stem.bias"] = np.array([0, 1, value, 2])
    assert "stem.bias: holds NaN or infinity" in errors_of(arrays)


@pytest.mark.parametrize("name", ["Stem.bias", "stem.bias ", "module.stem.bias", "stem_bias", "stem.bias.0"])
def test_a_similar_name_is_refused(arrays, name):
    arrays[name] = arrays.pop("stem.bias")
    message = errors_of(arrays)
    assert f"{name}: not part of this network" in message
    assert "stem/bias: missing" in message


def test_a_parameter_given_twice_is_refused(arrays):
    arrays["body.01.in.bias"] = arrays["body.1.in.bias"]
    assert "fills body_0/in/bias a second time" in errors_of(arrays)


def test_a_name_that_two_rules_match_is_refused(arrays):
    with pytest.raises(InputError, match="table: matches two rules"):
        convert(arrays, (*RULES, Rule(r"tab.e", "table")), skeleton(), "net")


@pytest.mark.parametrize(
    "mean", [np.zeros(3), np.ones(4), np.full(3, np.nan), np.array(["a", "b", "c"]), np.ones(3, np.int64)]
)
def test_a_constant_of_another_value_is_refused(arrays, mean):
    arrays["mean"] = mean
    assert "mean: holds other values than this network computes with" in errors_of(arrays)


def test_the_wrong_number_of_axes_is_refused(arrays):
    arrays["stem.weight"] = arrays["stem.weight"][0]
    assert "stem/kernel: shape (3, 5, 5), (5, 5, 3, 4) expected" in errors_of(arrays)


def test_renamed_modules_are_reported_once_with_an_example(arrays):
    rules = (
        *conv(r"(?:up([12])|upsample([12])\.conv)", r"up\1\2"),
        *conv(r"block\.(?P<layer>\d)\.(in|out)", r"block.\2"),
        Rule("mean", None),
    )
    same = ["up1.weight", "up1.bias", "block.0.in.weight", "block.1.out.bias", "mean", "other.weight"]
    assert renamed(same, rules) == []
    others = ["upsample1.conv.weight", "upsample1.conv.bias", "upsample2.conv.weight"]
    assert renamed(same + others, rules) == ["renamed 2 modules, such as upsample1.conv to up1"]


def test_check_params(rng):
    expected = skeleton()
    params = nest({name: np.ones(leaf.shape, np.float32) for name, leaf in flatten(expected).items()})
    check_params(params, expected, "net")
    params["stem"]["bias"] = np.array([1, np.nan, 0, 0], np.float32)
    params["table"] = np.zeros((2, 2), np.float32)
    params["new"] = {"bias": np.zeros(1, np.float32)}
    del params["last_3"]
    with pytest.raises(InputError, match="net: 5 errors") as caught:
        check_params(params, expected, "net")
    assert "\n" not in str(caught.value)


def test_names_are_converted_to_trees_and_back():
    flat = {"a/b/c": np.ones(1, np.float32), "a/b/d": np.ones(2, np.float32), "e": np.ones(3, np.float32)}
    assert flatten(as_params(flat)) == flat
    for clash in ({"a": flat["e"], "a/b": flat["e"]}, {"a/b": flat["e"], "a": flat["e"]}):
        with pytest.raises(ValueError, match=r"below a parameter|twice"):
            as_params(clash)
    with pytest.raises(ValueError, match="float64"):
        as_params({"a": np.ones(1)})
