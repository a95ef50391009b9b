"""The Kubernetes manifests: by their schemas, safe, and fit for each other, Flink and the command line."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from helpers import REPOSITORY

from penstock.runners import cli

FOLDER = REPOSITORY / "runners/kubernetes"
VERSIONS = ("1.31", "1.37")  # of Kubernetes: the oldest that has all that is used, and the newest with a schema
MANIFESTS = [
    pytest.param(manifest, id=f"{path.stem}-{manifest['kind']}-{manifest['metadata']['name']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
PLAIN = [each for each in MANIFESTS if each.values[0]["kind"] != "FlinkDeployment"]
POOL_PORT = 50000
PORTS = {"taskmanager.rpc.port": "6122", "taskmanager.data.port": "6121"}
# Of the operator's own definition, 1.12 to 1.16: what is used here.
POD = {"type": "object", "required": ["spec"]}
TEMPLATED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "replicas": {"type": "integer", "minimum": 1},
        "resource": {
            "type": "object",
            "additionalProperties": False,
            "required": ["cpu", "memory"],
            "properties": {"cpu": {"type": "number"}, "memory": {"type": "string", "pattern": r"^\d+m$"}},
        },
        "podTemplate": POD,
    },
}
FLINK_DEPLOYMENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "flinkVersion", "serviceAccount", "jobManager", "taskManager"],
    "properties": {
        "image": {"type": "string"},
        "flinkVersion": {"enum": ["v1_19", "v1_20", "v2_0", "v2_1", "v2_2"]},
        "mode": {"enum": ["native", "standalone"]},
        "serviceAccount": {"type": "string"},
        "flinkConfiguration": {"type": "object", "additionalProperties": {"type": "string"}},
        "podTemplate": POD,
        "jobManager": TEMPLATED,
        "taskManager": TEMPLATED,
    },
}


def manifest(kind: str, name: str) -> Any:
    (found,) = (
        each.values[0]
        for each in MANIFESTS
        if (each.values[0]["kind"], each.values[0]["metadata"]["name"]) == (kind, name)
    )
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that is described, with where: of the operator's, what its templates add up to."""
    for each in MANIFESTS:
        spec, kind = each.values[0].get("spec", {}), each.values[0]["kind"]
        if kind in ("Deployment", "Job"):
            yield f"{kind}/{each.values[0]['metadata']['name']}", spec["template"]["spec"]
        if kind == "FlinkDeployment":
            shared = spec["podTemplate"]["spec"]
            for name in ("jobManager", "taskManager"):
                own = spec[name].get("podTemplate", {}).get("spec", {})
                containers = [*shared["containers"], *own.get("containers", [])]
                yield f"{kind}/{name}", {**shared, **own, "containers": containers}


PODS = [pytest.param(pod, id=where) for where, pod in pods()]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", PLAIN)
def test_manifests_keep_to_kubernetes_schemas(each: Any, version: str):
    kubernetes_validate.validate(each, version, strict=True)


def test_a_schema_finds_what_is_wrong():
    wrong = {**manifest("Service", "penstock-flink"), "spec": {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_operators_manifest_keeps_to_its_definition():
    jsonschema.validate(manifest("FlinkDeployment", "penstock-flink")["spec"], FLINK_DEPLOYMENT)


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("version", VERSIONS)
def test_pods_keep_to_kubernetes_schemas(pod: dict[str, Any], version: str):
    containers = [{"image": "flink", **container} for container in pod["containers"]]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {**pod, "containers": containers}}
    kubernetes_validate.validate(body, version, strict=True)


@pytest.mark.parametrize("pod", PODS)
def test_nothing_runs_as_root_or_may_become_it(pod: dict[str, Any]):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        own = container["securityContext"]
        assert own.get("runAsUser", pod["securityContext"].get("runAsUser", 0)) > 0, container["name"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("pod", PODS)
def test_containers_that_are_ours_have_resources_and_probes_and_write_to_volumes_alone(pod: dict[str, Any]):
    volumes = {volume["name"] for volume in pod.get("volumes", ())}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        mounts = {mount["mountPath"] for mount in container.get("volumeMounts", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        if container["name"] == "flink-main-container":
            continue  # the operator gives it resources and probes
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        if "ports" in container:
            assert {"readinessProbe", "livenessProbe"} <= set(container)
        if container["image"].startswith("penstock:"):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"/tmp", "/home/penstock"} <= mounts


def test_no_manifest_has_a_secret():
    for each in MANIFESTS:
        assert each.values[0]["kind"] != "Secret"
        assert not re.search("secretKeyRef|AWS_|ACCESS_KEY|password", yaml.safe_dump(each.values[0]), re.IGNORECASE)


def parse(properties: str) -> dict[str, str]:
    """What the entry point of Flink's image makes of FLINK_PROPERTIES: blanks go, and each line is a setting."""
    lines = ["".join(line.split()) for line in properties.splitlines()]
    return dict(line.split(":", 1) for line in lines if line)


def test_both_clusters_have_flinks_configuration():
    written = yaml.safe_load((REPOSITORY / "runners/flink/config.yaml").read_text())
    expected = {key: yaml.safe_dump(value).split("\n")[0].replace(" ", "") for key, value in written.items()} | PORTS
    plain = parse(manifest("ConfigMap", "penstock-flink")["data"]["FLINK_PROPERTIES"])
    operator = manifest("FlinkDeployment", "penstock-flink")["spec"]["flinkConfiguration"]
    assert plain == {key: value.replace(" ", "") for key, value in operator.items()}
    assert expected.items() <= plain.items()
    assert set(plain) - set(expected) <= {"jobmanager.memory.process.size"}


def test_memory_limits_are_what_flink_is_told():
    settings = parse(manifest("ConfigMap", "penstock-flink")["data"]["FLINK_PROPERTIES"])
    spec = manifest("FlinkDeployment", "penstock-flink")["spec"]
    for name, key in (("taskmanager", "taskManager"), ("jobmanager", "jobManager")):
        size = settings[f"{name}.memory.process.size"]
        (container,) = (
            container
            for container in manifest("Deployment", f"penstock-flink-{name}")["spec"]["template"]["spec"]["containers"]
            if container["name"] == name
        )
        assert container["resources"]["limits"]["memory"] == f"{size}i".replace("mi", "Mi")
        assert spec[key]["resource"]["memory"] == size


def test_both_clusters_have_the_same_worker():
    plain = manifest("Deployment", "penstock-flink-taskmanager")["spec"]["template"]["spec"]["containers"][1]
    operator = manifest("FlinkDeployment", "penstock-flink")["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    assert operator == [plain]
    assert plain["ports"] == [{"name": "pool", "containerPort": POOL_PORT}]


def test_services_and_policies_lead_to_the_ports_of_the_cluster():
    templates = {
        name: manifest("Deployment", f"penstock-flink-{name}")["spec"]["template"]
        for name in ("jobmanager", "taskmanager")
    }
    ports = {
        name: {port["containerPort"] for container in template["spec"]["containers"] for port in container["ports"]}
        for name, template in templates.items()
    }
    for service in ("penstock-flink", "penstock-flink-rest"):
        spec = manifest("Service", service)["spec"]
        assert spec["selector"].items() <= templates["jobmanager"]["metadata"]["labels"].items()
        assert {port["port"] for port in spec["ports"]} <= ports["jobmanager"]
    for name, template in templates.items():
        policy = manifest("NetworkPolicy", f"penstock-flink-{name}")["spec"]
        assert policy["podSelector"]["matchLabels"] == template["metadata"]["labels"]
        allowed = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert allowed == ports[name] - {POOL_PORT}


def test_the_launchers_command_is_one_that_penstock_takes():
    template = manifest("Job", "penstock-run")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["command"] == ["penstock"]
    command, *arguments = container["args"]
    context = cli.main.commands[command].make_context(command, list(arguments))
    assert context.params["runner"] == "flink"
    host, _, port = context.params["flink_master"].partition(":")
    assert int(port) in {each["port"] for each in manifest("Service", host)["spec"]["ports"]}
    assert arguments[arguments.index("--") :] == ["--", "--environment_type=EXTERNAL"]
    (copy,) = template["spec"]["initContainers"]
    jar = copy["command"][1].rpartition("/")[2]
    assert context.params["flink_job_server_jar"] == f"/jars/{jar}"
    (rule,) = (
        rule
        for rule in manifest("NetworkPolicy", "penstock-flink-jobmanager")["spec"]["ingress"]
        if rule["from"] == [{"podSelector": {"matchLabels": template["metadata"]["labels"]}}]
    )
    assert {each["port"] for each in rule["ports"]} == {int(port)}


def test_versions_are_those_of_the_lock_the_package_and_each_other():
    dockerfile = (FOLDER / "flink.Dockerfile").read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", dockerfile, re.MULTILINE))
    lock = (REPOSITORY / "requirements-image.lock").read_text()
    assert f"\napache-beam=={arguments['BEAM_VERSION']} " in lock
    jar = f"beam-runners-flink-{arguments['FLINK_VERSION']}-job-server-{arguments['BEAM_VERSION']}.jar"
    assert jar in (FOLDER / "launcher.yaml").read_text()
    flink = manifest("FlinkDeployment", "penstock-flink")["spec"]["flinkVersion"]
    assert flink == "v" + arguments["FLINK_VERSION"].replace(".", "_")
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for _, pod in pods() for container in pod["containers"] if "image" in container}
    assert images == {f"penstock:{version}", f"penstock-flink:{version}"}


def test_the_operators_containers_are_flinks_and_the_worker():
    spec = manifest("FlinkDeployment", "penstock-flink")["spec"]
    names = [container["name"] for container in spec["podTemplate"]["spec"]["containers"]]
    assert names == ["flink-main-container"]
    assert spec["mode"] == "standalone"
    assert spec["serviceAccount"] == manifest("ServiceAccount", "penstock")["metadata"]["name"]
