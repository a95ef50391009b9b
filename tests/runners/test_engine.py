from typing import Any

import apache_beam as beam
import pytest

from penstock import RequestError
from penstock.runners.engine import EngineOptions, JobState, make_engine


@pytest.mark.parametrize("name", ["direct", "DirectRunner", "Direct"])
def test_the_in_process_engine_goes_by_beams_name_too(name: str):
    engine = make_engine(name, EngineOptions())
    assert engine.name == "direct"
    assert engine.is_here


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flink_master": "host:8081"}, "found --flink-master; leave it out"),
        ({"flink_job_server_jar": "server.jar"}, "found --flink-job-server-jar; leave it out"),
    ],
)
def test_options_of_another_engine_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(RequestError, match=words):
        make_engine("direct", EngineOptions(**options))


def test_only_a_running_job_is_not_at_its_end():
    assert [state for state in JobState if not state.is_final] == [JobState.RUNNING]


def test_a_job_in_this_process_is_no_other_processs_to_follow():
    with pytest.raises(RequestError, match="which ends with the process that runs it"):
        make_engine("direct", EngineOptions()).find("direct")


def test_an_interrupt_that_comes_while_a_stage_works_in_the_main_thread_is_no_failure():
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([1]) | beam.Map(interrupt)

    job = make_engine("direct", EngineOptions()).submit(build, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert job.state() is JobState.FAILED
