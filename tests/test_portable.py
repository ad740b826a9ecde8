"""What is saved comes back as it was."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interpose import errors
from interpose.portable import packed, read, unpacked, write

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_plain_values_come_back_in_their_own_types(value):
    arrays = {}
    back = unpacked(packed(value, arrays), arrays)
    assert back == value and repr(back) == repr(value) and not arrays


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_tensors_and_arrays_come_back_to_the_last_bit(tmp_path, dtype):
    value = {
        "x": torch.arange(6).view(2, 3).to(dtype),
        "rows": [np.arange(3.0), (np.float32(0.1), range(2, 9, 3))],
        "far": math.inf,
    }
    arrays = {}
    write(tmp_path / "one", packed(value, arrays), arrays)
    back = unpacked(*read(tmp_path / "one"))
    assert torch.equal(back["x"], value["x"]) and back["x"].dtype == dtype
    assert (back["rows"][0] == value["rows"][0]).all() and back["rows"][0].dtype == np.float64
    assert back["rows"][1] == value["rows"][1] and isinstance(back["rows"][1][0], np.float32)
    assert back["far"] == math.inf and math.isnan(unpacked(packed(math.nan, {}), {}))


class Own:
    def __init__(self, value):
        self.value = value


def test_values_of_other_kinds_need_somebody_who_knows_them():
    with pytest.raises(errors.WrongStore, match="is Own, which has no form on disk"):
        packed([Own(3)], {})
    plain = packed([Own((1, 2))], {}, lambda one: ("own", one.value) if isinstance(one, Own) else None)
    assert unpacked(plain, {}, {"own": Own})[0].value == (1, 2)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"nothing of ours")
    with pytest.raises(errors.WrongStore, match="is no result of interpose"):
        read(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
