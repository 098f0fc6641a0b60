"""What is deployed obeys its schemas, and runs as nobody, in bounds, watched, with secrets from outside."""

import json
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine

DEPLOY = Path(__file__).parents[2] / "deploy"
pytestmark = pytest.mark.skipif(not DEPLOY.exists(), reason="the manifests are in the repository, not in the wheel")
REQUIRED = os.environ.get("REKINDLE_TEST_SERVERS") == "required"
KUBERNETES = "1.34"
FILES = sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml"))
SECRET_KEYS = {"database-url", "mlflow-database-url", "redis-connection", "pseudonym-key", "postgres-password",
               "redis-password"}  # fmt: skip


def validator(name: str) -> Any:
    if REQUIRED:
        return __import__(name)
    return pytest.importorskip(name, reason=f"{name} is in the development environment")


def documents(name: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()) if item]


def pods() -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, name and pod of everything that runs."""
    found = []
    for name in FILES:
        for item in documents(name):
            spec = item.get("spec", {})
            if item["kind"] in ("Deployment", "StatefulSet"):
                found.append((item["kind"], item["metadata"]["name"], spec["template"]["spec"]))
            if item["kind"] == "CronJob":
                found.append((item["kind"], item["metadata"]["name"], spec["jobTemplate"]["spec"]["template"]["spec"]))
    return found


PODS = pods() if DEPLOY.exists() else []
IDS = [name for _, name, _ in PODS]


@pytest.mark.parametrize("name", [name for name in FILES if name != "kustomization.yaml"])
def test_every_kubernetes_object_obeys_its_schema(name):
    kubernetes_validate = validator("kubernetes_validate")
    for item in documents(name):
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_a_wrong_field_is_found():
    kubernetes_validate = validator("kubernetes_validate")
    item = documents("api.yaml")[0]
    item["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_every_file_is_named_by_the_kustomization():
    named = documents("kustomization.yaml")[0]["resources"]
    assert sorted(named) == [name for name in FILES if name != "kustomization.yaml"]
    assert {name for _, name, _ in PODS} >= {"api", "pusher", "monitor", "trainer", "sweep", "retention", "postgres", "redis",
                                             "mlflow", "dask-scheduler", "dask-worker"}  # fmt: skip


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_one_set_of_everything():
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert len(made) == sum(len(documents(name)) for name in FILES if name != "kustomization.yaml")
    assert {item["metadata"].get("namespace") for item in made if item["kind"] != "Namespace"} == {"rekindle"}


def test_compose_obeys_its_schema():
    validator("check_jsonschema")
    from jsonschema.validators import validator_for

    schema = json.loads((resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    checked = validator_for(schema)(schema)
    assert list(checked.iter_errors(document)) == []
    document["services"]["api"]["read_onyl"] = True
    assert list(checked.iter_errors(document))


@pytest.mark.parametrize(("kind", "name", "pod"), PODS, ids=IDS)
def test_every_pod_runs_as_nobody_on_a_file_system_that_it_cannot_write(kind, name, pod):
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        own = container["securityContext"]
        assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
        assert own["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("kind", "name", "pod"), PODS, ids=IDS)
def test_every_container_is_bounded_and_what_stays_up_is_watched(kind, name, pod):
    for container in pod["containers"]:
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert kind == "CronJob" or "livenessProbe" in container
        assert kind == "CronJob" or {"readinessProbe", "startupProbe"} & set(container)


def test_secrets_come_from_outside():
    text = "\n".join((DEPLOY / "kubernetes" / name).read_text() for name in FILES)
    assert not re.search(r"kind: Secret\b", text)
    assert set(re.findall(r"name: rekindle-secrets, key: ([a-z-]+)", text)) == SECRET_KEYS
    compose = (DEPLOY / "compose.yaml").read_text()
    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "REKINDLE_PSEUDONYM_KEY"):
        assert f"${{{secret}:?" in compose
    assert all(f"`{key}`" in (DEPLOY.parent / "docs" / "scaling.md").read_text() for key in SECRET_KEYS)


def test_every_service_of_compose_is_locked_and_bounded():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {"api", "pusher", "monitor", "trainer", "postgres", "redis", "mlflow", "dask-scheduler"} <= set(services)
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not service["user"].startswith("0"), name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name


def test_nothing_is_put_into_a_file_system_that_cannot_be_written():
    """Compose makes a config of inline content inside the container: on a read-only one it does not start."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    configs = document["configs"]
    given = [
        entry if isinstance(entry, str) else entry["source"]
        for service in document["services"].values()
        for entry in service.get("configs", ())
    ]
    assert given == ["databases"]
    for name in given:
        assert set(configs[name]) == {"file"}
        assert (DEPLOY / configs[name]["file"]).is_file()
    inside = next(item for item in documents("postgres.yaml") if item["kind"] == "ConfigMap")["data"]["databases.sql"]
    assert (DEPLOY / configs["databases"]["file"]).read_text().strip() == inside


def option(words, name):
    return int(next(str(word).split("=")[1] for word in words if str(word).startswith(f"{name}=")))


def test_postgresql_takes_every_connection_that_could_be_opened():
    """Each process of ours has one pool (features.log), MLflow one for each of its own."""
    pool = create_engine("postgresql+psycopg://nobody@nowhere/nothing").pool
    ours = pool.size() + pool._max_overflow
    superusers = 3  # what PostgreSQL keeps back
    (api,) = [item["spec"] for item in documents("api.yaml") if item["kind"] == "Deployment"]
    most = next(item["spec"]["maxReplicas"] for item in documents("api.yaml") if item["kind"].startswith("Horizontal"))
    each = int(documents("config.yaml")[0]["data"]["REKINDLE_WORKERS"])
    processes = {
        name: (most + api["strategy"]["rollingUpdate"]["maxSurge"]) * each if name == "api" else replicas(kind, name)
        for kind, name, pod in PODS
        if any(one["name"] == "REKINDLE_DATABASE" for one in pod["containers"][0].get("env", ()))
    }
    mlflow = next(pod["containers"][0] for _, name, pod in PODS if name == "mlflow")
    sizes = {one["name"]: int(one["value"]) for one in mlflow["env"] if "SQLALCHEMYSTORE" in one["name"]}
    of_mlflow = option(mlflow["args"], "--workers") * sum(sizes.values())
    args = next(pod["containers"][0]["args"] for _, name, pod in PODS if name == "postgres")
    assert {"api", "pusher", "sweep", "trainer", "monitor", "retention", "dask-worker"} <= set(processes)
    assert len(sizes) == 2
    assert ours * sum(processes.values()) + of_mlflow + superusers <= option(args, "max_connections")

    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    there = sum(
        int(one["environment"].get("REKINDLE_WORKERS", 1)) * one["deploy"].get("replicas", 1)
        for one in services.values()
        if "REKINDLE_DATABASE" in one.get("environment", ())
    )
    pools = [int(value) for name, value in services["mlflow"]["environment"].items() if "SQLALCHEMYSTORE" in name]
    of_mlflow = option(services["mlflow"]["command"], "--workers") * sum(pools)
    assert there == 7
    assert ours * there + of_mlflow + superusers <= option(services["postgres"]["command"], "max_connections")


def replicas(kind, name):
    if kind == "CronJob":
        return 1
    return next(
        item["spec"].get("replicas", 1)
        for file in FILES
        for item in documents(file)
        if (item["kind"], item.get("metadata", {}).get("name")) == (kind, name)
    )


def test_every_service_of_compose_is_watched():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "healthcheck" not in service] == []


# --- what it runs exists ----------------------------------------------------------------------------------------------


def commands() -> list[str]:
    """Every command line of Rekindle, in the manifests and the crontab, as it is written there."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    containers = [container for _, _, pod in PODS for container in pod["containers"]]
    words = [one.get("args", []) for one in containers] + [service.get("command", []) for service in compose]
    lines = [" ".join(line) for line in words] + (DEPLOY / "monitoring" / "crontab").read_text().splitlines()[2:]
    found = [part for line in lines for part in re.split(r"[;&|>]+|\bdo\b|\bthen\b", line)]
    return sorted(
        {part[part.index("rekindle ") :].strip() for part in found if re.search(r"(?<!-t )\brekindle [a-z]", part)}
    )


@pytest.mark.parametrize("line", commands() if DEPLOY.exists() else [])
def test_every_command_that_is_deployed_is_one_of_the_command_line(line):
    from typer.main import get_command

    from rekindle import app

    command, context = get_command(app), None
    arguments = [word for word in line.replace("$$asked", "--on-signal").split()[1:] if "$" not in word]
    while True:
        context = command.make_context(command.name, arguments, parent=context)
        if not context._protected_args:
            break
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    assert command.callback is not None


def test_commands_are_found_in_every_manifest():
    assert {"rekindle serve", "rekindle monitor --json", "rekindle features push --watch"} <= set(commands())
    assert len([line for line in commands() if line.startswith("rekindle train")]) >= 3


def test_every_variable_that_is_set_is_read():
    from serving.settings import Settings

    text = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.suffix in (".yaml", "") and path.is_file())
    known = {f"REKINDLE_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert set(re.findall(r"\bREKINDLE_[A-Z_]+", text)) <= known


def test_what_the_monitors_find_is_seen_by_the_service():
    api = next(pod for _, name, pod in PODS if name == "api")
    monitor = next(pod for _, name, pod in PODS if name == "monitor")
    (container,) = api["containers"]
    folder = next(item["value"] for item in container["env"] if item["name"] == "REKINDLE_RUNS")
    mount = next(item for item in container["volumeMounts"] if item["mountPath"] == folder)
    claims = [
        next(volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == name)
        for pod, name in ((api, mount["name"]), (monitor, "home"))
    ]
    assert (mount["readOnly"], claims[0]) == (True, claims[1])
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert f"trainer:{services['api']['environment']['REKINDLE_RUNS']}:ro" in services["api"]["volumes"]
    assert services["monitor"]["volumes"] == services["trainer"]["volumes"] == ["trainer:/var/lib/rekindle"]


def test_the_image_is_made_of_what_is_there_and_owns_what_is_mounted():
    lines = (DEPLOY / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.MULTILINE) for word in line.split()}
    assert copied >= {"features", "training", "serving", "monitoring", "deploy/requirements.lock", "pyproject.toml"}
    assert all((DEPLOY.parent / word).exists() for word in copied)
    owned = re.search(r"install -d -o rekindle -g rekindle (.+)", lines)[1].split()
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    mounted = {
        mount.split(":")[1]
        for one in services
        if one.get("image") == "rekindle:0.1.0"
        for mount in one.get("volumes", ())
    }
    assert mounted == set(owned)


def test_the_check_of_the_pusher_fails_where_it_stopped(tmp_path):
    mark = tmp_path / "push.alive"
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["pusher"]["healthcheck"]["test"][1]
    pusher = next(pod for _, name, pod in PODS if name == "pusher")["containers"][0]
    checks = [compose.replace("$$", "$"), pusher["livenessProbe"]["exec"]["command"][2]]

    def statuses():
        return [
            os.system(check.replace("/var/lib/rekindle/push.alive", str(mark)) + " 2>/dev/null") != 0
            for check in checks
        ]

    assert statuses() == [True, True]
    mark.touch()
    assert statuses() == [False, False]
    os.utime(mark, (0, 0))
    assert statuses() == [True, True]
