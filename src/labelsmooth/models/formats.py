"""The file formats of an exported model: each writer turns a module into bytes and a function that runs them."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelsmooth.errors import UserError
from labelsmooth.extras import require

Run = Callable[[Tensor], "tuple[NDArray[np.float32], NDArray[np.float32]]"]
Metadata = dict[str, str]
OUTPUTS = ("probabilities", "logits")


def _onnx(module: nn.Module, example: Tensor, metadata: Metadata) -> tuple[bytes, Run]:
    require("export", "ONNX")
    onnxruntime: Any = importlib.import_module("onnxruntime")

    with _third_party("ONNX"):
        program = _exported(module, example).run_decompositions(_FOR_ONNX)
        made: Any = torch.onnx.export(
            program, (example,), input_names=["images"], output_names=list(OUTPUTS), dynamo=True, verbose=False
        )
        proto = made.model_proto
        _name_batch(proto.graph)
        for key, value in metadata.items():
            proto.metadata_props.add(key=key, value=value)
        content: bytes = proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Any:
        return tuple(session.run(list(OUTPUTS), {"images": images.numpy()}))

    return content, run


def _torchscript(module: nn.Module, example: Tensor, metadata: Metadata) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    jit: Any = torch.jit  # untyped
    with _third_party("TorchScript"), torch.no_grad():
        jit.save(jit.trace(module, (example,), check_trace=False), buffer, _extra_files=metadata)
        buffer.seek(0)
        again = jit.load(buffer)
    return buffer.getvalue(), _run_module(again)


def _pt2(module: nn.Module, example: Tensor, metadata: Metadata) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    with _third_party("pt2"):
        torch.export.save(_exported(module, example), buffer, extra_files=metadata)
        buffer.seek(0)
        again = torch.export.load(buffer).module()
    return buffer.getvalue(), _run_module(again)


WRITERS: dict[str, Callable[[nn.Module, Tensor, Metadata], tuple[bytes, Run]]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "pt2": _pt2,
}


def _exported(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))


def _run_module(module: Callable[[Tensor], Any]) -> Run:
    def run(images: Tensor) -> Any:
        with torch.no_grad():
            return tuple(output.numpy() for output in module(images))

    return run


def _searchsorted(sorted_sequence: Tensor, values: Tensor, **_: Any) -> Tensor:
    """ONNX has no binary search: count the knots below each value."""
    return (sorted_sequence[..., None, :] < values[..., :, None]).sum(-1)


def _softplus(x: Tensor, *_: Any) -> Tensor:
    """onnxruntime has no Softplus in float64."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


# Used by the calibrators that work in float64: isotonic and histogram, and beta.
_FOR_ONNX: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.searchsorted.Tensor: _searchsorted,
    torch.ops.aten.softplus.default: _softplus,
}


_TRACER_WARNING: type[Warning] = getattr(torch.jit, "TracerWarning")  # noqa: B009 (not exported to mypy)


def _name_batch(graph: Any) -> None:
    """Rename the exporter's symbol for the number of images to N."""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == symbol:
                dim.dim_param = "N"


@contextlib.contextmanager
def _third_party(name: str) -> Iterator[None]:
    """Silence the exporters, and turn what they raise into a UserError."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=_TRACER_WARNING)
            warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated")
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    except UserError:
        raise
    except Exception as error:  # the exporters raise errors of many kinds
        lines = str(error).strip().splitlines() or [""]
        raise UserError(
            f"{name} cannot express this network ({type(error).__name__}: {lines[0][:200]}). Try another --format."
        ) from error
    finally:
        logger.setLevel(level)
