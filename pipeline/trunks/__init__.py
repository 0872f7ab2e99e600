"""Frozen trunks, one file each. A new one is a file and a line here."""

TRUNKS: dict[str, str] = {
    "alexnet-cifar": "pipeline.trunks.alexnet_cifar:load",
    "alexnet": "pipeline.trunks.alexnet:load",
    "vgg16": "pipeline.trunks.vgg16:load",
}
"""Name → function (weights: Path | None) -> `pipeline.trunks.base.Trunk`."""

UNTRAINED: dict[str, str] = {
    "alexnet-cifar": "pipeline.trunks.alexnet_cifar:untrained",
}
"""Those that `make pretrain` can train: name → function () -> Trunk with initial weights."""
