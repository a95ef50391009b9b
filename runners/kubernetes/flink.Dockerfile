# syntax=docker/dockerfile:1
# Flink with Beam's job server in lib/, where its classes outlive a job: else Python workers start anew for every stage.
#
#   docker build --tag penstock-flink:0.1.0 - < runners/kubernetes/flink.Dockerfile
ARG FLINK_VERSION=1.20

FROM maven:3.9-eclipse-temurin-17 AS beam
ARG FLINK_VERSION
ARG BEAM_VERSION=2.77.0
RUN mvn --batch-mode dependency:copy -DoutputDirectory=/jars \
    "-Dartifact=org.apache.beam:beam-runners-flink-${FLINK_VERSION}-job-server:${BEAM_VERSION}"

FROM flink:${FLINK_VERSION}-java17
COPY --from=beam /jars /opt/flink/lib
# Flink's own user: the entry point of Flink's image needs no root for it.
USER 9999
