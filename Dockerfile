# A worker for Beam engines, with Penstock in it. From the repository's root, after `make setup`:
#
#   .venv/bin/uv build --wheel
#   docker build --tag REPOSITORY/penstock:0.1.0 .
#
# and run a job with --sdk_container_image=REPOSITORY/penstock:0.1.0 (Flink: --environment_config). Workers must have the
# Python minor version of the machine that submits: for 3.12, write 3.12 in the next line, too.
FROM apache/beam_python3.11_sdk:2.77.0

COPY requirements.lock dist/penstock-0.1.0-py3-none-any.whl /tmp/penstock/
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/penstock/requirements.lock \
    && pip install --no-cache-dir --no-deps /tmp/penstock/*.whl \
    && rm -r /tmp/penstock \
    # Imports take half as long from bytecode. Some packages hold files for other Pythons, which do not compile.
    && (python -m compileall -q -j 0 "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || true)

# All is installed: no virtual environment a worker start.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
