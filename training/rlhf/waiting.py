"""`python -m training.rlhf.waiting`: imports what every stage uses, and then waits on standard input for its command.

The supervisor writes one line, {"arguments": [...], "log": path}, or closes the pipe.
"""

import json
import os
import sys
from importlib import import_module

from .__main__ import main
from .config import STAGES
from .exits import DONE
from .importing import importing


def wait() -> int:
    """Run the command that comes, with all output appended to its log; its exit status."""
    with importing():
        for stage in STAGES:
            import_module(f"{__package__}.stages.{stage}")
    line = sys.stdin.readline()
    if not line:  # nobody needs it any more
        return DONE
    order = json.loads(line)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    return main(order["arguments"])


if __name__ == "__main__":
    sys.exit(wait())
