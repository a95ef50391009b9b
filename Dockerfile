# syntax=docker/dockerfile:1
# One image for the launcher and for the workers of every engine; docs/engines/image.md tells how it is used.
#
#   docker build --tag REGISTRY/penstock:0.1.0 .
#
# Workers must have the Python minor version of the machine that submits: --build-arg PYTHON_VERSION=3.12 for 3.12.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0

FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS beam

FROM eclipse-temurin:17-jre AS java

# Beam's own image is not built upon: it holds a gcloud command and 100 packages of other versions, which ours would
# replace in a layer above. Its boot program and licenses are all that an SDK image needs of it.
FROM python:${PYTHON_VERSION}-slim-bookworm AS dependencies
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# uv wrote the lock: pip refuses it, since it asks for another line for google-auth[pyopenssl].
RUN echo "uv==0.13.9 --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19" \
    | pip install --no-cache-dir --require-hashes --requirement /dev/stdin \
    # With pip in it: boot asks pip whether Beam is there.
    && python -m venv /opt/penstock
COPY requirements-image.lock /build/
# Bytecode is compiled here, once, and not by each worker that starts. Cached downloads stay out of the image.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/penstock/bin/python --link-mode copy --compile-bytecode \
        --require-hashes --build-constraints /build/requirements-image.lock \
        --requirements /build/requirements-image.lock

FROM dependencies AS wheel
WORKDIR /build
COPY LICENSE README.md pyproject.toml ./
COPY src src
COPY transforms transforms
COPY runners runners
COPY pipeline pipeline
# The build backend is the lock's setuptools, which TensorFlow needs anyway: nothing is downloaded.
RUN uv build --wheel --offline --no-build-isolation --python /opt/penstock/bin/python --out-dir /wheel

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="Penstock" \
      org.opencontainers.image.description="Launcher and Beam workers of Penstock" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# The user is in group 0, to which its home belongs: platforms that choose a user id of their own give that group.
RUN useradd --no-log-init --uid 10001 --gid 0 --create-home penstock && chmod g=u /home/penstock
# From what changes least to what changes most: a change of Penstock's code is a layer of a megabyte.
COPY --from=java /opt/java/openjdk /opt/java/openjdk
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=dependencies /opt/penstock /opt/penstock
ENV HOME=/home/penstock \
    JAVA_HOME=/opt/java/openjdk \
    PATH=/opt/penstock/bin:/opt/java/openjdk/bin:/usr/local/bin:/usr/bin:/bin \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-index --no-deps /wheel/*.whl && pip check
# Boot writes pipeline_options.json where it stands.
WORKDIR /home/penstock
USER 10001
ENTRYPOINT ["/opt/apache/beam/boot"]
