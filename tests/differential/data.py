"""Random streams: every format the parsers know, whole and broken, and values that are hard to read."""

import dataclasses
import json

NS = 1_000_000_000
START = 1_768_003_200 * NS  # 2026-01-10T00:00:00Z
SPAN = 600 * NS

WORDS = ["error", "info", "warn", "GET", "loss", "rank", "step", "done", "Ünï", "日本", "x", "", "a b", "q\"q", "new\nline", "tab\t", "b\\s"]
IPS = ["10.0.0.1", "10.1.2.3", "192.168.4.5", "255.255.255.255", "999.1.1.1", "::1", "2001:db8::7", "fe80::1%eth0", "1.2.3.4:80", "::ffff:1.2.3.4"]
NUMBERS = ["0", "1", "-1", "5", "10", "42", "3.25", "-0.5", "1e3", "1e309", "NaN", "inf", "-Inf", "0x10", "1_000", "007", "+3", ".5", "5.", "abc", "", "9007199254740993", "1e-7"]
DURATIONS = ["5s", "1m30s", "1.5h", "250ms", "-3s", "1d", "1w", "0", "10", "5 s", "2µs", "2us", "100ns", "s", "", "1h1h", ".5s", "9999999h"]
BYTES = ["5KB", "1.5GiB", "10", "10B", "1,024 KB", "3 MB", "2kib", "7kb", "-1KB", "1EB", "99EB", "", "KB", "1.5", "1e3"]
LEVELS = ["error", "info", "WARN", "debug", "fatal", "Critical", "trace", "unknown", "notice"]
KEYS = ["level", "msg", "n", "d", "b", "ip", "status", "a.b", "a-b", "1st", "job", "app", "trace_id", "_x", "ключ", "sp ace", "err", "path", "a", "n", "msg"]


@dataclasses.dataclass
class Stream:
    """Labels and `(ns, line, structured metadata)` entries."""

    labels: dict
    entries: list


def regrouped(entries):
    """Streams of `(labels, entry)` pairs."""
    streams = {}
    for labels, entry in entries:
        streams.setdefault(tuple(sorted(labels.items())), Stream(labels, [])).entries.append(entry)
    return list(streams.values())


class Data:
    """A dataset; the same generator state gives the same one. A larger one has `times` as many entries a stream."""

    def __init__(self, rng, times=1):
        self.rng = rng
        self.times = times

    def streams(self):
        kinds = [self.json_line, self.logfmt_line, self.text_line, self.packed_line, self.number_line, self.numbers_json]
        apps = ["a", "b", "ü"]
        streams = []
        for number in range(self.rng.randint(5, 9)):
            kind = kinds[number % len(kinds)]
            labels = {"job": kind.__name__.removesuffix("_line"), "app": self.rng.choice(apps), "i": str(number)}
            for name, values in (("env", ["prod", "dev"]), ("level", LEVELS), ("ip", IPS), ("n", NUMBERS)):
                if self.rng.random() < 0.25:
                    labels[name] = self.rng.choice(values)
            streams.append(Stream({k: v for k, v in labels.items() if v}, self.entries(kind)))
        return streams

    def entries(self, kind):
        entries, at = [], START + self.rng.randrange(0, 60) * NS
        for _ in range(self.rng.randint(4, 25) * self.times):
            at += self.rng.choice([0, 1, 1_000_000, NS, NS, 5 * NS, 15 * NS, 60 * NS]) // self.times
            entries.append((min(at, START + SPAN), kind(), self.metadata()))
        # Loki drops an entry equal to the one before it only within a chunk's reorder buffer: equal ones are not asked about.
        unique = {(at, line): (at, line, metadata) for at, line, metadata in entries}
        return sorted(unique.values(), key=lambda entry: entry[0])

    def metadata(self):
        if self.rng.random() < 0.7:
            return {}
        names = ["trace_id", "n", "d", "msg", "app", "ip", "pod", "level"]
        chosen = self.rng.sample(names, self.rng.randint(1, 3))
        return {name: self.value(name) or "0" for name in chosen}

    def value(self, name):
        """A text that suits a key of this name, mostly."""
        pools = {"n": NUMBERS, "status": ["200", "404", "500", "ok"], "d": DURATIONS, "b": BYTES, "ip": IPS, "level": LEVELS}
        pool = pools.get(name, WORDS) if self.rng.random() < 0.9 else WORDS
        return self.rng.choice(pool)

    # -- lines

    def json_value(self, depth=0):
        choice = self.rng.random()
        if choice < 0.12 and depth < 3:
            return {self.rng.choice(KEYS): self.json_value(depth + 1) for _ in range(self.rng.randint(0, 3))}
        if choice < 0.2 and depth < 3:
            return [self.json_value(depth + 1) for _ in range(self.rng.randint(0, 3))]
        if choice < 0.4:
            return self.rng.choice([0, 1, -1, 3.5, 1e21, 1e-9, 12345678901234567890, True, False, None])
        return self.value(self.rng.choice(["n", "d", "b", "ip", "msg", "level"]))

    def json_line(self):
        fields = []
        for _ in range(self.rng.randint(0, 6)):
            key = self.rng.choice(KEYS)
            value = self.json_value() if self.rng.random() < 0.5 else self.value(key)
            fields.append(f"{json.dumps(key, ensure_ascii=self.rng.random() < 0.3)}:{self.spaces()}{json.dumps(value, ensure_ascii=self.rng.random() < 0.3)}")
        line = "{" + f",{self.spaces()}".join(fields) + "}"
        return self.broken(line) if self.rng.random() < 0.25 else line

    def spaces(self):
        return self.rng.choice(["", "", " ", "  "])

    def broken(self, line):
        cut = self.rng.randint(0, len(line))
        return self.rng.choice(
            [
                line[:cut],
                line + self.rng.choice(["x", "}", ",", " {}", "\n"]),
                line[:cut] + self.rng.choice(["\\", '"', ",", ":", "}", "\x01", "nul", "tru", "1."]) + line[cut:],
                json.dumps([line]),
                json.dumps(line),
                self.rng.choice(["null", "1", "true", "{", "[", '"', "{}", " {}", "{'a':1}", '{"a":01}', '{"a":1e}', '{"a":-}', "{,}", '{"a":1,}', '{"a" 1}']),
            ]
        )

    def logfmt_line(self):
        pairs = [self.logfmt_pair() for _ in range(self.rng.randint(0, 7))]
        return self.rng.choice([" ", " ", " ", "  ", "\t"]).join(pairs)

    def logfmt_pair(self):
        key = self.rng.choice(KEYS).replace(" ", "")
        value = self.value(key)
        choice = self.rng.random()
        if choice < 0.1:
            return self.rng.choice([key, f"{key}=", f"{key}==x", "=x", f'{key}="', f'{key}="\\', f'"{key}"=x', f'{key}="x"y', f'{key}=x"y', "=", f"{key}= x", f'{key}="a\\nb\\u0041\\x"', f"{key}='x y'", f'{key}="\\"in\\" q"'])
        if not value or choice < 0.3 or any(c in value for c in ' "\n\t\\='):
            return f"{key}={json.dumps(value, ensure_ascii=False)}"
        return f"{key}={value}"

    def text_line(self):
        forms = [
            lambda: f"{self.value('ip')} - {self.value('msg')} [10/Jan/2026:00:00:0{self.rng.randint(0, 9)} +0000] \"{self.rng.choice(['GET', 'POST'])} /{self.rng.choice(['a', 'b/c', ''])}?x={self.rng.randint(0, 99)} HTTP/1.1\" {self.rng.choice([200, 404, 500])} {self.rng.randint(0, 9999)}",
            lambda: f"\x1b[3{self.rng.randint(0, 7)}m{self.rng.choice(LEVELS).upper()}\x1b[0m {self.value('msg')} took {self.value('d')}",
            lambda: f"Epoch {self.rng.randint(0, 9)} | step {self.rng.randint(0, 999)} | loss {self.rng.random():.4f} | {self.value('b')}",
            lambda: f"[rank{self.rng.randint(0, 7)}]: Traceback\n  File \"x.py\", line {self.rng.randint(1, 99)}\n{self.value('msg')}",
            lambda: " ".join(self.value(self.rng.choice(["msg", "n", "ip", "d"])) for _ in range(self.rng.randint(0, 5))),
            lambda: self.rng.choice(["", " ", "x", "日本語 ログ", "<html>&amp;</html>", "a=b {\"c\":1}", "\x1b[1;31mred\x1b[0m", "100% %41 a+b", "YWJj", "{{.x}}"]),
        ]
        return self.rng.choice(forms)()

    def packed_line(self):
        fields = {self.rng.choice(["pod", "job", "n", "a.b", "app"]): self.rng.choice(["p-1", "2", "x y", 5, None, {"a": 1}]) for _ in range(self.rng.randint(0, 3))}
        if self.rng.random() < 0.8:
            fields["_entry"] = self.rng.choice([self.logfmt_line, self.json_line, self.text_line, lambda: 5])()
        line = json.dumps(fields, ensure_ascii=False)
        return self.broken(line) if self.rng.random() < 0.15 else line

    def number_line(self):
        return f"n={self.value('n') or 1} d={self.value('d') or 2} b={self.rng.choice(BYTES[:3])} v={self.rng.randint(-5, 40)} c={self.rng.randint(0, 5)} g={self.rng.choice('xyz')} msg={self.rng.choice(['ok', 'bad'])}"

    def numbers_json(self):
        return json.dumps({"v": self.rng.choice([self.rng.randint(0, 50), round(self.rng.uniform(-9, 9), 3)]), "took": self.rng.choice(["5ms", "1.5s", "2m"]), "size": self.rng.choice(["5KB", "10MiB", "12"]), "g": self.rng.choice("xyz"), "code": self.rng.choice([200, 404, 500])})
