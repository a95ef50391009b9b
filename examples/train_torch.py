"""Trains a small convolutional network on photos of clothes in PyTorch; examples/clothing.py prepares them.

    penstock run examples/clothing.py --input data/clothing --output prepared/clothing
    python examples/train_torch.py prepared/clothing

It does not import TensorFlow: the transform graph runs in its portable form. Pixels are sent to the device as bytes and
standardized there.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from penstock import open_dataset


def network(classes):
    widths = [3, 48, 96, 192]
    layers = [nn.AvgPool2d(4)]  # 224 to 56: enough for an example, and many times faster
    for before, after in pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(widths[-1], classes)
    )


def pixels(batch):
    images = batch["image"].permute(0, 3, 1, 2)
    return images.contiguous()


def accuracy(model, batches):
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for batch in batches:
            correct += int((model(pixels(batch)).argmax(1) == batch["label"]).sum())
            total += len(batch["label"])
    return correct / total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--checkpoint", type=Path, help="file to save checkpoints to, and to resume from")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    clothing = open_dataset(options.dataset)
    print(clothing)
    train = clothing.torch(
        "train",
        options.batch_size,
        device=device,
        shuffle="exact",
        repeat=options.epochs,
        cache=True,
        drop_remainder=True,
    )
    classes = len(clothing.labels["train"])
    model = network(classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(train))
    if options.checkpoint and options.checkpoint.exists():
        saved = torch.load(options.checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        train.load_state_dict(saved["loader"])  # goes on where it was: no example is lost or repeated

    epoch = train.state()["epoch"]
    for batch in train if epoch < options.epochs else ():
        model.train()
        images = pixels(batch)
        flipped = torch.rand(len(images), device=device) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        loss = F.cross_entropy(model(images), batch["label"], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if train.state()["epoch"] != epoch:
            epoch = train.state()["epoch"]
            validation = accuracy(model, clothing.torch("validation", 64, device=device, cache=True))
            print(f"epoch {epoch}: loss {loss.item():.3f}, validation accuracy {validation:.3f}")
            if options.checkpoint:
                saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                saved |= {"schedule": schedule.state_dict(), "loader": train.state_dict()}
                torch.save(saved, options.checkpoint)
    test = accuracy(model, clothing.torch("test", 64, device=device))
    print(f"test accuracy {test:.3f} (chance {1 / classes:.3f})")


if __name__ == "__main__":
    main()
