#!/usr/bin/env python3
"""filter_lines.py FOLDER [LINES] [CORPUS]: the lines that the filter's benchmarks measure, one file a kind, the same on every run.

Owns what each kind of line looks like. FOLDER gets `<kind>.jsonl`, one record a line as `rankline filter` reads them. With a folder
of unpacked MLPerf result logs as CORPUS there is a further kind, `mlperf`: lines of all its files. Standard library only.
"""

import json
import pathlib
import random
import sys

START = 1764000000  # seconds since the epoch of the first line
TAG = "kube.var.log.containers.llama-worker-0_training_pytorch-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.log"

MEAN_LINE = 150  # bytes of a line of the corpus, about

# Which kinds leave as they came: `=`; with fields: `+`; merged into fewer records: `*`.
KINDS = {
    "json": "= MLPerf's JSON lines",
    "text": "= a training loop's lines",
    "pod": "= the same in a pod that belongs to no job, with Kubernetes metadata",
    "long": "= lines of 16 KiB",
    "rank": "+ lines that srun or torch labelled with a rank",
    "mix": "+ the mix of a training job that srun labels: kinds seen before, new ones, warnings",
    "level": "+ log lines that print a level",
    "job": "+ lines of a pod of a PyTorchJob, with Kubernetes metadata",
    "bars": "+ progress bars redrawn with carriage returns",
    "traceback": "* eight ranks that print tracebacks at once",
}


def mllog(rng, i):
    """One line as MLPerf's logging library prints it."""
    value = {"train_step_time": rng.random(), "reduced_train_loss": round(rng.uniform(0.5, 9.0), 6)}
    body = {"namespace": "", "time_ms": START * 1000 + 431 * i, "event_type": "POINT_IN_TIME", "key": "tracked_stats",
            "value": value, "metadata": {"file": "/workspace/llm/callbacks.py", "lineno": 180, "samples_count": 256 * i}}
    return ":::MLLOG " + json.dumps(body)


def loop(rng, i):
    """One line of a training loop that prints no level and no step."""
    return rng.choice((
        f"Epoch: [{i // 1000}]  [{i % 4000:4}/4571]  eta: 0:02:08    time: {rng.random():.4f}  data: {rng.random():.4f}  max mem: 21022",
        f"    	module.decoder.layers.{i % 80}.self_attention.linear_proj.adapter.linear_in.weight",
        f" validation loss at iteration end on the full validation set | lm loss value: {rng.uniform(1, 9):.6E} | lm loss PPL: 1.0E+01 |",
        f"xe9680lx8b200-sxm-6:{330000 + i}:{337000 + i} [1] NCCL INFO Channel 25/0 : 9[1] -> 1[1] [receive] via NET/IBext_v10/1/GDRDMA",
        "Loading the checkpoint shards from /checkpoints/llama-3-70b/global_step_2000/mp_rank_00 took 12.7 s on this node",
    ))


def levelled(rng, i):
    """One line of Python's logging, in the forms of the usual libraries."""
    return rng.choice((
        f"2026-11-23 18:55:{i % 60:02},{i % 1000:03} - megatron.training - INFO - consumed samples: {256 * i} | grad norm: {rng.random():.3f}",
        f"[2026-11-23 18:55:{i % 60:02},{i % 1000:03}] [INFO] [logging.py:96:log_dist] [Rank 0] time (ms) | fwd: {rng.uniform(1, 900):.2f}",
        f"INFO:trainer:saved the optimizer state of shard {i % 64} in {rng.uniform(1, 20):.1f} s",
    ))


def mixed(rng):
    """Lines of sixteen ranks as the logs of MLPerf's submissions have them: a fifteenth of a kind of its own, one in a hundred a
    warning, which is held until the next line."""
    words = [f"{a}_{b}" for a in ("attn", "mlp", "embed", "norm", "rotary", "router") for b in ("weight", "bias", "scale", "grad", "buffer")]
    i = 0
    while True:
        i += 1
        rank, kind = rng.randrange(16), rng.random()
        if kind < 0.01:
            yield f"{rank:2}: [rank{rank}]:[W1016 00:45:{i % 60:02}.231728820 ProcessGroupNCCL.cpp:5023] using GPU {rank % 8} as device used by this process"
        elif kind < 0.08:
            names = " ".join(rng.choice(words) for _ in range(3))
            yield f"{rank:2}: xe9680lx8b200:{330000 + rank}:{337000 + rank} [{rank % 8}] NCCL INFO registered {names} of layer {i % 80}"
        elif kind < 0.5:
            yield f"{rank:2}: {loop(rng, i).strip()}"
        elif kind < 0.8:
            yield f" 0: {mllog(rng, i)}"
        else:
            yield f" 0: DLL 2025-10-03 22:15:{i % 60:02}.{i % 1000000:06} - {{'step': {i}, 'loss': {rng.random():.4f}}} train_step_time : {rng.random():.5f} s"


def traceback(rng, rank):
    """The lines of an uncaught exception, as torch's hook prefixes them."""
    depth = rng.randrange(4, 12)
    yield f"[rank{rank}]: Traceback (most recent call last):"
    for frame in range(depth):
        yield f'[rank{rank}]:   File "/workspace/llm/module_{frame}.py", line {rng.randrange(10, 900)}, in forward'
        yield f"[rank{rank}]:     return self.layers[{frame}](hidden_states, attention_mask)"
    yield f"[rank{rank}]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {rng.randrange(2, 900)} MiB."


def interleaved(rng):
    """Tracebacks of eight ranks, line by line between each other, then some ordinary lines."""
    while True:
        writers = [list(traceback(rng, rank)) for rank in range(8)]
        while any(writers):
            yield rng.choice([w for w in writers if w]).pop(0)
        for rank in range(8):
            yield f"[rank{rank}]: {loop(rng, rank).strip()}"


def kubernetes(job):
    """The map that Fluent Bit's kubernetes filter adds."""
    labels = {"app": "dist-training", "pod-template-hash": "5d4f8c7b9"}
    if job:
        labels |= {"training.kubeflow.org/job-name": "llama-70b", "training.kubeflow.org/operator-name": "pytorchjob-controller",
                   "training.kubeflow.org/replica-type": "worker", "training.kubeflow.org/replica-index": "0"}
    return {"pod_name": "llama-worker-0", "namespace_name": "training", "pod_id": "7f1b2a55-90d6-4c0e-8a57-0d9f8a4c1e2b",
            "container_name": "pytorch", "host": "gpu-node-0", "pod_ip": "10.0.12.7",
            "docker_id": TAG.rsplit("-", 1)[1].removesuffix(".log"),
            "container_image": "registry.example.com/training/llm@sha256:" + "9c1d" * 16, "labels": labels,
            "annotations": {"cni.example.com/networks": "rdma-a,rdma-b", "sidecar.example.com/inject": "false"}}


def texts(kind, rng):
    """Endless lines of a kind."""
    if kind == "traceback":
        yield from interleaved(rng)
    if kind == "mix":
        yield from mixed(rng)
    i = 0
    while True:
        i += 1
        if kind in ("json", "pod"):
            yield mllog(rng, i)
        elif kind in ("text", "job"):
            yield loop(rng, i)
        elif kind == "long":
            yield mllog(rng, i)[:-2] + ', "ids": [' + ", ".join(str(rng.randrange(100000)) for _ in range(2250)) + "]}}"
        elif kind == "rank":
            prefix = f"{rng.randrange(16):2}: " if i % 2 else f"[rank{rng.randrange(8)}]: "
            yield prefix + (mllog(rng, i) if i % 3 else loop(rng, i))
        elif kind == "level":
            yield levelled(rng, i)
        elif kind == "bars":
            yield "\r".join(f"Epoch 3:  {p}%|{'█' * (p // 10)}{' ' * (10 - p // 10)}| {p * 14}/1398 [1:32:11<25:28:13, 70.05s/it]"
                            for p in range(i % 40, i % 40 + 20))


def records(kind, count):
    """`count` records of a kind as (seconds, nanoseconds, record)."""
    rng = random.Random(kind)
    lines = texts(kind, rng)
    for i in range(count):
        record = {"stream": "stderr" if kind in ("traceback", "bars", "level") else "stdout", "logtag": "F", "log": next(lines)}
        if kind in ("pod", "job"):
            record["kubernetes"] = kubernetes(kind == "job")
        # Tracebacks come in bursts; the rest a few milliseconds apart.
        yield START + i // 200, i % 200 * (50_000 if kind == "traceback" else 5_000_000), record


def corpus_lines(corpus, count):
    """About `count` lines of a folder's files: whole files, one after the other as they were written, spread over the folder."""
    files = sorted(path for path in pathlib.Path(corpus).rglob("*") if path.is_file())
    bytes_of_all = sum(path.stat().st_size for path in files)
    step = max(1, bytes_of_all // (count * MEAN_LINE))
    found = 0
    for path in files[step // 2 :: step]:
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            if found == count:
                return
            if line:
                found += 1
                yield line


def corpus_records(corpus, count):
    """The same as records of a plain file."""
    for i, line in enumerate(corpus_lines(corpus, count)):
        yield START + i // 200, i % 200 * 5_000_000, {"stream": "stdout", "logtag": "F", "log": line}


def main(folder, count=2000, corpus=None):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {kind: records(kind, int(count)) for kind in KINDS}
    if corpus:
        kinds["mlperf"] = corpus_records(corpus, int(count))
    for kind, found in kinds.items():
        with open(folder / f"{kind}.jsonl", "w", encoding="utf-8") as file:
            for sec, nsec, record in found:
                file.write(json.dumps({"tag": TAG, "sec": sec, "nsec": nsec, "record": record}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
