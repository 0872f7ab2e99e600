"""One frozen dataclass per stage: flags and defaults come from them. In: nothing. Out: checked settings.

Nothing here imports torch: `--help` has to answer at once.
"""

from pipeline.config.compare_trunks import CompareTrunksConfig
from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.export import ExportConfig
from pipeline.config.extract import ExtractConfig
from pipeline.config.predict import PredictConfig
from pipeline.config.pretrain import PretrainConfig
from pipeline.config.report import ReportConfig
from pipeline.config.run import RunConfig
from pipeline.config.train import SweepConfig, TrainConfig

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
