//! What Kubernetes labels and annotations say about a pod: job, role, attempt and the rank of its node in the job.
//!
//! Each operator writes its own labels. They number pods (nodes), never processes, so no rank comes from here. This module reads
//! the `kubernetes` object that Fluent Bit's filter of that name adds; it knows nothing about lines.

use crate::json::{self, Span};
use crate::prefix;

/// What a pod's labels say. Spans of strings are copied: they outlive the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub pod: Vec<u8>,
    pub container: Vec<u8>,
    pub job: Vec<u8>,
    pub role: Vec<u8>,
    pub attempt: Vec<u8>,
    pub node_rank: Vec<u8>,
    pub world_size: Vec<u8>,
}

/// Labels as they are found; which operator they belong to is decided at the end.
#[derive(Debug, Default)]
struct Labels<'a> {
    found: Vec<(&'static str, &'a [u8])>,
}

/// Labels and annotations that are read.
const KNOWN: [&str; 26] = [
    "training.kubeflow.org/job-name",
    "training.kubeflow.org/operator-name",
    "training.kubeflow.org/replica-type",
    "training.kubeflow.org/replica-index",
    "training.kubeflow.org/job-role",
    "pytorch-job-name",
    "jobset.sigs.k8s.io/jobset-name",
    "jobset.sigs.k8s.io/replicatedjob-name",
    "jobset.sigs.k8s.io/restart-attempt",
    "jobset.sigs.k8s.io/replicatedjob-replicas",
    "trainer.kubeflow.org/trainjob-ancestor-step",
    "batch.kubernetes.io/job-name",
    "job-name",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-index-failure-count",
    "leaderworkerset.sigs.k8s.io/name",
    "leaderworkerset.sigs.k8s.io/worker-index",
    "volcano.sh/job-name",
    "volcano.sh/task-spec",
    "volcano.sh/task-index",
    "volcano.sh/job-retry-count",
    "ray.io/cluster",
    "ray.io/node-type",
    "ray.io/originated-from-cr-name",
    "apps.kubernetes.io/pod-index",
    "statefulset.kubernetes.io/pod-name",
];

/// Reads the object at `span`.
pub(crate) fn read(text: &[u8], span: &Span) -> Pod {
    let mut pod = Pod::default();
    let mut labels = Labels::default();
    // A shape that isn't expected just says nothing.
    let _ = json::members(text, span.start, |name, value| match name {
        b"pod_name" => pod.pod = string(text, &value).to_vec(),
        b"container_name" => pod.container = string(text, &value).to_vec(),
        b"labels" | b"annotations" => {
            let _ = json::members(text, value.start, |label, inner| {
                if let Some(known) = KNOWN.iter().find(|known| known.as_bytes() == label) {
                    labels.found.push((known, string(text, &inner)));
                }
            });
        }
        _ => {}
    });
    labels.describe(&mut pod);
    pod
}

/// The inside of a string value; empty for anything else or when escaped.
fn string<'a>(text: &'a [u8], value: &Span) -> &'a [u8] {
    let raw = &text[value.clone()];
    match raw {
        [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => inside,
        _ => b"",
    }
}

impl<'a> Labels<'a> {
    fn get(&self, name: &str) -> &'a [u8] {
        self.found
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(b"", |(_, value)| value)
    }

    fn describe(&self, pod: &mut Pod) {
        let known = self.jobset(pod)
            || self.kubeflow(pod)
            || self.volcano(pod)
            || self.leader_worker_set(pod)
            || self.ray(pod)
            || self.indexed_job(pod)
            || self.stateful_set(pod);
        if !known {
            pod.job = self.get("pytorch-job-name").to_vec();
        }
    }

    /// JobSet, and Kubeflow Trainer v2 on top of it.
    fn jobset(&self, pod: &mut Pod) -> bool {
        let name = self.get("jobset.sigs.k8s.io/jobset-name");
        if name.is_empty() {
            return false;
        }
        pod.job = name.to_vec();
        pod.role = self.get("jobset.sigs.k8s.io/replicatedjob-name").to_vec();
        pod.attempt = self.get("jobset.sigs.k8s.io/restart-attempt").to_vec();
        // The index inside one child job is the node's rank only when the role has one child job, and is no step before the training.
        let replicas = self.get("jobset.sigs.k8s.io/replicatedjob-replicas");
        let step = self.get("trainer.kubeflow.org/trainjob-ancestor-step");
        if replicas == b"1" && matches!(step, b"" | b"trainer") {
            pod.node_rank = decimal(self.get("batch.kubernetes.io/job-completion-index"));
        }
        true
    }

    /// Kubeflow's training operator v1: PyTorchJob, MPIJob and their like.
    fn kubeflow(&self, pod: &mut Pod) -> bool {
        let name = self.get("training.kubeflow.org/job-name");
        if name.is_empty() {
            return false;
        }
        pod.job = name.to_vec();
        pod.role = self
            .get("training.kubeflow.org/replica-type")
            .to_ascii_lowercase();
        if pod.role.is_empty() {
            pod.role = self.get("training.kubeflow.org/job-role").to_vec();
        }
        let index = decimal(self.get("training.kubeflow.org/replica-index"));
        // As the operators set RANK, or list the hosts. Of the others the order isn't said.
        pod.node_rank = match (
            pod.role.as_slice(),
            self.get("training.kubeflow.org/operator-name"),
        ) {
            (b"master", _) => index,
            (b"worker", b"mpijob-controller" | b"mpi-operator" | b"jaxjob-controller") => index,
            (b"worker", b"pytorchjob-controller" | b"xgboostjob-controller") => behind_master(&index),
            _ => Vec::new(),
        };
        true
    }

    fn volcano(&self, pod: &mut Pod) -> bool {
        let name = self.get("volcano.sh/job-name");
        if name.is_empty() {
            return false;
        }
        pod.job = name.to_vec();
        pod.role = self.get("volcano.sh/task-spec").to_vec();
        pod.attempt = self.get("volcano.sh/job-retry-count").to_vec();
        // Workers of Volcano's pytorch plugin come behind a master, others don't; no label tells.
        if pod.role != b"worker" {
            pod.node_rank = decimal(self.get("volcano.sh/task-index"));
        }
        true
    }

    /// The leader is worker 0 of its group; a group is one replica of the job.
    fn leader_worker_set(&self, pod: &mut Pod) -> bool {
        let name = self.get("leaderworkerset.sigs.k8s.io/name");
        if name.is_empty() {
            return false;
        }
        let index = self.get("leaderworkerset.sigs.k8s.io/worker-index");
        pod.job = name.to_vec();
        pod.role = if index == b"0" {
            b"leader".to_vec()
        } else {
            b"worker".to_vec()
        };
        pod.node_rank = decimal(index);
        true
    }

    fn ray(&self, pod: &mut Pod) -> bool {
        let cluster = self.get("ray.io/cluster");
        if cluster.is_empty() {
            return false;
        }
        let origin = self.get("ray.io/originated-from-cr-name");
        pod.job = if origin.is_empty() {
            cluster.to_vec()
        } else {
            origin.to_vec()
        };
        pod.role = self.get("ray.io/node-type").to_vec();
        true
    }

    fn indexed_job(&self, pod: &mut Pod) -> bool {
        let name = self.get("batch.kubernetes.io/job-name");
        let name = if name.is_empty() {
            self.get("job-name")
        } else {
            name
        };
        if name.is_empty() {
            return false;
        }
        pod.job = name.to_vec();
        pod.node_rank = decimal(self.get("batch.kubernetes.io/job-completion-index"));
        pod.attempt = decimal(self.get("batch.kubernetes.io/job-index-failure-count"));
        true
    }

    fn stateful_set(&self, pod: &mut Pod) -> bool {
        let index = self.get("apps.kubernetes.io/pod-index");
        let name = self.get("statefulset.kubernetes.io/pod-name");
        let Some(dash) = name.iter().rposition(|&b| b == b'-') else {
            return false;
        };
        pod.job = name[..dash].to_vec();
        pod.node_rank = decimal(if index.is_empty() {
            &name[dash + 1..]
        } else {
            index
        });
        true
    }
}

/// The node's rank of worker `index` when the master is node 0.
fn behind_master(index: &[u8]) -> Vec<u8> {
    prefix::number(index, 0).map_or_else(Vec::new, |(index, _)| (index + 1).to_string().into_bytes())
}

/// The rank that a pod's name says: `llama-rank-3`, `llama-rank3-x7k2p`.
pub(crate) fn rank_in_name(pod: &[u8]) -> Option<u32> {
    let mut parts = pod.split(|&b| b == b'-');
    while let Some(part) = parts.next() {
        let written = match part.strip_prefix(b"rank") {
            Some(b"") => parts.next()?,
            Some(digits) => digits,
            None => continue,
        };
        if let Some((rank, end)) = prefix::number(written, 0)
            && end == written.len()
        {
            return Some(rank);
        }
    }
    None
}

/// The value when it is a number, empty otherwise.
fn decimal(value: &[u8]) -> Vec<u8> {
    if !value.is_empty() && value.len() < 8 && value.iter().all(u8::is_ascii_digit) {
        value.to_vec()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Job, role, attempt and node rank of a pod with these labels and annotations.
    fn described(labels: &Value, annotations: &Value) -> [String; 4] {
        let text = json!({"pod_name": "p", "labels": labels, "annotations": annotations}).to_string();
        let pod = read(text.as_bytes(), &(0..text.len()));
        [pod.job, pod.role, pod.attempt, pod.node_rank].map(|value| String::from_utf8(value).unwrap())
    }

    fn kubeflow(operator: &str, role: &str, index: &str) -> Value {
        json!({
            "training.kubeflow.org/job-name": "llama",
            "training.kubeflow.org/operator-name": operator,
            "training.kubeflow.org/replica-type": role,
            "training.kubeflow.org/replica-index": index,
        })
    }

    fn jobset(role: &str, replicas: &str, step: &str) -> Value {
        json!({
            "jobset.sigs.k8s.io/jobset-name": "llama",
            "jobset.sigs.k8s.io/replicatedjob-name": role,
            "jobset.sigs.k8s.io/replicatedjob-replicas": replicas,
            "jobset.sigs.k8s.io/restart-attempt": "2",
            "trainer.kubeflow.org/trainjob-ancestor-step": step,
            "batch.kubernetes.io/job-name": "llama-node-0",
            "batch.kubernetes.io/job-completion-index": "5",
        })
    }

    fn volcano(task: &str) -> Value {
        json!({
            "volcano.sh/job-name": "llama",
            "volcano.sh/task-spec": task,
            "volcano.sh/task-index": "1",
            "volcano.sh/job-retry-count": "3",
        })
    }

    #[test]
    fn each_operator_numbers_its_pods_in_its_own_way() {
        for (labels, want) in [
            (
                kubeflow("pytorchjob-controller", "master", "0"),
                ["llama", "master", "", "0"],
            ),
            (
                kubeflow("pytorchjob-controller", "worker", "0"),
                ["llama", "worker", "", "1"],
            ),
            (
                kubeflow("pytorchjob-controller", "Worker", "6"),
                ["llama", "worker", "", "7"],
            ),
            (
                kubeflow("mpijob-controller", "worker", "3"),
                ["llama", "worker", "", "3"],
            ),
            (
                kubeflow("mpijob-controller", "launcher", "0"),
                ["llama", "launcher", "", ""],
            ),
            (
                kubeflow("tfjob-controller", "worker", "3"),
                ["llama", "worker", "", ""],
            ),
            (
                kubeflow("pytorchjob-controller", "worker", "x"),
                ["llama", "worker", "", ""],
            ),
            (jobset("node", "1", "trainer"), ["llama", "node", "2", "5"]),
            (jobset("workers", "4", ""), ["llama", "workers", "2", ""]),
            (
                jobset("dataset-initializer", "1", "dataset-initializer"),
                ["llama", "dataset-initializer", "2", ""],
            ),
            (volcano("trainer"), ["llama", "trainer", "3", "1"]),
            (volcano("worker"), ["llama", "worker", "3", ""]),
            (
                json!({"leaderworkerset.sigs.k8s.io/name": "llama", "leaderworkerset.sigs.k8s.io/worker-index": "0"}),
                ["llama", "leader", "", "0"],
            ),
            (
                json!({"leaderworkerset.sigs.k8s.io/name": "llama", "leaderworkerset.sigs.k8s.io/worker-index": "2"}),
                ["llama", "worker", "", "2"],
            ),
            (
                json!({"ray.io/cluster": "llama-x7k2p", "ray.io/originated-from-cr-name": "llama", "ray.io/node-type": "head"}),
                ["llama", "head", "", ""],
            ),
            (
                json!({"statefulset.kubernetes.io/pod-name": "llama-12", "apps.kubernetes.io/pod-index": "12"}),
                ["llama", "", "", "12"],
            ),
            (
                json!({"statefulset.kubernetes.io/pod-name": "llama-12"}),
                ["llama", "", "", "12"],
            ),
            (json!({"app": "llama"}), ["", "", "", ""]),
        ] {
            assert_eq!(described(&labels, &json!({})), want, "{labels}");
        }
    }

    #[test]
    fn an_indexed_jobs_annotations_count_its_failures() {
        let labels = json!({"batch.kubernetes.io/job-name": "llama"});
        let annotations = json!({
            "batch.kubernetes.io/job-completion-index": "3",
            "batch.kubernetes.io/job-index-failure-count": "1",
        });
        assert_eq!(described(&labels, &annotations), ["llama", "", "1", "3"]);
    }

    #[test]
    fn other_shapes_say_nothing() {
        for text in [
            "{}",
            "[]",
            "{\"labels\":[]}",
            "{\"labels\":{\"job-name\":7}}",
            "{\"labels\":null}",
        ] {
            assert_eq!(read(text.as_bytes(), &(0..text.len())), Pod::default(), "{text}");
        }
    }
}
