"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric.

The public names are listed in ``__init__.pyi`` and imported on first use: importing PyTorch takes
seconds, which ``graphdiff --help`` should not wait for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
