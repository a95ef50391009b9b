"""Trains a small U-Net to segment pets in Keras; examples/pets.py prepares the photos and masks.

    penstock run examples/pets.py --input data/pets --output prepared/pets
    python examples/train_segmentation.py prepared/pets

The loader batches, shuffles, prefetches and caches; the transform graph standardizes the pixels and turns the masks'
classes into 0, 1, 2. TensorFlow is needed: `pip install penstock[prepare]`.
"""

import argparse

import keras
import numpy as np
from keras import layers

from penstock import open_dataset

CLASSES = 3  # pet, background, border


def unet(shape):
    def block(x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    inputs = x = keras.Input(shape)
    skipped = []
    for width in (12, 24, 48):
        x = block(x, width)
        skipped.append(x)
        x = layers.MaxPool2D()(x)
    x = block(x, 64)
    for width in (48, 24, 12):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = block(layers.Concatenate()([x, skipped.pop()]), width)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)

    pets = open_dataset(options.dataset)
    print(pets)

    def pairs(split, **arguments):
        batches = pets.tf(split, options.batch_size, cache=True, **arguments)
        return batches.map(lambda example: (example["image"], example["mask"]))

    train = pairs("train", shuffle="exact", repeat=None)
    validation = pairs("validation")
    model = unet(pets.features["image"].shape)
    steps = pets.splits["train"].examples // options.batch_size
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, options.epochs * steps, warmup_target=3e-3, warmup_steps=2 * steps
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["sparse_categorical_accuracy"])
    model.fit(train, steps_per_epoch=steps, epochs=options.epochs, validation_data=validation, verbose=2)

    intersections, unions, correct, total = np.zeros(CLASSES), np.zeros(CLASSES), 0, 0
    counts = np.zeros(CLASSES)
    for images, masks in pairs("test"):
        predicted, true = np.argmax(model.predict_on_batch(images), -1), masks.numpy()[..., 0]
        correct, total = correct + (predicted == true).sum(), total + true.size
        for kind in range(CLASSES):
            intersections[kind] += ((predicted == kind) & (true == kind)).sum()
            unions[kind] += ((predicted == kind) | (true == kind)).sum()
            counts[kind] += (true == kind).sum()
    shares = zip(("pet", "background", "border"), intersections / unions, strict=True)
    print("intersection over union: " + ", ".join(f"{name} {value:.3f}" for name, value in shares))
    print(f"test pixel accuracy {correct / total:.3f} (always the most frequent class: {counts.max() / total:.3f})")


if __name__ == "__main__":
    main()
