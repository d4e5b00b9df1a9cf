"""The command line: `python -m training.rlhf STAGE RUN_DIR`; `reproduce` runs it again and compares the bytes.

`inspect`, `examine` and `adopt` look at what a stage uses, `memory` counts what it needs; `merge` makes a whole model
of an adapter.
"""

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from . import endings, parent_process
from .config import STAGES, LearningConfig, RunConfig, load_config
from .exits import DONE, NOT_REPRODUCED, EngineExit, InvalidInput, NeedsPerson, RankLost, current_fence
from .importing import importing

if TYPE_CHECKING:
    from .run.directory import RunDirectory

CRASHED = 1  # the interpreter's own exit status after an exception


def main(arguments: list[str]) -> int:
    """Run a command; its exit status tells the supervisor what to do next."""
    options = parse_arguments(arguments)
    without_ending: dict[str, Callable[[], int | None]] = {
        "inspect": lambda: show(options.run_dir, options.step),
        "reproduce": lambda: reproduce(options.run_dir),
        "merge": lambda: merge(options.adapter_dir, options.trunk_dir, options.out_dir),
    }
    if options.command in without_ending:  # they only read, or write elsewhere
        return exit_status(without_ending[options.command], None)
    if options.command == "memory":  # only reads, unless it has a file to write
        return exit_status(lambda: count_memory(options), options.out.parent if options.out else None)
    if options.command == "examine":
        folder = options.directory if options.directory.is_dir() else None
        return exit_status(lambda: examine(options.directory), folder)
    if options.command == "adopt":
        options.out.mkdir(parents=True, exist_ok=True)
        return exit_status(lambda: adopt(options.directory, options.out, options.context), options.out)
    return exit_status(lambda: run_attempt(options.command, options.run_dir), attempt_folder(options.run_dir))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command and what it is about."""
    parser = argparse.ArgumentParser(prog="python -m training.rlhf", description=__doc__)
    names = "|".join([*STAGES, "reproduce", "memory", "merge", "inspect", "examine", "adopt"])
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    for stage, cfg in STAGES.items():
        commands.add_parser(stage, help=cfg.__doc__).add_argument("run_dir", type=Path)
    reproduce_parser = commands.add_parser("reproduce", help="run a finished run again and compare the bytes")
    reproduce_parser.add_argument("run_dir", type=Path)
    memory_parser = commands.add_parser("memory", help="count the peak memory of stages, without loading weights")
    memory_parser.add_argument("run_dirs", type=Path, nargs="+", metavar="run_dir")
    memory_parser.add_argument("--device", choices=("cuda", "cpu"), help="count for this one, and not the one here")
    memory_parser.add_argument(
        "--within", type=int, metavar="BYTES", help="also look for the settings with which each stage fits into so many"
    )
    memory_parser.add_argument("--json", action="store_true", help="print bytes as JSON")
    memory_parser.add_argument("--out", type=Path, metavar="FILE", help="write that JSON into a file")
    merge_parser = commands.add_parser("merge", help="make a whole model of an adapter and the model it stands on")
    for name in ("adapter_dir", "trunk_dir", "out_dir"):
        merge_parser.add_argument(name, type=Path)
    inspect_parser = commands.add_parser("inspect", help="print samples of a PPO step, token by token")
    inspect_parser.add_argument("run_dir", type=Path)
    inspect_parser.add_argument("step", type=int)
    examine_parser = commands.add_parser("examine", help="report what a round's records would train on")
    examine_parser.add_argument("directory", type=Path)
    adopt_parser = commands.add_parser("adopt", help="check a base model and copy the files that stages may read")
    adopt_parser.add_argument("directory", type=Path)
    adopt_parser.add_argument("out", type=Path)
    adopt_parser.add_argument(
        "--context", type=int, help="context length in tokens, if the config has none or to use a shorter one"
    )
    return parser.parse_args(arguments)


def exit_status(work: Callable[[], int | None], folder: Path | None) -> int:
    """The exit status of `work`. Where it fails, `folder` gets an ending.json, and a crash is raised again."""
    if folder and not endings.own_rank():
        (folder / endings.FILE).unlink(missing_ok=True)  # of an earlier try
    try:
        return work() or DONE
    except RankLost as error:
        print(error, file=sys.stderr)
        return CRASHED
    except Exception as error:
        end = error
        if endings.is_disk_full(error):
            end = NeedsPerson(f"the disk is full: {error}", kind="disk")
        if folder:
            write_ending(folder, end)
        if not isinstance(end, EngineExit):
            raise
        print(end, file=sys.stderr)
        return end.code


def write_ending(folder: Path, end: Exception) -> None:
    """Write why this process ends; of several ranks, only the one that made the others end as well."""
    ending = endings.describe(end)
    rank = endings.own_rank()
    if rank is None:
        endings.write(folder, ending)
    elif endings.claim(folder):
        # The launcher has an exit status of its own, so the supervisor reads this one here.
        endings.write(
            folder, {**ending, "rank": rank, "exit_code": end.code if isinstance(end, EngineExit) else CRASHED}
        )


def attempt_folder(run_dir: Path) -> Path | None:
    """The folder of the attempt that the fence names; None where there is no run directory."""
    return run_dir / "attempts" / current_fence(run_dir) if run_dir.is_dir() else None


def run_attempt(stage: str, run_dir: Path) -> None:
    """Run a stage in its directory, or resume it from the newest checkpoint. Raises EngineExit."""
    if endings.own_rank() is not None:  # the signals of a supervisor reach its launcher only
        parent_process.die_with(os.getppid())
    cfg = load_config(run_dir / "config.json")
    if cfg.stage != stage:
        raise InvalidInput(f"config.json is for the stage {cfg.stage}, not {stage}", kind="config", field="stage")
    with importing():  # only here: a bad config is refused at once
        import torch

        from . import ranks
        from .run import rank_notes, recovery
        from .run.directory import RunDirectory

        import_module(f"{__package__}.stages.{stage}")

    torch.set_num_threads(cfg.threads)
    if torch.cuda.is_available():  # the CPU's algorithms are deterministic anyway
        torch.use_deterministic_algorithms(True, warn_only=True)
    # Before a supervisor kills an engine that hangs, this signal has it print on standard error where it hangs.
    faulthandler.register(signal.SIGUSR1, file=2)
    ranks.join(cfg.processes, partial(rank_notes.write, run_dir / "attempts" / current_fence(run_dir)))
    run = RunDirectory(run_dir)
    run.stop_on_sigterm()
    if not run.is_finished:
        recovery.run_with_recovery(run, cfg, call_stage)
    ranks.leave()


def call_stage(run: "RunDirectory", cfg: RunConfig) -> None:
    """Call the stage's module in stages/, which has its name."""
    if isinstance(cfg, LearningConfig):
        from .memory_count import decision

        cfg = decision.with_auto_decided(run.path, cfg)
    import_module(f"{__package__}.stages.{cfg.stage}").run_stage(run, cfg)


def reproduce(run_dir: Path) -> int:
    """Run a finished run again in another directory and print whether both agree. Raises EngineExit."""
    with importing():
        from .run import reproduction

    return DONE if reproduction.reproduce(run_dir, run_attempt) else NOT_REPRODUCED


def show(run_dir: Path, step: int) -> None:
    """Print some samples of a PPO step token by token."""
    with importing():
        from .stages import inspection

    inspection.show(run_dir, step)


def count_memory(options: argparse.Namespace) -> None:
    """Print what the stages in run directories need at their peaks."""
    with importing():
        from .memory_count import report

    report.show(options.run_dirs, options.device, within=options.within, as_json=options.json, out=options.out)


def merge(adapter: Path, trunk: Path, out: Path) -> None:
    """Make a whole model of an adapter and its base."""
    with importing():
        from .networks import merging

    merging.merge(adapter, trunk, out)


def examine(directory: Path) -> None:
    """Examine what a round's records would train; the result is written into the same directory."""
    with importing():
        from .examinations import dataset

    dataset.examine(directory)


def adopt(directory: Path, out: Path, context: int | None) -> None:
    """Examine a base model; the report, and what is adopted, are written into `out`."""
    with importing():
        from .examinations import adoption

    adoption.adopt(directory, out, context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
