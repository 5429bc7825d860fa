"""Digests of a model's files, made to fit after a test has changed a file."""

from contextlib import suppress
from pathlib import Path

import yaml

from graphdiff.models.storage import CONFIG, file_digest


def reseal(folder: Path) -> None:
    """Write the digests of the files as they are into ``config.yaml``, if it can be read."""
    with suppress(Exception):
        config = yaml.safe_load((folder / CONFIG).read_bytes())
        files = config["model"]["files"]
        for name in files:
            if (folder / name).is_file():
                files[name] = file_digest(folder / name)
        (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
