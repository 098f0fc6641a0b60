"""What is deployed obeys its schemas, and runs as nobody, in bounds, watched, with secrets from outside."""

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    ours = {name for name in FILES if name != "kustomization.yaml"}
    assert set(named) <= ours
    assert {"api.yaml", "pusher.yaml", "trainer.yaml", "postgres.yaml", "redis.yaml", "mlflow.yaml", "dask.yaml"} <= set(named)  # fmt: skip


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


def test_the_schedule_of_the_monitors_fits_the_manifests_beside_it():
    """A secret, a claim or a config map of another name would leave the job waiting for ever."""
    job = yaml.safe_load((DEPLOY / "monitoring" / "cronjob.yaml").read_text())
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    trainer = next(spec for kind, name, spec in PODS if name == "trainer")
    like = trainer["containers"][0]
    assert container["image"] == like["image"]
    assert container["envFrom"] == like["envFrom"]
    assert [one for one in container["env"] if "valueFrom" in one] == like["env"]
    assert pod["volumes"] == trainer["volumes"]
    assert pod["securityContext"] == trainer["securityContext"]
    assert pod["serviceAccountName"] == trainer["serviceAccountName"]
    assert template["metadata"]["labels"] == {"app.kubernetes.io/name": "monitor"}  # what network.yaml lets in


def test_the_schedule_of_the_monitors_obeys_its_schema():
    kubernetes_validate = validator("kubernetes_validate")
    kubernetes_validate.validate(
        yaml.safe_load((DEPLOY / "monitoring" / "cronjob.yaml").read_text()), KUBERNETES, strict=True
    )


def test_the_api_sees_the_runs_and_the_signal_of_the_monitors():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for folder in ("reports", "signals"):
        at = f"{folder}:/var/lib/rekindle/{folder}"
        assert f"{at}:ro" in services["api"]["volumes"]
        assert all(at in services[name]["volumes"] for name in ("monitor", "trainer"))
    api = next(spec for _, name, spec in PODS if name == "api")
    mounted = {one["mountPath"]: one for one in api["containers"][0]["volumeMounts"]}
    assert all(mounted[f"/var/lib/rekindle/{folder}"]["readOnly"] for folder in ("reports", "signals"))
