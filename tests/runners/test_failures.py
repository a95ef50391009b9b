from penstock.runners.failures import cause_in_words, root_cause

JAVA = """java.lang.RuntimeException: The Runner experienced the following error during execution:
java.lang.RuntimeException: Error received from SDK harness for instruction 9: Traceback (most recent call last):
  File "bundle_processor.py", line 1, in apache_beam.runners.common.DoFnRunner.process
    self.do_fn_invoker.invoke_process(windowed_value)
ValueError: expected 3 columns, found 2

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "sdk_worker.py", line 312, in _execute
    response = task()
penstock.pipeline.errors.PenstockError: rows.csv: expected 3 columns, found 2 [while running 'Make-ptransform-12']

\tat org.apache.beam.runners.flink.FlinkPipelineRunner.run(FlinkPipelineRunner.java:1)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""


def test_the_last_error_of_a_traceback_is_the_cause():
    assert cause_in_words(JAVA) == "PenstockError: rows.csv: expected 3 columns, found 2"


def test_javas_innermost_cause_is_the_cause():
    text = "java.lang.RuntimeException: job failed\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: disk full\n"
    assert cause_in_words(text + "\tat a.B.d(B.java:2)\n\t... 7 more\n") == "IOException: disk full"


def test_words_that_are_no_traceback_stay_as_they_are():
    assert cause_in_words(" the cluster\nis full ") == "the cluster\nis full"
    assert cause_in_words("") == "its engine does not say why"
    assert cause_in_words("Traceback (most recent call last): cut off") == "Traceback (most recent call last): cut off"


def test_the_first_exception_is_the_cause_of_those_that_followed():
    outer = RuntimeError("a stage failed")
    outer.__cause__ = ValueError("expected 3\ncolumns")
    assert root_cause(outer) == "ValueError: expected 3\ncolumns"


def test_what_a_worker_lacks_comes_with_advice():
    text = "Traceback (most recent call last):\n  File \"x.py\", line 1\nModuleNotFoundError: No module named 'mine'"
    advice = "install that where workers run, or move it into the recipe's folder"
    assert cause_in_words(text) == f"ModuleNotFoundError: No module named 'mine'; {advice}"
