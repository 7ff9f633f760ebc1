"""Import this before torchvision, timm or Lightning: torchvision's Python parts then work beside a CPU build of torch.

The torchvision wheel on PyPI is compiled against the CUDA build of torch.  Beside a CPU build its compiled operators
cannot load, and ``import torchvision`` fails on the two that it registers shape functions for.  Nothing here uses
either (they are for object detection), so declaring their schemas is enough.  Where torchvision imports as it is,
nothing is declared; where it is not installed, importing it later says so.
"""

from __future__ import annotations

import sys

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


def _import_torchvision() -> None:
    try:
        import torchvision
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
        _declared.append(library)
        import torchvision  # noqa: F401


_import_torchvision()
