"""What an export needs besides the package itself, and what its libraries say that no user can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO

from ..errors import InputError
from ..output.processes import process_count

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def require_onnx() -> None:
    """Refuse to start where a package is missing, or in several processes.

    Raises:
        InputError: says what to install.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InputError(
            f"export: expected the packages {', '.join(PACKAGES)}, got an environment without {', '.join(missing)}; "
            "pip install 'ted-distill[onnx]'"
        )
    if find_spec("transformers.exporters") is None:
        raise InputError(
            f"export: expected a version of transformers that exports to ONNX, got {version('transformers')}; "
            "pip install 'transformers>=5.17'"
        )
    if process_count() > 1:
        raise InputError("export: expected one process, got several; start it without torchrun")


def package_versions() -> dict[str, str]:
    """Versions of the packages that wrote and ran the files."""
    return {name: version(name) for name in PACKAGES}


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what exporters say to themselves from the user: steps on stdout, and advice on their own options.

    Errors are still logged, and all warnings shown but one, about a class of PyTorch that PyTorch's own code uses.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(logging.WARNING, disabled))
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        logging.disable(disabled)
