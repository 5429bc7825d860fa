"""The package contains no calls that run code from a file or a string."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for name in ("graphdiff", "benchmarks") for path in (ROOT / name).rglob("*.py")]

ALWAYS = {
    *("eval", "exec", "builtins.eval", "builtins.exec", "__import__"),
    *(f"{m}.{f}" for m in ("pickle", "dill", "cloudpickle", "marshal") for f in ("load", "loads")),
    *("pickle.Unpickler", "joblib.load", "shelve.open", "pandas.read_pickle", "torch.hub.load"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def forbidden(source: str) -> list[str]:
    """Return forbidden calls as ``line: name``."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name.split(".")[0]: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return [
        f"{node.lineno}: {_dotted(node.func, names)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_forbidden(node, names)
    ]


def _is_forbidden(call: ast.Call, names: dict[str, str]) -> bool:
    name = _dotted(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def is_not(argument: str, allowed: bool) -> bool:
        value = given.get(argument)
        return value is not None and not (
            isinstance(value, ast.Constant) and value.value is allowed
        )

    if name in ALWAYS or is_not("allow_pickle", False) or is_not("shell", False):
        return True
    if name == "numpy.load" and len(call.args) > 2:
        return True  # The third argument is allow_pickle.
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", call.args[1] if len(call.args) > 1 else None)
        return loader is None or _dotted(loader, names) not in SAFE_LOADERS
    if name == "torch.load" or name.endswith(".load_from_checkpoint"):
        return "weights_only" not in given or is_not("weights_only", True)
    return is_not("weights_only", True)


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return "?"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_forbidden_calls(path):
    assert forbidden(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import Unpickler as U\nU(f)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "from torch import load\nload(f, weights_only=flag)",
        "Module.load_from_checkpoint(f)",
        "trainer.fit(m, ckpt_path=f, weights_only=False)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f, None, True)",
        "import numpy as np\nnp.lib.format.read_array(f, allow_pickle=True)",
        "import yaml\nyaml.load(f)",
        "import yaml\nyaml.load(f, yaml.Loader)",
        "import yaml\nyaml.load(f, Loader=yaml.FullLoader)",
        "from yaml import unsafe_load\nunsafe_load(f)",
        "eval('1')",
        "exec(code, {})",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import pandas as pd\npd.read_pickle(f)",
        "import joblib\njoblib.load(f)",
    ],
)
def test_forbidden_calls_are_detected(source):
    assert len(forbidden(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f, weights_only=True)",
        "import numpy as np\nnp.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import yaml\nyaml.safe_load(f)",
        "import yaml\nyaml.load(f, Loader=yaml.CSafeLoader)",
        "import json\njson.loads(text)",
        "model.eval()",
        "import subprocess\nsubprocess.run(['ls'])",
    ],
)
def test_allowed_calls_are_accepted(source):
    assert forbidden(source) == []
