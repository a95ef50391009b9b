"""What a recipe's `features` needs of the data, and tf.Transform."""
