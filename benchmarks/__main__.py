"""`make bench`: every benchmark, one table, and the figures as JSON in artifacts/bench.json.

Both sides of each are timed in this process, in turns, and their results are asserted to be equal. Ratios are
what counts; --quick takes less of everything, to see that they run.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from benchmarks import (
    attention,
    attention_in_the_loop,
    dataloader,
    decoding,
    extraction,
    folds,
    growth,
    head_epoch,
    int8,
    internet_scale,
    on_gpu,
    photos_to_score,
    prediction,
    read_cache,
    remote,
    scale,
    shards,
    startup,
    trunk_forward,
    trunk_in_the_loop,
    workers,
)
from pipeline.runs.table import table


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_args().quick
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    print("  ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    benchmarks = (
        read_cache,
        dataloader,
        head_epoch,
        folds,
        int8,
        trunk_forward,
        trunk_in_the_loop,
        attention,
        attention_in_the_loop,
        decoding,
        extraction,
        growth,
        photos_to_score,
        prediction,
        remote,
        workers,
        scale,
        shards,
        internet_scale,
        startup,
        on_gpu,
    )
    rows = [row for benchmark in benchmarks for row in benchmark.run(quick)]
    columns = ("name", "ours", "theirs", "unit", "ratio", "target")
    print(table(columns, [[_cell(row[column]) for column in columns] for row in rows]))
    path = Path("artifacts/bench.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(path)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
