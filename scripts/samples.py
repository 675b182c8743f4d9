"""The sample logs of the repository as Fluent Bit would hand them to the filter.

Owns the reading of containerd's CRI files and the shape of the records (what Fluent Bit's tail input, cri parser and
kubernetes filter make of a line). Knows nothing of the server. Standard library only: the demo runs without set-up.
"""

import calendar
import hashlib
import json
import pathlib
import time

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests/data/torchrun"
APP = "dist-training"


def scenarios():
    """Names of the sample runs, in the order in which they ran."""
    names = [p.name for p in DATA.iterdir() if p.is_dir()]
    return sorted(names, key=lambda name: _files(name)[0].open().read(30))


def truth(scenario):
    """What the run was made to do, and where its tracebacks stand."""
    return json.loads((DATA / scenario / "truth.json").read_text())


def _files(scenario):
    return sorted((DATA / scenario / "var/log/pods").glob("*/*/*.log"))


def parse_time(text):
    """`2026-11-23T18:38:29.78022872Z` as nanoseconds since the epoch."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


def _pod(scenario, folder):
    """The parts of a pod's identity; each run is a job of its own, so its pods are named after it."""
    namespace, pod, uid = folder.split("_")
    replica = "worker" if "-worker-" in pod else "master"
    return {
        "namespace": namespace,
        "pod": f"{scenario}-{replica}-0",
        "uid": uid,
        "replica": replica,
        "host": "gpu-node-1" if replica == "worker" else "gpu-node-0",
        "container_id": hashlib.sha256(f"{scenario}/{folder}".encode()).hexdigest(),
    }


def _kubernetes(scenario, pod, container):
    """The map that Fluent Bit's kubernetes filter adds, for a pod of a Kubeflow PyTorchJob."""
    return {
        "pod_name": pod["pod"],
        "namespace_name": pod["namespace"],
        "pod_id": pod["uid"],
        "container_name": container,
        "host": pod["host"],
        "docker_id": pod["container_id"],
        "labels": {
            "app": APP,
            "training.kubeflow.org/job-name": scenario,
            "training.kubeflow.org/operator-name": "pytorchjob-controller",
            "training.kubeflow.org/replica-type": pod["replica"],
            "training.kubeflow.org/replica-index": "0",
        },
        "annotations": {},
    }


def lines(scenario):
    """All lines of a run as (ns, tag, stream, logtag, text, kubernetes), in order of time."""
    found = []
    for path in _files(scenario):
        container = path.parent.name
        pod = _pod(scenario, path.parent.parent.name)
        kubernetes = _kubernetes(scenario, pod, container)
        tag = "kube.var.log.containers.{pod}_{namespace}_{container}-{container_id}.log".format(
            container=container, **pod
        )
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                when, stream, logtag, text = line.rstrip("\n").split(" ", 3)
                found.append((parse_time(when), tag, stream, logtag, text, kubernetes))
    found.sort(key=lambda line: line[0])
    return found


def records(names=None, end_ns=None):
    """JSON lines for `rankline filter`, in order of time.

    With `end_ns` all times are moved by one amount, so that the last line is at `end_ns`.
    """
    found = [line for name in (names or scenarios()) for line in lines(name)]
    found.sort(key=lambda line: line[0])
    shift = end_ns - found[-1][0] if end_ns else 0
    for ns, tag, stream, logtag, text, kubernetes in found:
        sec, nsec = divmod(ns + shift, 1_000_000_000)
        record = {"stream": stream, "logtag": logtag, "log": text, "kubernetes": kubernetes}
        yield json.dumps({"tag": tag, "sec": sec, "nsec": nsec, "record": record}, ensure_ascii=False)
