"""The transform graph without Beam or tf.Transform: its portable form, and the saved one."""
