"""A throw-away installation: a data directory of its own, a free port, real processes, and nothing left behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_S = 150  # a worker may take two minutes to write a checkpoint
FOREIGN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PUBLIC_URL", "ALLOWED_HOSTS", "BASE_MODELS_DIR")


class Installation:
    """Processes and data that exist inside a `with` block."""

    def __init__(self) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="roundtable-demo-"))
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        # Whatever the shell configures is somebody's installation.
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.environment = kept | {"DATA_DIR": str(self.data_dir), "PORT": str(self.port), "PUBLIC_URL": self.url}
        self.log = self.data_dir / "demo.log"
        self.launcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Installation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def manage(self, *arguments: str) -> str:
        """What `manage.py` prints. Raises CalledProcessError."""
        return self._python("manage.py", *arguments)

    def prepare(self) -> None:
        """Make database and static files. Raises CalledProcessError."""
        self._python("deploy/prepare.py")

    def start(self) -> None:
        """Start web, worker, gpu-worker and beat, as `make run` does."""
        command = [sys.executable, "deploy/child.py", "deploy/run.py"]
        with self.log.open("wb") as log:
            self.launcher = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches it once, through `stop`
            )

    @property
    def is_running(self) -> bool:
        return self.launcher is not None and self.launcher.poll() is None

    def stop(self) -> None:
        """End every process."""
        if self.launcher is None:
            return
        self.launcher.send_signal(signal.SIGTERM)
        try:
            self.launcher.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.launcher.kill()  # its children end with it
            self.launcher.wait()

    def log_tail(self) -> str:
        """The last lines of every log."""
        logs = [self.log, *sorted((self.data_dir / "logs").glob("*.log"))]
        tails = [f"{path.name}:\n" + "\n".join(path.read_text("utf-8", "replace").splitlines()[-15:]) for path in logs]
        return "\n\n".join(tails)

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
