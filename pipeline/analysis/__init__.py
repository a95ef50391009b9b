"""From a recipe's `features` to the transform graph, with tf.Transform.

`trace` traces `features` before a run and learns its `requests` for statistics and its use of tft's analyzers.
`batcher` feeds these analyzers while units are built, `analyzers` answers requests within tf.Transform's analysis, and
`graph_writer` writes the graph. `statistics`, `preprocessing`, `schema` and `outputs` are what all traces share.
"""
