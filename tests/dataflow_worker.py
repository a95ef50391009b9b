"""A worker of the stub's: runs a staged pipeline in this process, as far from its launcher as one machine allows.

python dataflow_worker.py PIPELINE OPTIONS COUNTERS
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(pipeline_path: str, options_path: str, counters_path: str) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability import python_urns
    from apache_beam.portability.api import beam_provision_api_pb2, beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    pipeline = beam_runner_api_pb2.Pipeline.FromString(Path(pipeline_path).read_bytes())
    for environment in pipeline.components.environments.values():  # an image, for want of an engine to run it
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    given = json.loads(Path(options_path).read_text())["options"]
    # numbers are floats in the JSON that the API has for options
    whole = {name: int(value) if isinstance(value, float) else value for name, value in given.items()}
    options = PipelineOptions.from_dictionary(whole)
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    result: Any = FnApiRunner(provision_info=provision).run_via_runner_api(pipeline, options)
    result.wait_until_finish()
    counters = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
        if counter.key.metric.namespace == "penstock"
    }
    Path(counters_path).write_text(json.dumps(counters))


if __name__ == "__main__":
    main(*sys.argv[1:])
