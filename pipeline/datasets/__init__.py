"""Image datasets, one file each. A new one is a file and a line here."""

DATASETS: dict[str, str] = {
    "digits": "pipeline.datasets.digits:load",
    "cifar10": "pipeline.datasets.cifar10:load",
    "scenes": "pipeline.datasets.scenes:load",
    "folder": "pipeline.datasets.folder:load",
    "csv": "pipeline.datasets.csv_file:load",
    "voc2007": "pipeline.datasets.voc2007:load",
    "coco": "pipeline.datasets.coco:load",
}
"""Name → function; see `pipeline.datasets.base.open_dataset`."""
