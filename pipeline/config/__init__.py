"""One frozen dataclass per stage: flags and defaults come from them. In: nothing. Out: checked settings.

Nothing here imports torch: `--help` has to answer at once. Names are imported when they are first used, so
that a command doesn't wait for the settings of the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.compare_trunks import CompareTrunksConfig as CompareTrunksConfig
    from pipeline.config.evaluate import EvaluateConfig as EvaluateConfig
    from pipeline.config.export import ExportConfig as ExportConfig
    from pipeline.config.extract import ExtractConfig as ExtractConfig
    from pipeline.config.predict import PredictConfig as PredictConfig
    from pipeline.config.pretrain import PretrainConfig as PretrainConfig
    from pipeline.config.report import ReportConfig as ReportConfig
    from pipeline.config.run import RunConfig as RunConfig
    from pipeline.config.train import SweepConfig as SweepConfig
    from pipeline.config.train import TrainConfig as TrainConfig

_MODULES = {
    "CompareTrunksConfig": "compare_trunks",
    "EvaluateConfig": "evaluate",
    "ExportConfig": "export",
    "ExtractConfig": "extract",
    "PredictConfig": "predict",
    "PretrainConfig": "pretrain",
    "ReportConfig": "report",
    "RunConfig": "run",
    "SweepConfig": "train",
    "TrainConfig": "train",
}
__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pipeline.config' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.config.{_MODULES[name]}"), name)
