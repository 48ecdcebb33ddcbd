"""couplingkit measures how much the dense features of one object soak up its neighbours.

Axes of tensors: N probes, B batch, D channels, H W pixels, h w feature cells. Images are float32 (..., 3, H, W), sRGB
in [0, 1]; masks are bool (..., H, W); cells are float32 (..., h, w). Lengths are in px, or in canvas units (1/224 of
the canvas side) where a probe is described; angles are in rad; a stride is px per cell.

The public names stand once, in `__init__.pyi`; each is loaded when it is first used, so that `import couplingkit`
costs nothing.
"""

import logging

import lazy_loader

from .notes import OnceHandler

logging.getLogger(__name__).addHandler(OnceHandler())
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
