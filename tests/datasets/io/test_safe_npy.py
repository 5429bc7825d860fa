"""Feature tables are read; pickles and false claims are refused."""

import os
import tracemalloc

import numpy as np
import pytest

from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.datasets.layouts.pairs import read_pairs
from graphdiff.errors import DataError


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_real_dtype_becomes_float32(tmp_path, dtype, order):
    table = np.array([[1, 2, 3], [4, 5, 250]], dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", table)
    read = load_features(tmp_path / "x.npy")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, table)
    read[0, 0] = 9  # its own memory, not the file's
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), table)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_objects_are_refused_and_not_run(tmp_path):
    canary = tmp_path / "canary"
    np.save(tmp_path / "x.npy", np.array([[Evil(str(canary))]]), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy cannot be read as an \.npy table of numbers"):
        load_features(tmp_path / "x.npy")
    assert not canary.exists()


def header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header((10**12, 100)) + b"\0" * 64,
        header((2**62, 2**62)),
        header((2**62, 16)) + b"\0" * 64,
        header((-4, -4)) + b"\0" * 64,
        header((4, 5)) + b"\0" * 79,
        header("(" * 100 + ")" * 100),
        header("__import__('os').mkdir('canary')"),
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY\x09\x00",
        b"\x80\x04N.",
    ],
)
def test_false_claims_and_other_files_are_refused(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="cannot be read"):
            load_features(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_the_whole_claim_is_accepted(tmp_path):
    (tmp_path / "x.npy").write_bytes(header((4, 5)) + b"\0" * 80)
    assert load_features(tmp_path / "x.npy").shape == (4, 5)


@pytest.mark.parametrize("table", [np.ones(3), np.ones((2, 2, 2)), np.ones((2, 2)) * 1j])
def test_other_arrays_are_refused(tmp_path, table):
    np.save(tmp_path / "x.npy", table)
    with pytest.raises(DataError, match="expected one row of numbers per item"):
        load_features(tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u2"])
def test_pairs_of_any_integers_become_columns_of_int64(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.array([[0, 7], [3, 2], [3, 4]], dtype=dtype, order="F"))
    pairs = read_pairs(tmp_path / "x.npy")
    assert pairs.dtype == np.int64
    assert pairs.flags.c_contiguous
    assert pairs.tolist() == [[0, 3, 3], [7, 2, 4]]


@pytest.mark.parametrize("table", [np.ones((3, 2)), np.ones((2, 3), int), np.ones(2, int)])
def test_other_arrays_than_pairs_are_refused(tmp_path, table):
    np.save(tmp_path / "x.npy", table)
    with pytest.raises(DataError, match=r"expected integers \[P, 2\]"):
        read_pairs(tmp_path / "x.npy")


def test_pairs_of_objects_are_refused_and_not_run(tmp_path):
    canary = tmp_path / "canary"
    np.save(tmp_path / "x.npy", np.array([[Evil(str(canary)), 1]]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "x.npy")
    assert not canary.exists()
