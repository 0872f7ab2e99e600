"""All benchmarks in the order of the page, and whom each races: where the other side's source is.

A benchmark is a module of this package with `run(quick)`, which gives rows (`alone.py`). Which function is
the rival depends on the row: the first whose key is a part of the row's name. Without a function it is the
file.
"""

BENCHMARKS: dict[str, dict[str, str]] = {
    "read_cache": {"np.take": "read_cache.run", "": "read_cache.h5py_take"},
    "dataloader": {"h5py": "dataloader.H5pyRows", "": "dataloader.taken"},
    "head_epoch": {
        "DataLoader": "head_rivals.Textbook",
        "chunked": "head_rivals.Textbook",
        "stacked": "head_rivals.Stacked",
        "GEMM": "head_epoch.race",
        "": "head_epoch.stacked_and_single",
    },
    "folds": {"": "folds.one_by_one"},
    "int8": {"Size": "int8.run", "Random": "int8.read", "": "scale.seconds_per_row"},
    "trunk_forward": {"": "trunk_forward._compare"},
    "trunk_in_the_loop": {"image files": "trunk_in_the_loop.decoding", "": "trunk_in_the_loop.LoopMaps"},
    "attention": {"": "attention_rivals.PlainStep"},
    "attention_in_the_loop": {"": "attention_in_the_loop.LoopMaps"},
    "decoding": {
        "torchvision": "decoding.by_torchvision",
        "cutting": "decoding.resize",
        "": "decoding.by_pillow",
    },
    "extraction": {"": "extraction.bare_forward"},
    "growth": {"": "growth.extract"},
    "first_answer": {
        "no choice": "plain_answer.single_probe",
        "penalties": "plain_answer.chosen_probe",
        "": "plain_answer.fullnet",
    },
    "photos_to_score": {"": "plain_probe"},
    "prediction": {"": "extraction.extraction"},
    "pretraining": {"": "pretraining.Rival"},
    "remote": {"loop": "remote.one_by_one", "": "remote.read"},
    "workers": {"sleeping": "workers.on_devices", "": "workers.on_cores"},
    "scale": {
        "memory": "scale.memory",
        "sorted": "scale.trained",
        "": "scale.seconds_per_row",
    },
    "shards": {"array": "shards.array_each", "": "read_cache.race"},
    "internet_scale": {"": "internet_scale.measure"},
    "worker_list": {"": "worker_list.measure"},
    "startup": {"": "startup.work"},
    "ledger": {"loop": "ledger.plain_loop", "": "ledger.scores_of"},
    "on_gpu": {
        "trunk": "on_gpu.trunk_forward",
        "extraction": "on_gpu.extraction",
        "20 epochs of": "on_gpu.twenty_epochs",
        "": "on_gpu.sweep",
    },
    "photos_on_gpu": {"": "photos_on_gpu.by_hand"},
    "gpu_races": {
        "attention": "gpu_rivals.AttentionNet",
        "of the engine": "gpu_races.fullnet",
        "": "gpu_rivals.TenCropNet",
    },
}


def rival(benchmark: str, row: str) -> str:
    """The other side of a row: a module of this package, and a function in it."""
    return next((name for part, name in BENCHMARKS.get(benchmark, {}).items() if part in row), benchmark)
