"""`LOKI=/path/to/loki python3 -m differential --seed 1 --queries 2000` (from `tests/`): compares, shrinks, tells.

With `--compacted` this server's data comes in small pushes and is merged before it is asked for: other code reads it then.
With `--save` each difference is written to `found/` with Loki's answer. `--loki-url` and `--url` name servers that run
already and know tenants.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import itertools
import json
import pathlib
import random
import sys
import time

from . import data
from .compare import differs
from .mistakes import Mistakes
from .queries import Queries, times
from .servers import Question, peers
from .shrink import Shrinker
from .tree import node

FOUND = pathlib.Path(__file__).with_name("found")
# Compaction merges 32 segments of a day at once; a larger dataset gives it something to find templates in.
PARTS, TIMES = 33, 6
RANGE, INSTANT, FORMAT = "/loki/api/v1/query_range", "/loki/api/v1/query", "/loki/api/v1/format_query"


def questions(rng, kinds, templates=True):
    """Endless (question, tree)."""
    make, mistakes = Queries(rng, templates), Mistakes(rng)
    while True:
        at, start, end, step = times(rng)
        kind = rng.choice(kinds)
        if kind == "log" or (kind == "format" and rng.random() < 0.4):
            tree = make.log()
            params = {"start": start, "end": end, "limit": rng.choice([1000, 1000, 1000, 5]), "direction": rng.choice(["forward", "backward"])}
            path = RANGE
        elif kind == "template":
            tree = node("log", make.selector(), " | json" if rng.random() < 0.3 else " | logfmt", " | line_format ", make.template())
            path, params = RANGE, {"start": start, "end": end, "limit": 1000, "direction": "forward"}
        elif kind in ("metric", "format"):
            tree = make.metric()
            path, params = (INSTANT, {"time": at}) if rng.random() < 0.5 else (RANGE, {"start": start, "end": end, "step": step})
        else:
            base = str(make.log() if rng.random() < 0.5 else make.metric())
            tree = node("mistake", mistakes.of(base) if rng.random() < 0.7 else mistakes.whole())
            path, params = RANGE, {"start": start, "end": end, "step": "60", "limit": 100, "direction": "forward"}
        if kind == "format":
            path, params = FORMAT, {}
        yield Question(path, {**params, "query": str(tree)}), tree


class Run:
    """One comparison of many questions over one dataset."""

    def __init__(self, ours, theirs, seed, options):
        self.ours, self.theirs, self.seed = ours, theirs, seed
        self.shrink, self.templates = not options.no_shrink, not options.no_templates
        self.compacted = options.compacted
        self.rng = random.Random(seed)
        self.streams = data.Data(self.rng, TIMES if self.compacted else 1).streams()
        self.names = (f"t{seed}-{time.time_ns()}-{n}" for n in itertools.count())
        self.counts = collections.Counter()
        self.stored = self.tenant()

    def tenant(self):
        return next(self.names)

    def store(self):
        """Gives both peers the dataset."""
        self.theirs.push(self.stored, self.streams)
        if self.compacted:
            self.ours.push_in_parts(self.stored, self.streams, PARTS)
        else:
            self.ours.push(self.stored, self.streams)

    def differences(self, count, kinds):
        """(streams, question, kind, text), shrunk; each kind of text once."""
        streams, tenant = self.streams, self.stored
        asked = list(itertools.islice(questions(self.rng, kinds, self.templates), count))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda one: (one, self.ours.ask(tenant, one[0]), self.theirs.ask(tenant, one[0])), asked)
            for (question, tree), mine, right in answers:
                self.counts[right[0]] += 1
                found = differs(mine, right, question.params["query"])
                if not found:
                    continue
                self.counts["different"] += 1
                shrinker = Shrinker(self.ours, self.theirs, self.tenant)
                if self.compacted and not shrinker.still(found[0], streams, question):
                    yield streams, question, (found[0], f"{found[1]}\n    only when compacted"), right
                elif self.shrink:
                    small, question = shrinker.shrink(found[0], tenant, streams, question, tree)
                    again = self.tenant()
                    self.ours.push(again, small)
                    self.theirs.push(again, small)
                    mine, right = self.ours.ask(again, question), self.theirs.ask(again, question)
                    found = differs(mine, right, question.params["query"]) or found
                    yield small, question, found, right
                else:
                    yield streams, question, found, right


def save(streams, question, found, right):
    """Writes one found difference with the answer wanted."""
    status, body = right
    case = {
        "what": found[0], "path": question.path, "params": {k: str(v) for k, v in question.params.items()},
        "streams": [{"labels": s.labels, "entries": [list(e) for e in s.entries]} for s in streams],
        "status": status, "body": json.loads(body) if status == 200 else body,
    }  # fmt: skip
    if isinstance(case["body"], dict) and isinstance(case["body"].get("data"), dict):
        case["body"]["data"].pop("stats", None)
    number = 1 + max([int(p.stem.split("-")[0]) for p in FOUND.glob("*.json")], default=0)
    path = FOUND / f"{number:04}-{found[0].replace(' ', '-')}.json"
    path.write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many datasets, from --seed on")
    parser.add_argument("--queries", type=int, default=500, help="for each dataset")
    parser.add_argument("--kinds", default="log,log,template,metric,metric,format,mistake")
    parser.add_argument("--most", type=int, default=20, help="stop after this many differences")
    parser.add_argument("--ignore", default="", help="kinds of difference not told, by comma")
    parser.add_argument("--url", help="a server of this repository that demands tenants")
    parser.add_argument("--loki-url", help="a Loki with tenants")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--no-templates", action="store_true", help="only the plainest templates")
    parser.add_argument("--compacted", action="store_true", help="ask this server for merged segments")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        ours, theirs = peers(options, stack)
        told = 0
        seeds = range(options.seed, options.seed + options.seeds)
        runs = [Run(ours, theirs, seed, options) for seed in seeds]
        store(runs, ours, options.compacted)
        for seed, run in zip(seeds, runs, strict=True):
            for small, question, found, right in run.differences(options.queries, options.kinds.split(",")):
                if found[0] in options.ignore.split(","):
                    continue
                told += 1
                print(f"--- seed {seed}: {found[0]}\n{question.params['query']}\n    {question.path} { {k: v for k, v in question.params.items() if k != 'query'} }")
                for stream in small if not options.no_shrink else []:
                    print(f"    {stream.labels} {stream.entries[:3]}")
                print(f"    {found[1]}", flush=True)
                if options.save:
                    save(small, question, found, right)
                if told >= options.most:
                    print(f"seed {seed}: {dict(run.counts)}")
                    return 1
            print(f"seed {seed}: {dict(run.counts)}", flush=True)
        return 1 if told else 0


def store(runs, ours, compacted):
    """Stores all datasets; where asked for, waits until each is merged."""
    before = ours.merges() if compacted else 0
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(Run.store, runs))
    deadline = time.monotonic() + 300
    while compacted and ours.merges() < before + len(runs):
        assert time.monotonic() < deadline, "the datasets were not compacted within five minutes"
        time.sleep(0.5)


sys.exit(main())
