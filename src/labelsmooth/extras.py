"""The optional dependencies: what each extra installs, and a sentence with the install line for what is missing."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

from labelsmooth.errors import UserError

# Distribution and module of all that each extra installs; the versions are in pyproject.toml.
EXTRAS = {
    "cli": {
        "filelock": "filelock",
        "jinja2": "jinja2",
        "matplotlib": "matplotlib",
        "pyarrow": "pyarrow",
        "pydantic": "pydantic",
        "rich": "rich",
        "scikit-learn": "sklearn",
        "typer": "typer",
    },
    "study": {
        "lightning": "lightning",
        "loky": "loky",
        "pyyaml": "yaml",
        "safetensors": "safetensors",
        "tensorboard": "tensorboard",
        "timm": "timm",
        "torchmetrics": "torchmetrics",
        "torchvision": "torchvision",
    },
    "export": {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    "cluster": {"ray": "ray"},
    "fastai": {"fastai": "fastai"},
    "heic": {"pillow-heif": "pillow_heif"},
}


class MissingExtraError(UserError, ImportError):
    """A feature needs packages that are not installed; the message has the install line."""


def missing(extra: str) -> list[str]:
    """The distributions of an extra that are not installed."""
    return [name for name, module in EXTRAS[extra].items() if not _installed(module)]


def require(extra: str, feature: str) -> None:
    """Raise MissingExtraError unless everything that an extra installs can be imported."""
    names = missing(extra)
    if names:
        raise MissingExtraError(f"{feature} needs {', '.join(names)}: pip install 'labelsmooth[{extra}]'.")


def version(distribution: str) -> str:
    """The version of a distribution, or "not installed"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a module that is set to None in sys.modules
        return False
