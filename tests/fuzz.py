"""Every reader against damaged files: refused in one line or read, never worse.

    python tests/fuzz.py --seconds 60 --seed 0 --only ply
    python tests/fuzz.py --only ply --repeat build/fuzz/ply-0-17.ply

A finding is anything but InputError or success, more than five seconds, more memory than a small
file is worth, a message that is not one short line, or a file where none should be.  Then the input
is kept, the line that repeats it is printed, and the exit code is 1.
"""

import argparse
import contextlib
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_mutations import damaged
from fuzz_readers import Reader, make_readers

from facedis_core.errors import InputError

SECONDS_EACH = 5
MEMORY_EACH = 256 << 20  # beside what the process has anyway; the files are small
PROCESS_MEMORY = 1 << 30
BATCH = 200  # cases a child process
REFUSED, ACCEPTED = "refused", "accepted"


@dataclass
class Tally:
    """What became of the cases of one reader."""

    outcomes: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    findings: list[str] = field(default_factory=list)


def case(reader: Reader, name: str, seed: int, number: int) -> bytes:
    """The same damage for the same numbers."""
    return damaged(
        random.Random(f"{name} {seed} {number}"), reader.seeds, with_header=name == "container"
    )


def try_file(reader: Reader, path: Path) -> str:
    """`refused`, `accepted`, or what is wrong."""
    signal.alarm(SECONDS_EACH)
    try:
        reader.read(path)
    except InputError as error:
        text = str(error)
        if not text.isprintable() or len(text) > reader.longest_message:
            return f"a message that is not one short line: {text[:500]!r}"
        if "memory" in text:
            return f"more than {MEMORY_EACH >> 20} MB: {text}"
        return REFUSED
    except MemoryError:
        return f"more than {MEMORY_EACH >> 20} MB:\n{traceback.format_exc()}"
    except BaseException:
        return f"not an InputError:\n{traceback.format_exc()}"
    finally:
        signal.alarm(0)
    return ACCEPTED


def try_file_in(reader: Reader, path: Path, work: Path) -> str:
    """Likewise, and nothing in the folder may change."""
    before = contents(work)
    outcome = try_file(reader, path)
    return outcome if contents(work) == before else "a file has changed or appeared"


def in_child(work: Callable[[], Iterator[str]]) -> Generator[str, None, None]:
    """What `work` yields, done in a process that may die; then how it ended if that was early."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_EACH,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with os.fdopen(writing, "w", encoding="utf-8", errors="backslashreplace") as results:
                for outcome in work():
                    results.write(outcome + "\0")
                    results.flush()
        finally:
            os._exit(0)
    os.close(writing)
    ended = False
    try:
        with os.fdopen(reading, encoding="utf-8") as results:
            text = ""
            while piece := results.read(1):
                if piece == "\0":
                    yield text
                    text = ""
                else:
                    text += piece
        ended = True
    finally:
        if not ended:  # nobody waits for the rest
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        yield f"more than {SECONDS_EACH} s"
    elif code:
        yield f"the process ended with {code}"


def try_cases(
    reader: Reader, name: str, seed: int, numbers: range, work: Path
) -> Generator[tuple[int, str], None, None]:
    """Outcomes of these cases; a finding ends them."""
    path = work / f"case{reader.suffix}"

    def outcomes() -> Iterator[str]:
        for number in numbers:
            path.write_bytes(case(reader, name, seed, number))
            yield try_file_in(reader, path, work)

    with contextlib.closing(in_child(outcomes)) as found:
        yield from zip(numbers, found, strict=False)


def contents(folder: Path) -> Mapping[str, int]:
    """Names and sizes of everything below."""
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


def try_command(reader: Reader, command: str, path: Path, work: Path) -> str:
    """A whole process: exit 0 or 3, one line, not slow, not large, nothing written elsewhere."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        filled = command.format(file=path, out=out, work=work)
        words, _, source = filled.partition(" < ")
        program, *arguments = shlex.split(words)
        module = program.replace("-", "_")
        before = {name: size for name, size in contents(work).items() if not name.startswith(out)}
        with open(source.strip() or os.devnull, "rb") as stdin:  # noqa: PTH123
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (PROCESS_MEMORY,) * 2),
            )
            try:
                _, heard = process.communicate(timeout=2 * SECONDS_EACH)  # it also starts Python
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return f"{filled}: more than {2 * SECONDS_EACH} s"
        said = heard.decode(errors="replace").rstrip("\n")
        after = {name: size for name, size in contents(work).items() if not name.startswith(out)}
        lines = [line for line in said.split("\n") if "warning:" not in line] or [""]
        if process.returncode not in (0, 3) or (process.returncode == 3 and len(lines) != 1):
            return f"{filled}: exit {process.returncode}\n{said}"
        if max(map(len, lines)) > reader.longest_message or "into memory" in said:
            return f"{filled}: not one short line, or too much memory\n{said[:500]}"
        if before != after:
            return f"{filled}: changed or made {sorted(set(after.items()) ^ set(before.items()))}"
    return REFUSED if process.returncode else ACCEPTED


def campaign(
    readers: Mapping[str, Reader],
    work: Path,
    *,
    seed: int,
    seconds: float,
    cases: int | None = None,
    processes: bool = True,
) -> dict[str, Tally]:
    """All readers in turn, until the time is over or each has had so many cases.

    A reader with a finding gets no more.
    """
    tallies = {name: Tally() for name in readers}
    end = time.monotonic() + seconds
    begin = 0
    while time.monotonic() < end and (cases is None or begin < cases):
        numbers = range(begin, begin + BATCH if cases is None else min(begin + BATCH, cases))
        for name, reader in readers.items():
            tally = tallies[name]
            if tally.findings or time.monotonic() > end:
                continue
            with contextlib.closing(try_cases(reader, name, seed, numbers, work)) as outcomes:
                for number, outcome in outcomes:
                    tally.outcomes[outcome if outcome in (REFUSED, ACCEPTED) else "finding"] += 1
                    if outcome not in (REFUSED, ACCEPTED):
                        tally.findings.append(f"{number}: {outcome}")
                        break
            if processes and reader.commands and not tally.findings:
                number = numbers.start + tally.runs % len(numbers)
                path = work / f"case{reader.suffix}"
                path.write_bytes(case(reader, name, seed, number))
                command = reader.commands[tally.runs % len(reader.commands)]
                tally.runs += 1
                outcome = try_command(reader, command, path, work)
                if outcome not in (REFUSED, ACCEPTED):
                    tally.findings.append(f"{number}: {outcome}")
        begin = numbers.stop
    return tallies


def report(
    tallies: Mapping[str, Tally], readers: Mapping[str, Reader], seed: int, folder: Path
) -> int:
    """A line a reader; findings are kept; 1 where there were any."""
    for name, tally in tallies.items():
        counts = tally.outcomes
        print(
            f"{name:<10} {counts.total():>7} cases {counts[REFUSED]:>7} refused "
            f"{counts[ACCEPTED]:>7} accepted {tally.runs:>5} processes",
            flush=True,
        )
    found = False
    for name, tally in tallies.items():
        for finding in tally.findings:
            found = True
            number, _, what = finding.partition(": ")
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / f"{name}-{seed}-{number}{readers[name].suffix}"
            kept.write_bytes(case(readers[name], name, seed, int(number)))
            print(f"\n{name}: {what.rstrip()}")
            print(
                f"repeat: {shlex.join(['python', __file__, '--only', name, '--repeat', str(kept)])}"
            )
    return int(found)


def repeat(reader: Reader, kept: Path, work: Path) -> int:
    """One kept file through its reader and all its commands."""
    path = work / f"case{reader.suffix}"
    path.write_bytes(kept.read_bytes())
    (outcome,) = in_child(lambda: iter([try_file_in(reader, path, work)]))
    print(f"reader: {outcome}")
    outcomes = [outcome]
    for command in reader.commands:
        outcomes.append(try_command(reader, command, path, work))
        print(f"{command}: {outcomes[-1]}")
    return int(any(outcome not in (REFUSED, ACCEPTED) for outcome in outcomes))


def main(
    arguments: Sequence[str] | None = None,
    make: Callable[[Path], dict[str, Reader]] = make_readers,
) -> int:
    """The exit code: 0 where nothing was found, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long, all readers together")
    parser.add_argument("--cases", type=int, help="at most so many of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one reader")
    parser.add_argument("--no-processes", action="store_true", help="no whole commands")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="only this file")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for findings")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        readers = make(Path(folder))
        if options.only and options.only not in readers:
            parser.error(f"no reader {options.only!r}; choose {', '.join(readers)}")
        chosen = {name: readers[name] for name in ([options.only] if options.only else readers)}
        if options.repeat:
            if not options.only:
                parser.error("--repeat needs --only, which says what reads the file")
            return repeat(chosen[options.only], options.repeat, Path(folder))
        tallies = campaign(
            chosen,
            Path(folder),
            seed=options.seed,
            seconds=options.seconds,
            cases=options.cases,
            processes=not options.no_processes,
        )
        return report(tallies, chosen, options.seed, options.folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
