"""Run a frozen trunk once, cache its feature maps, train heads on them in seconds.

    from pipeline import ExtractConfig, SweepConfig, extract, train_heads

    cache = extract(ExtractConfig(dataset="digits"))
    run = train_heads(SweepConfig(cache=str(cache), head=("fullnet", "linear")))

    classes = load_run(run).predict(["new.jpg", "other.jpg"]).labels

A stage is one function from a configuration to the folder it wrote. Names are imported when they are first
used, so that `import pipeline` takes no time.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.chain import run
    from pipeline.comparison.stage import compare_trunks
    from pipeline.config import (
        CompareTrunksConfig,
        EvaluateConfig,
        ExportConfig,
        ExtractConfig,
        PredictConfig,
        PretrainConfig,
        ReportConfig,
        RunConfig,
        SweepConfig,
        TrainConfig,
    )
    from pipeline.estimators.classifier import HeadClassifier, TenCropClassifier
    from pipeline.evaluation.stage import evaluate
    from pipeline.export.stage import export_model
    from pipeline.extraction.stage import extract
    from pipeline.prediction.predictor import load_run
    from pipeline.prediction.stage import predict
    from pipeline.pretraining.stage import pretrain
    from pipeline.report.stage import write_report
    from pipeline.training.sweep import sweep as train_heads

__version__ = "0.1.0"
__all__ = [
    "CompareTrunksConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExtractConfig",
    "PredictConfig",
    "PretrainConfig",
    "ReportConfig",
    "RunConfig",
    "SweepConfig",
    "TrainConfig",
]
__all__ += ["evaluate", "export_model", "extract", "load_run", "predict", "pretrain", "run", "train_heads"]
__all__ += ["compare_trunks", "write_report"]
__all__ += ["HeadClassifier", "TenCropClassifier"]

_TARGETS = {
    **{name: f"pipeline.config:{name}" for name in __all__ if name.endswith("Config")},
    **{
        f"{name}Classifier": f"pipeline.estimators.classifier:{name}Classifier"
        for name in ("Head", "TenCrop")
    },
    "compare_trunks": "pipeline.comparison.stage:compare_trunks",
    "evaluate": "pipeline.evaluation.stage:evaluate",
    "export_model": "pipeline.export.stage:export_model",
    "extract": "pipeline.extraction.stage:extract",
    "load_run": "pipeline.prediction.predictor:load_run",
    "predict": "pipeline.prediction.stage:predict",
    "pretrain": "pipeline.pretraining.stage:pretrain",
    "run": "pipeline.chain:run",
    "write_report": "pipeline.report.stage:write_report",
    "train_heads": "pipeline.training.sweep:sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _TARGETS:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return resolve_name(_TARGETS[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
