"""`launch/gke.yaml` against the published schemas, and what its rules make of the ways a pod can end."""

import copy
import re

import pytest
from launchers import LAUNCH

from contrastive_jax import cli
from contrastive_jax.configuration import build, load
from contrastive_jax.errors import STOPPED_EARLY, WRONG_INPUT
from contrastive_jax.training.experiment import Config

yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install pyyaml")
KUBERNETES = "1.34"


@pytest.fixture
def jobset():
    return _document("JobSet")


@pytest.fixture
def job(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, **replicated["template"]}


def _document(kind):
    documents = yaml.safe_load_all((LAUNCH / "gke.yaml").read_text())
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def _kubernetes_accepts(document):
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    try:
        validator.validate(document, KUBERNETES, strict=True)
    except validator.ValidationError:
        return False
    return True


def _jobset_accepts(document):
    """The models are made from JobSet's OpenAPI schema; what they do not know they drop."""
    api = pytest.importorskip("kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api")
    try:
        return api.JobsetV1alpha2JobSet.from_dict(document).to_dict() == document
    except ValueError:
        return False


def test_jobset_knows_every_field(jobset):
    assert _jobset_accepts(jobset)
    api = pytest.importorskip("kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api")
    published = api.JobsetV1alpha2FailurePolicyRule.model_fields["action"].description
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        assert rule["action"] in re.findall(r"\w+", published)


def test_kubernetes_knows_every_field_of_the_job_and_the_claim(job):
    assert _kubernetes_accepts(job)
    assert _kubernetes_accepts(_document("PersistentVolumeClaim"))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "failurePolice", {}),
        (("spec", "failurePolicy"), "maxRestarts", "three"),
        (("spec", "failurePolicy", "rules", 0), "onJobFailureReason", ["PodFailurePolicy"]),
        (("spec", "replicatedJobs", 0), "replica", 1),
        (("spec", "replicatedJobs", 0), "replicas", "one"),
    ],
)
def test_a_wrong_field_of_the_jobset_would_be_found(jobset, path, key, value):
    assert not _jobset_accepts(_changed(jobset, path, key, value))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "backofLimit", 0),
        (("spec", "podFailurePolicy", "rules", 0, "onExitCodes"), "values", ["75"]),
        (("spec", "template", "spec"), "terminationGracePeriod", 300),
        (("spec", "template", "spec", "containers", 0), "arguments", []),
    ],
)
def test_a_wrong_field_of_the_job_would_be_found(job, path, key, value):
    assert not _kubernetes_accepts(_changed(job, path, key, value))


def _changed(document, path, key, value):
    document = copy.deepcopy(document)
    place = document
    for step in path:
        place = place[step]
    place[key] = value
    return document


def _failure(job, code=None, condition=None):
    """Reason and message with which Kubernetes fails the Job at a pod's end (Job's podFailurePolicy)."""
    for index, rule in enumerate(job["spec"]["podFailurePolicy"]["rules"]):
        assert rule["action"] == "FailJob"
        matched = f"matching FailJob rule at index {index}"
        codes = rule.get("onExitCodes")
        if code and codes and code in codes["values"]:
            return "PodFailurePolicy", (
                f"Container {codes['containerName']} for pod default/p failed with exit code {code} {matched}"
            )
        if condition in [pattern["type"] for pattern in rule.get("onPodConditions", ())]:
            return "PodFailurePolicy", f"Pod default/p has condition {condition} {matched}"
    return "BackoffLimitExceeded", "Job has reached the specified backoff limit"


def _answer(jobset, reason, message):
    """What JobSet does: the action of the first rule that matches, else a restart that counts."""
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule["onJobFailureReasons"] and any(re.search(p, message) for p in patterns):
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize(
    ("end", "action"),
    [
        ({"code": STOPPED_EARLY}, "RestartJobSetAndIgnoreMaxRestarts"),
        ({"condition": "DisruptionTarget"}, "RestartJobSetAndIgnoreMaxRestarts"),
        ({"code": 137, "condition": "DisruptionTarget"}, "RestartJobSetAndIgnoreMaxRestarts"),
        ({"code": WRONG_INPUT}, "FailJobSet"),
        ({"code": 1}, "RestartJobSet"),
        ({"code": 137}, "RestartJobSet"),
    ],
)
def test_each_end_of_a_pod_has_its_answer(jobset, job, end, action):
    assert _answer(jobset, *_failure(job, **end)) == action


def test_what_the_api_server_asks_beyond_the_schema(jobset, job):
    spec = job["spec"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # else podFailurePolicy is refused
    assert spec["backoffLimit"] == 0  # else a failed pod would be started again beside the others
    assert spec["parallelism"] == spec["completions"]
    (container,) = pod["containers"]
    for rule in spec["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"containerName": container["name"], "values": []})
        assert codes["containerName"] == container["name"]
        assert codes["values"] == sorted(codes["values"])
    claimed = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
    assert claimed == {_document("PersistentVolumeClaim")["metadata"]["name"]}
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])


def test_the_command_is_one_that_trains(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, *arguments = [*container["command"], *container["args"]]
    assert program == "contrastive-jax"
    options = cli.parse(arguments)
    assert options.command == "train"
    build(load(f"{LAUNCH.parent}/{options.config}", options.overrides, Config), Config)
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(options.workdir.startswith(f"{path}/") for path in mounts)
