import subprocess
from collections.abc import Sequence


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, which Ctrl-C does not bring: what is half made then would be in the way."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        start_new_session=True,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The line of its output that says why it failed: the first that calls itself an error, or the last."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"]
    return next((line for line in lines if "[ERROR]" in line), lines[-1]).strip()
