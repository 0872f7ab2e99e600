"""Mutants of pipeline/ and experiments/ that went unnoticed once, and the tests that notice them now."""

# ruff: noqa: E501
# A mutant is a line.

import shutil
from pathlib import Path

from mutants.mutant import Mutant

RECIPE = "tests/pretraining/test_recipe.py"
CLAIM = "tests/runs/test_claim.py"
EQUAL = "tests/prediction/test_equal_to_evaluate.py"
ABLATION = "tests/experiments/test_crops_ablation.py"

MUTANTS = [
    # what a run is
    Mutant("pipeline/training/stage.py", 'hashlib.sha256(cache.labels.data).hexdigest()', '"constant"', CLAIM),
    Mutant("pipeline/runs/claim.py", 'IMMATERIAL = (\n    *("out",', 'IMMATERIAL = (\n    *("data_seed", "out",', CLAIM),
    Mutant("pipeline/runs/claim.py", 'IMMATERIAL = (\n    *("out",', 'IMMATERIAL = (\n    *("dropout", "out",', CLAIM),
    Mutant("pipeline/extraction/identity.py", '**({"views_seed": seed, "views_images": len(split)} if views.startswith("augment") else {}),', "", "tests/extraction/test_stale.py"),
    # parity with the live trunk
    Mutant("pipeline/extraction/parity.py", '{"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2, "int8": 1e-3}', '{"float32": 1e-1, "float16": 4e-1, "bfloat16": 3.0, "int8": 1e-1}', "tests/extraction/test_parity.py"),
    Mutant("pipeline/extraction/parity.py", "rows: int = 8", "rows: int = 1", "tests/extraction/test_parity.py"),
    # the ablation
    Mutant("experiments/crops/ablation.py", "best = choose(runs, grid)\n        heads = [head_folder(run, best", "best = grid[0]\n        heads = [head_folder(run, best", ABLATION),
    Mutant("experiments/crops/ablation.py", "val_fraction = 0.1 if variant.images > REDRAW_UP_TO else 0.2", "val_fraction = 0.1", ABLATION),
    # pretraining's recipe
    Mutant("pipeline/pretraining/step.py", "label_smoothing=self.config.label_smoothing", "label_smoothing=0.0", RECIPE),
    Mutant("pipeline/pretraining/loop.py", "WARM_UP = 0.2", "WARM_UP = 0.5", RECIPE),
    Mutant("pipeline/pretraining/step.py", '"weight_decay": 0.0', '"weight_decay": config.weight_decay', RECIPE),
    Mutant("pipeline/pretraining/batches.py", "augment.draw(len(part), self.config.train_images, rng)", 'augment.draw(len(part), "plain", rng)', RECIPE),
    Mutant("pipeline/pretraining/batches.py", "if self.config.cutout_px:\n                inputs", "if False:\n                inputs", RECIPE),
    Mutant("pipeline/pretraining/step.py", "momentum=0.9, nesterov=True", "momentum=0.5", RECIPE),
    Mutant("pipeline/trunks/whitening.py", "5e-4", "5e-2", RECIPE),
    Mutant("pipeline/pretraining/stage.py", "permutation(train_rows)", "permutation(len(labels))", RECIPE),
    Mutant("pipeline/pretraining/score.py", "default_rng((config.seed, draw))", "default_rng((config.seed, 0))", RECIPE),
    # heads
    Mutant("pipeline/heads/knn.py", "TEMPERATURE = 0.07", "TEMPERATURE = 0.1", "tests/heads/test_fitted.py"),
    Mutant("pipeline/heads/recurrent_attention.py", "z = self.dropout(state(hidden).to(dtype), self.dropout_rate)", "z = state(hidden).to(dtype)", "tests/heads/test_recurrent_attention.py"),
    Mutant("pipeline/heads/lstm.py", "bias[:, width : 2 * width] = 1", "bias[:, width : 2 * width] = 0", "tests/heads/test_recurrent_attention.py"),
    # memory
    Mutant("pipeline/maps/batches.py", "free[where] -= maps.nbytes", "pass", "tests/maps/test_batches.py"),
    Mutant("pipeline/training/stage.py", "source.fit_normaliser(train_part.rows)", "source.fit_normaliser(np.append(train_part.rows, val_part.rows))", "tests/training/test_train.py"),
    # predictions
    Mutant("pipeline/prediction/scorer.py", "maps.to(self.stored) if self.scales", "maps if self.scales", EQUAL),
    Mutant("pipeline/prediction/scorer.py", '"mirror" if loaded.head.views > 1', '"augment:1" if loaded.head.views > 1', EQUAL),
    Mutant("pipeline/prediction/growing.py", "file.truncate(self._bytes)", "pass", "tests/prediction/test_growing.py"),
    Mutant("pipeline/prediction/stage.py", "decoders, start=start, batch=batch)", "decoders, start=0, batch=batch)", "tests/prediction/test_stage.py"),
    Mutant("pipeline/metrics/thresholds.py", "f1[ranking.last != np.arange(len(labels))] = -1", "pass", "tests/metrics/test_thresholds.py"),
    # views
    Mutant("pipeline/images/views.py", 'augment.draw(self._count, "crop-flip", rng)', 'augment.draw(self._count, "flip", rng)', "tests/images/test_augment.py"),
]  # fmt: skip


def copy_tree(root: Path, tree: Path) -> list[str]:
    """Copy what the tests need. No other tests are tried: all of them take minutes."""
    for name in ("cache", "pipeline", "experiments", "tests"):
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "pyproject.toml",
        "extract_features.py",
        "train_head.py",
        "evaluate.py",
        "predict.py",
        "pretrain_trunk.py",
    ):
        shutil.copy(root / name, tree / name)
    return []
