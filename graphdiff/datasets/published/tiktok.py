"""The TikTok split of MMSSL and DiffMM."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import HeteroData

from graphdiff.datasets.io.download import download_file
from graphdiff.datasets.layouts.diffmm import DiffMMLayout
from graphdiff.errors import DataError
from graphdiff.schema import modalities


class TikTok(DiffMMLayout):
    """Short videos on TikTok with image, audio and text features, as split by MMSSL.

    From `"Multi-Modal Self-Supervised Learning for Recommendation"
    <https://arxiv.org/abs/2302.10632>`_, in the layout in which `"DiffMM: Multi-Modal Diffusion
    Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_ passes it around:
    ``trnMat.pkl``, ``valMat.pkl`` and ``tstMat.pkl``, pickled scipy matrices ``[U, I]`` whose
    non-zero entries are interactions, and ``<modality>_feat.npy``, one feature row per item. The
    pickles are read without running them. Every ``<modality>_feat.npy`` is read; a warning names
    those of image, audio and text that are missing.

    Validation and test users are disjoint, and each has one held-out item.

    .. list-table::
        :header-rows: 1

        * - users
          - items
          - training
          - validation
          - test
          - image
          - audio
          - text
        * - 9,308
          - 6,710
          - 59,541
          - 3,051
          - 6,130
          - 128
          - 128
          - 768

    Of these, 10 users and 465 items have no training interaction; 223 validation pairs are on such
    items.

    Args:
        root: Folder of the dataset: either it holds the files itself, and is left unchanged, or
            they are in ``root/raw``, where they are downloaded to if they are missing.
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing and cannot be downloaded, are damaged, hold something else,
            or do not fit one another.
    """

    #: The files of one commit, which cannot change.
    url: ClassVar[str] = (
        "https://raw.githubusercontent.com/HKUDS/DiffMM/"
        "fae20e642aeeaad4284be6f7fb3432ebb551da8e/Datasets/tiktok"
    )
    #: The matrices come last, so that their presence means a finished download.
    checksums: ClassVar[dict[str, str]] = {
        "image_feat.npy": "sha256:f6c1ec1726ed2aa80315411199ab2143bee6333821bf58c5f00bd3f5b462efc2",
        "audio_feat.npy": "sha256:d45a44a9d462f578802de914c2feea5cfd45742b2922775a085b9bdc1beba26f",
        "text_feat.npy": "git:f056985c131d90c19c5265af033b095f525e5ce2",
        "valMat.pkl": "sha256:b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b",
        "tstMat.pkl": "sha256:e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e",
        "trnMat.pkl": "sha256:1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916",
    }

    def __init__(
        self,
        root: str | Path | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        super().__init__(root, transform, pre_transform, force_reload)
        present = modalities(self._data)
        absent = [name for name in ("image", "audio", "text") if name not in present]
        if absent:
            warnings.warn(
                f"{self.raw_dir} has no features of {', '.join(absent)}; continuing with "
                f"{', '.join(present) or 'interactions alone'}",
                stacklevel=2,
            )

    def download(self) -> None:
        """Download the files from DiffMM's repository into ``raw_dir`` and check them.

        Raises:
            DataError: If it does not succeed, naming the files and the folder.
        """
        folder = Path(self.raw_dir)
        for name, checksum in self.checksums.items():
            if (folder / name).exists():
                continue
            try:
                download_file(f"{self.url}/{name}", folder / name, checksum)
            except (DataError, OSError) as error:
                raise DataError(
                    f"TikTok cannot be downloaded ({error}); put {', '.join(self.raw_file_names)} "
                    f"and the features {', '.join(n for n in self.checksums if 'feat' in n)}, as "
                    f"far as you have them, into {self.root}"
                ) from None
