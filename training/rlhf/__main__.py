"""The command line: `python -m training.rlhf STAGE RUN_DIR`; `inspect`, `examine` and `adopt` look at what it uses."""

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import endings
from .config import (
    STAGES,
    EvaluationConfig,
    PPOConfig,
    PretrainingConfig,
    RewardConfig,
    RunConfig,
    SamplingConfig,
    SFTConfig,
    load_config,
)
from .exits import DONE, EngineExit, InvalidInput, NeedsPerson, current_fence

if TYPE_CHECKING:
    from .run.directory import RunDirectory

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait starve the web server on the same cores
    "GOMP_SPINCOUNT": "5000",  # microseconds at most: not to spin at all costs a small model a third of its step
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it sums on a GPU differ from run to run
}


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit status tells the supervisor what to do next."""
    parser = argparse.ArgumentParser(prog="python -m training.rlhf", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="|".join([*STAGES, "inspect", "examine", "adopt"])
    )
    for stage, cfg in STAGES.items():
        commands.add_parser(stage, help=cfg.__doc__).add_argument("run_dir", type=Path)
    inspect = commands.add_parser("inspect", help="print some samples of a PPO step token by token")
    inspect.add_argument("run_dir", type=Path)
    inspect.add_argument("step", type=int)
    look = commands.add_parser("examine", help="say before a round what its records would train")
    look.add_argument("directory", type=Path)
    take = commands.add_parser("adopt", help="examine a base model, and keep of it what every stage may read")
    take.add_argument("directory", type=Path)
    take.add_argument("out", type=Path)
    take.add_argument("--context", type=int, help="tokens that it can read, where its config does not say, or fewer")
    options = parser.parse_args(arguments)
    if options.command == "inspect":  # which only reads: it leaves nothing in a run's directory
        return concluded(lambda: show(options.run_dir, options.step), None)
    if options.command == "examine":
        folder = options.directory if options.directory.is_dir() else None
        return concluded(lambda: examine(options.directory), folder)
    if options.command == "adopt":
        options.out.mkdir(parents=True, exist_ok=True)
        return concluded(lambda: adopt(options.directory, options.out, options.context), options.out)
    return concluded(lambda: perform(options.command, options.run_dir), attempt_of(options.run_dir))


def concluded(work: Callable[[], None], folder: Path | None) -> int:
    """The exit status of `work`; where it did not end well, `folder` says why as data. A crash is raised on."""
    if folder:
        endings.discard(folder)
    try:
        work()
    except Exception as error:
        end = error
        if endings.fills_the_disk(error):
            end = NeedsPerson(f"the disk is full: {error}", kind="disk")
        if folder:
            endings.leave(folder, endings.describe(end))
        if not isinstance(end, EngineExit):
            raise
        print(end, file=sys.stderr)
        return end.code
    return DONE


def attempt_of(run_dir: Path) -> Path | None:
    """Where the attempt writes that the fence names now; None where there is no run."""
    return run_dir / "attempts" / current_fence(run_dir) if run_dir.is_dir() else None


def perform(stage: str, run_dir: Path) -> None:
    """Run a stage in its directory, on from where an earlier attempt was killed. Raises EngineExit where it cannot."""
    cfg = load_config(run_dir / "config.json")
    if cfg.stage != stage:
        raise InvalidInput(f"config.json is for the stage {cfg.stage}, not {stage}", kind="config", field="stage")
    os.environ.update(ENVIRONMENT)
    import torch  # late: a bad config is refused at once, and importing torch takes seconds

    from .run import recovery
    from .run.directory import RunDirectory

    torch.set_num_threads(cfg.threads)
    if torch.cuda.is_available():  # the CPU's algorithms are deterministic anyway
        torch.use_deterministic_algorithms(True, warn_only=True)
    run = RunDirectory(run_dir)
    run.stop_on_sigterm()
    # What a supervisor asks for before it ends an engine that hangs: on standard error, where it hangs.
    faulthandler.register(signal.SIGUSR1, file=2)
    if not run.is_finished:
        recovery.persevere(run, cfg, run_stage)


def run_stage(run: "RunDirectory", cfg: RunConfig) -> None:
    """Hand over to the stage's module, the only one that is imported."""
    match cfg:
        case PretrainingConfig():
            from .stages import pretraining

            pretraining.train(run, cfg)
        case SFTConfig():
            from .stages import sft

            sft.train(run, cfg)
        case RewardConfig():
            from .stages import reward

            reward.train(run, cfg)
        case PPOConfig():
            from .stages import ppo

            ppo.train(run, cfg)
        case EvaluationConfig():
            from .stages import evaluation

            evaluation.evaluate(run, cfg)
        case SamplingConfig():
            from .stages import sampling

            sampling.sample(run, cfg)


def show(run_dir: Path, step: int) -> None:
    """Print some samples of a PPO step token by token."""
    from .stages import inspection

    inspection.show(run_dir, step)


def examine(directory: Path) -> None:
    """Say what a round's records would train; the result lies beside the request."""
    os.environ.update(ENVIRONMENT)
    from .examinations import dataset

    dataset.examine(directory)


def adopt(directory: Path, out: Path, context: int | None) -> None:
    """Examine a base model; what is adopted of it, and the report, lie in `out`."""
    os.environ.update(ENVIRONMENT)
    from .examinations import adoption

    adoption.adopt(directory, out, context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
