"""Sparse matrices are read from pickles; everything else is refused, and nothing runs."""

import os
import pickle
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets.io.safe_pickle import load_sparse
from graphdiff.errors import DataError
from tests.hostile import Call, hostile, inside, matrix

KINDS = [f"{kind}_{shape}" for kind in ("coo", "csr", "csc") for shape in ("matrix", "array")]


def write(tmp_path, content):
    path = tmp_path / "matrix.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


class TestMatrices:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("protocol", range(6))
    def test_every_kind_and_protocol(self, tmp_path, kind, protocol):
        m = matrix(kind)
        read = load_sparse(write(tmp_path, pickle.dumps(m, protocol)))
        assert isinstance(read, sp.coo_matrix)
        np.testing.assert_array_equal(read.toarray(), m.toarray())

    @pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i4", ">i4", "i8", "u8", "f4", ">f8"])
    def test_every_dtype(self, tmp_path, dtype):
        m = matrix()
        m.data = m.data.astype(dtype)
        read = load_sparse(write(tmp_path, m))
        assert read.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(read.toarray(), m.toarray())

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_empty_matrix_and_a_shape_of_numpy_integers(self, tmp_path, kind):
        m = getattr(sp, kind)((2, 3))
        m._shape = (np.int64(2), np.int32(3))
        for protocol in range(6):
            assert load_sparse(write(tmp_path, pickle.dumps(m, protocol))).shape == (2, 3)

    def test_the_names_of_old_libraries(self, tmp_path):
        # As scipy before 1.8 with numpy before 2 wrote it: other modules, and row and col.
        state = {"_shape": (2, 3), "maxprint": 50, "data": np.ones(2)}
        state |= {"row": np.array([0, 1], "i4"), "col": np.array([2, 0], "i4")}
        content = pickle.dumps(state, protocol=2).removeprefix(b"\x80\x02").removesuffix(b".")
        content = content.replace(b"numpy._core", b"numpy.core")
        content = b"\x80\x02cscipy.sparse.coo\ncoo_matrix\n)\x81" + content + b"b."
        assert load_sparse(write(tmp_path, content)).toarray().tolist() == [[0, 0, 1], [1, 0, 0]]

    def test_the_bytes_of_python_2(self, tmp_path):
        # Its str was bytes: raw data are in the instruction U, with no encoding named.
        array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I2\nt"
        ints = b"cnumpy\ndtype\n(U\x02i4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\n"
        index = b"U\x08" + struct.pack("<2i", 1, 0) + b"tb"
        content = b"\x80\x02cscipy.sparse.coo\ncoo_matrix\n)\x81}("
        content += b"U\x06_shape(I2\nI3\nt"
        for name in (b"row", b"col", b"data"):
            content += b"U" + bytes([len(name)]) + name + array + ints + index
        read = load_sparse(write(tmp_path, content + b"ub."))
        assert read.toarray().tolist() == [[0, 0, 0], [0, 1, 0]]

    def test_entries_given_twice_stay_so(self, tmp_path):
        m = sp.coo_matrix((np.ones(2), ([1, 1], [0, 0])), shape=(2, 2))
        assert load_sparse(write(tmp_path, m)).nnz == 2


class TestHostile:
    @pytest.mark.parametrize("name", hostile("true"))
    def test_nothing_runs(self, tmp_path, name, monkeypatch):
        canary = tmp_path / "canary"
        monkeypatch.chdir(tmp_path)
        path = write(tmp_path, hostile(f"touch {canary}")[name])
        before = set(sys.modules)
        with pytest.raises(DataError, match="was not run"):
            load_sparse(path)
        assert not canary.exists()
        assert "antigravity" not in set(sys.modules) - before

    @pytest.mark.parametrize(
        "name",
        [
            *("os.system", "exec", "partial", "in an unused attribute", "object array"),
            *("by instruction INST", "by instruction OBJ", "by a name on the stack"),
        ],
    )
    def test_they_would_run_in_python(self, tmp_path, name):
        canary = tmp_path / "canary"
        path = write(tmp_path, hostile(f"touch {canary}")[name])
        subprocess.run([sys.executable, "-m", "pickle", path], capture_output=True, check=False)
        assert canary.exists()

    def test_the_message_has_the_refused_name(self, tmp_path):
        path = write(tmp_path, Call(os.system, "true"))
        with pytest.raises(DataError, match=rf"^matrix\.pkl is not .* {os.name}\.system, which is"):
            load_sparse(path)

    def test_a_name_cannot_write_to_the_terminal(self, tmp_path):
        path = write(tmp_path, b"cos\x1b[2J\nsystem\n.")
        with pytest.raises(DataError, match=r"os\\x1b\[2J\.system"):
            load_sparse(path)


def claiming(length):
    """A matrix with 4 entries, the last of whose arrays claims another length."""
    head, length_4, tail = pickle.dumps(matrix(), 3).rpartition(b"K\x04\x85")
    assert length_4
    return head + b"\x8a\x09" + length.to_bytes(9, "little", signed=True) + b"\x85" + tail


def nested_key():
    """A dictionary whose key, a tuple of tuples, takes 2^60 steps to hash."""
    doubling = b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60))
    return b"\x80\x02}q\x01)q\x00" + doubling + b"h\x01h\x00K\x00s."


class TestDamaged:
    def test_the_claimed_size_is_refused(self, tmp_path):
        assert load_sparse(write(tmp_path, claiming(4))).nnz == 4

    @pytest.mark.parametrize(
        "content",
        [
            claiming(10**12),
            claiming(-1),
            claiming(3),
            b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
            b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b"x.",
            b"\x80\x02B" + struct.pack("<I", 2**31) + b"x.",
            b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",
            b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
            b"I" + b"9" * 100_000 + b"\n.",
            nested_key(),
            b"\x80\x04]\x94(" + b"h\x00" * 4000 + b"e.",  # a list of itself
            b"\x80\x04)\x94" + b"h\x00" * 4900 + b".",
            b"\x80\x02" + b"(" * 2000 + b"t" * 2000 + b".",
            b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
            b"F" + b"9" * 100_000 + b"\n.",
            b"(" * 100_000 + b".",
            b"]" * 4000 + b"a" * 3999 + b".",
        ],
    )
    def test_no_claim_is_paid_for(self, tmp_path, content):
        path = write(tmp_path, content)
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="was not run"):
                load_sparse(path)
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "content",
        [
            *(
                b"",
                b".",
                b"N.",
                b"}.",
                b"\x80",
                b"0.",
                b"t.",
                b"h\x05.",
                b"R.",
                b"a.",
                b"]b.",
                b"(.",
            ),
            *(b"N", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\xff\xfe", b"\x80\x09N.", b"\x80\x04KR"),
        ],
    )
    def test_other_contents_than_a_matrix_are_refused(self, tmp_path, content):
        with pytest.raises(DataError, match="was not run"):
            load_sparse(write(tmp_path, content))

    @pytest.mark.parametrize("protocol", [0, 2, 5])
    def test_cut_anywhere(self, tmp_path, protocol):
        content = pickle.dumps(matrix("csr_matrix"), protocol)
        for length in range(0, len(content), 4):
            with pytest.raises(DataError):
                load_sparse(write(tmp_path, content[:length]))

    @pytest.mark.parametrize(
        ("attribute", "value", "message"),
        [
            ("data", np.array([1.0, np.nan, 1, 1]), "not all finite"),
            ("data", np.array([1.0, -np.inf, 1, 1]), "not all finite"),
            ("data", np.ones(3), "3 values"),
            ("data", np.ones((2, 2)), "data is not a one-dimensional array"),
            ("data", np.ones(4, complex), "holds 'c16', not plain numbers"),
            ("data", np.zeros(4, "M8[s]"), "not plain numbers"),
            ("data", np.zeros(4, "S3"), "not plain numbers"),
            ("data", np.zeros(4, "i4,i4"), "refused"),
            ("data", [1, 2, 3, 4], "data is missing or not an array"),
            ("_shape", (0, 4), "shape is not two numbers from 1"),
            ("_shape", (3, 2**31), "shape is not two numbers from 1"),
            ("_shape", (3,), "shape is not two numbers"),
            ("_shape", (True, 4), "shape is not two numbers"),
            ("_shape", (2, 4), "row indices outside 0 to 1"),
            ("_shape", (3, 3), "column indices outside 0 to 2"),
            ("coords", (np.array([0, 0, 2, -1]),) * 2, "row indices outside 0 to 2"),
            ("coords", (np.zeros(4),) * 2, "row holds float64, not integers"),
            ("coords", (np.full(4, 2**63, "u8"),) * 2, "row holds an index above"),
            ("coords", (np.zeros(4, int),) * 3, "not two-dimensional"),
            ("coords", None, "not two-dimensional"),
            ("coords", (None, None), "row is missing"),
        ],
    )
    def test_a_matrix_that_does_not_add_up(self, tmp_path, attribute, value, message):
        with pytest.raises(DataError, match=message):
            load_sparse(write(tmp_path, inside(value, attribute)))

    @pytest.mark.parametrize(
        ("indptr", "message"),
        [
            ([0, 2, 2], "indptr does not fit"),
            ([1, 2, 2, 4], "indptr does not fit"),
            ([0, 2, 2, 3], "indptr does not fit"),
            ([0, 3, 2, 4], "indptr decreases"),
        ],
    )
    def test_a_compressed_matrix_that_does_not_add_up(self, tmp_path, indptr, message):
        m = matrix("csr_matrix")
        m.indptr = np.array(indptr)
        with pytest.raises(DataError, match=message):
            load_sparse(write(tmp_path, m))

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"gone\.pkl cannot be read: No such file"):
            load_sparse(tmp_path / "gone.pkl")


@given(
    st.sampled_from(KINDS),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), min_size=1, max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_mutated_pickles_load_or_are_refused(tmp_path_factory, kind, protocol, changes):
    content = bytearray(pickle.dumps(matrix(kind), protocol))
    for place, replacement in changes:
        place %= len(content)
        content[place : place + 1] = replacement
    path = tmp_path_factory.getbasetemp() / "mutated.pkl"
    path.write_bytes(content)
    try:
        read = load_sparse(path)
    except DataError:
        return
    assert np.isfinite(read.data).all()
    assert read.nnz == 0 or (read.row.max() < read.shape[0] and read.col.max() < read.shape[1])
