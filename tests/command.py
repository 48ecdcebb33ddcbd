"""The command line in tests: in this process, or as processes of its own."""

import os
import socket
import subprocess
import sys

from click.testing import CliRunner
from couplingkit.cli.main import main


def run(*words):
    """Run a command here; the result has exit_code, stdout, stderr."""
    return CliRunner().invoke(main, [str(word) for word in words])


def free_port():
    """A port that nobody listens on: tests run side by side, and each that starts processes needs one of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*words, processes=1, **more):
    """Start a command as a process of its own, or as several as torchrun starts them."""
    command = [sys.executable, "-m", "couplingkit"]
    if processes > 1:
        torchrun = ["torch.distributed.run", "--nproc_per_node", processes, "--master_port", free_port()]
        command = [sys.executable, "-m", *torchrun, "-m", "couplingkit"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in (*command, *words)], env=environment, **pipes, **more)
