"""The serving export: raw photos or rows in, model-ready features out, in one SavedModel. Imports TensorFlow."""
