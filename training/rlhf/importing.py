"""Importing torch and transformers takes seconds, so each command imports only what it needs, and does it here."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What they read when they are imported.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait starve a web server on the same cores
    "GOMP_SPINCOUNT": "5000",  # spin for a moment still: not to spin at all costs a small model a third of its step
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it sums on a GPU differ from run to run
}


@contextmanager
def importing() -> Iterator[None]:
    """For a command's imports, which find their environment and take a quarter less time.

    They make half a million objects that stay for as long as the process. Looking for garbage among them again and
    again is what takes that time, so it is not done in the block, and not among them later on.
    """
    os.environ.update(ENVIRONMENT)
    if "torch" in sys.modules:  # little is left to import, and what is garbage now would be kept
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
