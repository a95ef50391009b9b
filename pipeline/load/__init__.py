"""Training time: reads committed datasets. Imports no Beam, no tensorflow_transform, no tfx_bsl."""
