"""Steps of a long experiment: commands of this project, each run once, resumed if interrupted.

Several processes, on one machine or on several with a shared folder, may run the same experiment.
"""

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

CONVERGED = 0.01  # largest relative change of E_rec over the last tenth of a training


def make(target: Path, *command: str, resume: bool = False, wait: bool = True) -> bool:
    """Run a command that writes `target`, unless it has done so before.

    TARGET.made keeps the command and its seconds; an output of another command is an error. A step
    that another process is making is waited for, or left to it.

    Returns:
        whether the target is there.
    """
    done = target.with_name(f"{target.name}.made")
    words = [*command, "-o", str(target)]
    asked = " ".join(words)
    making = target.with_name(f"{target.name}.making")
    with making.open("w") as lock:  # it goes with the process, and with the command
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                return False
            print(f"{target} is being made by another process; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run(target, words, resume, lock)
        making.unlink(missing_ok=True)
    _, made_by = done.read_text().splitlines()
    if made_by != asked:
        sys.exit(f"{target} was made by\n  {made_by}\nnot by\n  {asked}\nchoose another -o")
    return True


def _run(target: Path, words: list[str], resume: bool, lock: TextIO) -> None:
    """Run a command, and write down that it is done."""
    going_on = resume and target.with_suffix(".state.safetensors").exists()
    asked = " ".join(words)
    print("$", asked, flush=True)
    start = time.monotonic()
    run = [sys.executable, "-m", words[0].replace("-", "_"), *words[1:]]
    run.append("--resume" if going_on else "--force")
    # not subprocess.run, which on Ctrl-C kills a training that is about to save its state
    command = subprocess.Popen(run, pass_fds=[lock.fileno()])
    try:
        status = command.wait()
    except KeyboardInterrupt:  # the command has it as well
        command.wait()
        raise
    if status:
        sys.exit(status)
    # of a resumed training only the time since then
    seconds = f"{time.monotonic() - start:.0f}{' and more' if going_on else ''}"
    target.with_name(f"{target.name}.made").write_text(f"{seconds}\n{asked}\n")


def interruptible(main: Callable[[], None]) -> None:
    """Run the main function of an experiment; after Ctrl-C a line and exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)


def minutes(target: Path) -> str:
    """Minutes that a step took; + where it was resumed."""
    made = target.with_name(f"{target.name}.made").read_text()
    seconds, *more = made.splitlines()[0].split()
    return f"{float(seconds) / 60:.1f}{'+' if more else ''}"


def e_rec_by_epoch(model: Path) -> dict[int, float]:
    """Epoch -> test E_rec in mm of a training, or AVD_neu of one that has no E_rec.

    Empty where there is no log.
    """
    log = model.with_suffix(".jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    measured = [r for r in records if "test" in r]
    return {r["epoch"]: r["test"].get("e_rec", r["test"].get("avd_neu"))["mean"] for r in measured}


def last_change(curve: Mapping[int, float]) -> str:
    """Relative change of E_rec over the last tenth of a training, as text."""
    end = max(curve)
    before = max((epoch for epoch in curve if epoch <= 0.9 * end), default=end)
    if before == end:
        return "?"
    # evaluated less often than every tenth: the part of the change that a tenth has
    change = (curve[end] / curve[before] - 1) * min(1.0, 0.1 * end / (end - before))
    return f"{change:+.1%}" + ("" if abs(change) < CONVERGED else ", not converged")
