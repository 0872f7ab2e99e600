"""Break the code in one place at a time, in a copy, and see that a test notices.

    make mutants                       all of them, some seconds each
    make mutants ARGS='pipeline'       those of one list
    make mutants ARGS='pipeline 3 17'  these alone

Prints a line for each and exits with 1 if one survives. A list says which other tests are tried where the
likeliest module doesn't notice. The tests are run once on the code as it is, where they have to pass.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import cache, pipeline
from mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
LISTS = {"cache": cache, "pipeline": pipeline}
SECONDS = 900


def main(words: list[str]) -> int:
    names = [word for word in words if word in LISTS] or list(LISTS)
    numbers = [int(word) for word in words if word not in LISTS]
    tried = survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            mutants, tree = LISTS[name].MUTANTS, Path(folder) / name
            others = LISTS[name].copy_tree(ROOT, tree)
            wanted = numbers or list(range(len(mutants)))
            modules = sorted({mutants[number].tests for number in wanted})
            if failed := first_failure(tree, modules):
                print(f"{name}: {failed} fails on the code as it is; fix that first")
                return 1
            for number in wanted:
                start = time.perf_counter()
                killer = killer_of(mutants[number], tree, others)
                tried, survivors = tried + 1, survivors + (not killer)
                outcome = f"killed by {killer}" if killer else "SURVIVED"
                file, old, new, _ = mutants[number]
                seconds = time.perf_counter() - start
                change = f"{file}: {old!r} → {new!r}"
                print(f"{name} {number:3}  {change}: {outcome} ({seconds:.0f} s)", flush=True)
    print(f"{tried - survivors} killed, {survivors} survived")
    return int(bool(survivors))


def killer_of(mutant: Mutant, tree: Path, others: list[str]) -> str:
    """The test that notices, or nothing; the tree is as before afterwards."""
    path = tree / mutant.file
    good = path.read_text()
    count = good.count(mutant.old)
    assert count == 1, f"{mutant.file}: {mutant.old!r} stands there {count} times"
    path.write_text(good.replace(mutant.old, mutant.new))
    try:
        rest = [name for name in others if name != mutant.tests]
        return first_failure(tree, [mutant.tests]) or (first_failure(tree, rest) if rest else "")
    finally:
        path.write_text(good)


def first_failure(tree: Path, modules: list[str]) -> str:
    """The test of these modules that fails first, or nothing."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rf", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *modules], cwd=tree, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return ""  # perhaps the machine is busy: try this one alone
    if done.returncode not in (1, 2):  # a test failed, or couldn't be imported
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::")[-1].split(" - ")[0] if failed else f"exit code {done.returncode}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
