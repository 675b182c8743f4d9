"""Random LogQL over the names and values of `data`: every production of the grammar."""

import json

from . import data
from .templates import Templates
from .tree import joined, node, optional

NAMES = ["app", "job", "env", "level", "n", "d", "b", "msg", "ip", "status", "a_b", "v", "c", "g", "trace_id", "detected_level", "missing", "_1st", "app_extracted", "__error__", "took", "size", "code", "service_name", "err"]
RESULTS = ["app", "job", "g", "level", "x", "y", "out", "n", "env", "__error__"]
NEEDLES = ["error", "a", "", "=", "n=", "{", "日本", "\x1b[", "GET", "loss", "rank", "\"", "q\"q", "x", ".", "10."]
REGEXES = [".", ".*", ".+", "a|b", "(?i)ERROR", "^n=", "\\d+", "o$", "[[:upper:]]{2,}", "\\pL+", "(?s)a.b", "", "a|", "(?P<x>a)", "\\x1b", "[^a-z]", "e{1,3}?", "\\w+\\s", "\\bx\\b", "(a", "prod", "a.*", "(?U)a+", "\\Qa.b\\E", "\\pN", "(?i:Ü)", "[\\d.]+", "error|info", "^$", "\\z", "\\A.", "(?m)^n", "x*"]
PATTERNS = ["<_>", "n=<_>", "<_> d=<_>", "<_>error<_>", "n=<_> d=<_> b=<_>", "", "<_>\"", "<a>", "<_><_>", "Epoch <_> | <_>", "<_> ", "x"]
NETWORKS = ["10.0.0.0/8", "10.0.0.1", "10.0.0.0-10.2.0.0", "::1", "2001:db8::/32", "192.168.4.5-192.168.4.9", "0.0.0.0/0", "999.1.1.1", "x", "::/0", "10.0.0.1/33"]
RANGES = ["1m", "5m", "10m", "90s", "1h", "30s", "1m30s", "500ms", "1d"]
LINE_OPS = ["|=", "!=", "|~", "!~", "|>", "!>"]
CAPTURES = ["<_> - <user> [<_>] \"<method> <path> <_>\" <status> <_>", "<a> <b>", "n=<n> d=<d>", "<x>", "Epoch <e> | step <n> | loss <v> | <b>", "<app> <_>", "[rank<r>]: <rest>", "<_>", "<a><b>", "<a> <a>", "a", "<ä>", "<a>=<b> <c>=<d>", "<x> took <d>", "<1a> b"]
NAMED = ["(?P<n>\\d+)", "(?P<method>\\w+) (?P<path>/\\S*)", "n=(?P<n>\\S+)(?: d=(?P<d>\\S+))?", "(?P<x>e)|(?P<y>r)", "(?P<app>.)", "(?<z>\\d)", "x", "(?P<a>x)(?P<a>y)", "(?P<v>-?[0-9.]+)", "loss (?P<v>[\\d.]+)", "(?P<x>", "(?P<1>a)", "^(?P<all>(?s).*)$", "(a)(?P<b>.)"]
PATHS = ["a", "a.b", "msg", "n", "d", "a[0]", "[\"a.b\"]", "[0]", "a[0].b", "b.c[1]", "level", "sp ace", "[\"sp ace\"]", ".a", "a.", "a[", "a[-1]", "a..b", "", "\"a\"", "a-b", "1st", "v", "ключ", "[\"ключ\"]", "a[0][1]"]
KEYS = ["n", "d", "msg", "level", "a.b", "a-b", "1st", "ключ", "missing", "", "a b", "=", "app"]
COMPARE = ["==", "!=", ">", ">=", "<", "<=", "="]
ARITHMETIC = ["+", "-", "*", "/", "%", "^"]
PLAIN_OPS = ["rate", "count_over_time", "bytes_over_time", "bytes_rate", "absent_over_time"]
UNWRAP_OPS = ["sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "stddev_over_time", "stdvar_over_time", "first_over_time", "last_over_time", "quantile_over_time", "rate", "rate_counter", "absent_over_time"]
GROUPED_OPS = UNWRAP_OPS[1:9]
VECTOR_OPS = ["sum", "avg", "min", "max", "count", "stddev", "stdvar"]


def quoted(text, rng=None):
    """A string literal; with a generator sometimes a raw one."""
    if rng and "`" not in text and "\r" not in text and rng.random() < 0.5:
        return f"`{text}`"
    return json.dumps(text, ensure_ascii=False)


class Queries:
    """Makes queries: `log()` and `metric()`."""

    def __init__(self, rng, templates=True):
        self.rng = rng
        self.templates = Templates(rng)
        self.plain = not templates

    def pick(self, choices):
        return self.rng.choice(choices)

    def string(self, choices):
        return node("string", quoted(self.pick(choices), self.rng))

    def often(self, share=0.5):
        return self.rng.random() < share

    # -- log queries

    def selector(self):
        first = self.pick(['job=~".+"', 'job="json"', 'job="logfmt"', 'job="text"', 'job="packed"', 'job="number"', 'job="numbers_json"', 'job=~"number.*"', 'job=~"json|logfmt"', 'job!=""'])
        extra = []
        for _ in range(self.pick([0, 0, 0, 1, 1, 2])):
            name = self.pick(["app", "env", "level", "missing", "job", "i", "n"])
            if self.often():
                value = quoted(self.pick(["a", "b", "ü", "prod", "", "error", "json", "1"]), self.rng)
                extra.append(node("matcher", name, self.pick(["=", "!=", "!="]), value))
            else:
                extra.append(node("matcher", name, self.pick(["=~", "!~"]), self.string(REGEXES)))
        comma = self.pick([",", ", "])
        return node("selector", "{", *joined(comma, [node("matcher", first), *extra]), self.pick(["}", " }"]))

    def log(self, stages=None):
        count = self.rng.choice([0, 1, 2, 2, 3, 3, 4, 5]) if stages is None else stages
        return node("log", self.selector(), *(optional("stage", self.space(), self.stage()) for _ in range(count)))

    def space(self):
        return self.pick([" ", " ", " ", " ", " ", "\n ", " # note | json\n", "  "])

    def stage(self):
        choices = [
            (18, self.line_filter), (12, lambda: "| json"), (12, self.logfmt), (5, self.json_paths), (4, self.logfmt_keys),
            (5, self.regexp), (6, self.pattern), (4, lambda: "| unpack"), (22, lambda: node("stage", "| ", self.condition())),
            (12, self.line_format), (10, self.label_format), (4, lambda: "| decolorize"), (6, self.drop), (5, self.keep),
        ]  # fmt: skip
        return self.rng.choices([make for _, make in choices], [weight for weight, _ in choices])[0]()

    def line_filter(self):
        op = self.pick(LINE_OPS)
        pool = {"~": REGEXES, ">": PATTERNS}.get(op[1], NEEDLES)
        values = []
        for _ in range(self.pick([1, 1, 1, 2, 3])):
            if op[1] == "=" and self.often(0.15):
                values.append(node("needle", "ip(", quoted(self.pick(NETWORKS)), ")"))
            else:
                values.append(node("needle", quoted(self.pick(pool), self.rng)))
        return node("filter", op, self.pick(["", " "]), *joined(" or ", values))

    def logfmt(self):
        return "| logfmt" + self.pick(["", "", "", " --strict", " --keep-empty", " --strict --keep-empty"])

    def json_paths(self):
        return node("stage", "| json ", *joined(", ", [self.extraction(PATHS) for _ in range(self.rng.randint(1, 3))]))

    def logfmt_keys(self):
        keys = joined(", ", [self.extraction(KEYS) for _ in range(self.rng.randint(1, 3))])
        return node("stage", self.logfmt(), " ", *keys)

    def extraction(self, sources):
        name = self.pick(["a", "n", "x", "y", "msg", "app", "d", "level", "v"])
        return node("extraction", name) if self.often(0.3) else node("extraction", name, "=", self.string(sources))

    def regexp(self):
        return node("stage", "| regexp ", self.string(NAMED))

    def pattern(self):
        return node("stage", "| pattern ", self.string(CAPTURES))

    def line_format(self):
        return node("stage", "| line_format ", self.template())

    def template(self):
        text = self.templates.text()
        if self.plain:
            return self.string(["{{.app}}", "{{.n}} {{.msg}}", "{{.missing}}", "x", "", "{{__line__}}", "{{.d}}{{.level}}"])
        if self.often(0.9):
            return QuotedTemplate("template-string", (text,))
        return node("string", quoted(self.pick(["{{", "{{.app", "{{end}}", "{{if}}", "{{.app | }}", "{{ 1 2 }}", "{{range}}", "{{$x}}", "{{.a b}}", "{{\"}}", "{{else}}", "{{.app.}}", "{{template \"no\"}}", "{{'ab'}}", "{{.a}} {{break}}", "{{()}}", "{{if .a}}x"])))

    def label_format(self):
        items = []
        for _ in range(self.pick([1, 1, 2, 3])):
            value = self.pick(NAMES) if self.often(0.4) else self.template()
            items.append(node("item", self.pick(RESULTS if self.often(0.8) else NAMES), "=", value))
        return node("stage", "| label_format ", *joined(", ", items))

    def choices(self):
        items = []
        for _ in range(self.pick([1, 2, 3])):
            name = self.pick(NAMES)
            if self.often(0.6):
                items.append(node("item", name))
            elif self.often():
                items.append(node("item", name, self.pick(["=", "!="]), self.string(["a", "", "error", "5", "JSONParserErr"])))
            else:
                items.append(node("item", name, self.pick(["=~", "!~"]), self.string(REGEXES)))
        return joined(", ", items)

    def drop(self):
        return node("stage", "| drop ", *self.choices())

    def keep(self):
        return node("stage", "| keep ", *self.choices())

    def condition(self, depth=0):
        if depth < 3 and self.often(0.25):
            left, right = self.condition(depth + 1), self.condition(depth + 1)
            inner = node("condition", left, self.pick([" and ", " or ", ", ", " "]), right)
            return node("condition", "(", inner, ")") if self.often() else inner
        name, kind = self.pick(NAMES), self.rng.random()
        if kind < 0.25:
            return node("condition", name, self.pick(["=", "!="]), self.string(["a", "", "error", "5", "200", "b", "x"]))
        if kind < 0.4:
            return node("condition", name, self.pick(["=~", "!~"]), self.string(REGEXES))
        if kind < 0.6:
            return node("condition", self.pick([name, "n", "v", "status"]), self.pick([" ", ""]), self.pick(COMPARE), self.pick(["", " "]), self.number())
        if kind < 0.75:
            return node("condition", self.pick([name, "d", "took"]), " ", self.pick(COMPARE), " ", self.pick(["5s", "1m30s", "-5m", "1.5h", "250ms", "1d", "2µs", "0s", "1h", "10ns"]))
        if kind < 0.9:
            return node("condition", self.pick([name, "b", "size"]), " ", self.pick(COMPARE), " ", self.pick(["5KB", "10B", "1.5GiB", "1kB", "3MB", "2k", "1024KB", "1KiB", "1TB"]))
        return node("condition", self.pick([name, "ip"]), self.pick(["=", "!="]), "ip(", quoted(self.pick(NETWORKS)), ")")

    def number(self):
        return self.pick(["0", "1", "5", "-1", "0.5", "1e3", "200", "42", "-0.5", ".5", "3.25", "+3", "1e-7", "9007199254740993"])

    # -- metric queries

    def metric(self, depth=0):
        choice = self.rng.random()
        if depth > 2 or choice < 0.4:
            return node("metric", self.range_aggregation())
        if choice < 0.7:
            return node("metric", self.vector_aggregation(depth))
        if choice < 0.9:
            return node("metric", self.binary(depth))
        if choice < 0.95:
            return node("metric", self.label_replace(depth))
        if depth:
            return node("metric", self.range_aggregation())
        return node("metric", self.pick(["vector(1)", "vector(-2.5)", "2", "-0.5", "vector(0)", "1e3"]))

    def range_aggregation(self):
        if self.often(0.45):
            op = self.pick(PLAIN_OPS)
            inner = self.log_range(None)
        else:
            op = self.pick(UNWRAP_OPS)
            inner = self.log_range(self.unwrap())
        parameter = self.pick(["0.5", "0.99", "0", "1", "-1", "2", "0.25"]) + ", " if op == "quantile_over_time" else ""
        grouping = self.grouping() if op in GROUPED_OPS and self.often() else ""
        return node("range-aggregation", op, self.pick(["(", " ("]), parameter, inner, ")", optional("grouping", grouping) if grouping else "")

    def unwrap(self):
        label = self.pick(["n", "v", "d", "b", "took", "size", "c", "missing", "status", "code"])
        conversion = {"d": "duration", "took": "duration_seconds", "b": "bytes", "size": "bytes"}.get(label)
        if self.often(0.15):
            conversion = self.pick([None, "bytes", "duration", "duration_seconds"])
        text = f"| unwrap {conversion}({label})" if conversion else f"| unwrap {label}"
        filters = [optional("stage", " | ", '__error__=""')] if self.often(0.8) else []
        filters += [optional("stage", " | ", self.condition()) for _ in range(self.pick([0, 0, 0, 1]))]
        return node("unwrap", text, *filters)

    def log_range(self, unwrap):
        if unwrap and self.often(0.6):
            selector, parser = self.pick([('{job=~"number.*"}', "| logfmt"), ('{job="numbers_json"}', "| json"), ('{job="number"}', "| logfmt"), ('{job="json"}', "| json"), ('{job="logfmt"}', "| logfmt")])
            log = node("log", node("selector", selector), optional("stage", " ", parser), *(optional("stage", " ", self.stage()) for _ in range(self.pick([0, 0, 1]))))
        else:
            log = self.log(self.pick([0, 1, 2, 2, 3]))
        guard = optional("stage", ' | __error__=""') if self.often(0.5) else ""
        span = f"[{self.pick(RANGES)}]"
        offset = self.pick(["", "", "", f" offset {self.pick(['1m', '30s', '-1m', '5m', '1h', '-30s', '1500ms'])}"])
        unwrap = node("tail", " ", unwrap) if unwrap else ""
        form = self.rng.randrange(10)
        if form == 0:
            return node("log-range", "(", log, guard, unwrap, ")", span, optional("offset", offset))
        if form == 1 and not guard and not unwrap:
            # the range may stand before the pipeline
            return node("log-range", log.parts[0], span, optional("offset", offset), *log.parts[1:])
        return node("log-range", log, guard, unwrap, self.pick(["", " "]), span, optional("offset", offset))

    def grouping(self):
        labels = self.rng.sample(NAMES[:12] + ["g", "g", "x", "missing", "__error__", "i"], self.pick([0, 1, 1, 2, 3]))
        return f" {self.pick(['by', 'by', 'without', 'BY'])} ({self.pick([', ', ',']).join(labels)})"

    def vector_aggregation(self, depth):
        # No approx_topk: Loki rewrites it to what its own parser refuses, unless it is enabled.
        choice = self.rng.random()
        inner = self.metric(depth + 1)
        if choice < 0.7:
            op, parameter = self.pick(VECTOR_OPS), ""
        elif choice < 0.88:
            op, parameter = self.pick(["topk", "bottomk", "topk", "bottomk"]), self.pick(["1, ", "2, ", "3, ", "10, "])
        else:
            op, parameter = self.pick(["sort", "sort_desc"]), ""
        grouping = "" if self.often(0.35) or op in ("sort", "sort_desc", "approx_topk") else self.grouping()
        if self.often():
            return node("aggregation", op, optional("grouping", grouping), self.pick(["", " "]), "(", parameter, inner, ")")
        return node("aggregation", op, "(", parameter, inner, ")", optional("grouping", grouping))

    def binary(self, depth):
        op = self.pick([*ARITHMETIC, *COMPARE[:6], "and", "or", "unless", "+", "/"])
        modifier = " bool" if op in COMPARE and self.often(0.4) else ""
        if self.often(0.35):
            labels = ", ".join(self.rng.sample(["app", "job", "g", "level", "env", "i", "service_name", "detected_level"], self.pick([0, 1, 2])))
            modifier += f" {self.pick(['on', 'ignoring'])} ({labels})"
            if op not in ("and", "or", "unless") and self.often(0.4):
                modifier += f" {self.pick(['group_left', 'group_right'])}{self.pick(['', ' ()', ' (app)', ' (env, g)'])}"
        if self.often(0.3) and op not in ("and", "or", "unless"):
            sides = [self.metric(depth + 1), node("metric", self.pick(["2", "0", "-1", "0.5", "1e3", "vector(3)"]))]
            self.rng.shuffle(sides)
        elif self.often(0.5):
            log = self.log(1)
            by = f" by ({self.pick(['app', 'job', 'app, job', 'level', ''])})"
            sides = [node("metric", self.pick(VECTOR_OPS), by, "(", self.pick(PLAIN_OPS[:4]), "(", log, "[5m]", "))") for _ in "lr"]
        else:
            sides = [self.metric(depth + 1), self.metric(depth + 1)]
        text = node("binary", sides[0], " ", op, modifier, " ", sides[1])
        return node("binary", "(", text, ")") if self.often() else text

    def label_replace(self, depth):
        arguments = [self.pick(["x", "app", "dst", "job"]), self.pick(["$1", "a$0b", "", "${x}", "$2", "é", "$1$"]), self.pick(["app", "job", "level", "missing", ""]), self.pick(["(.*)", "(a)|b", "", "(?P<x>.+)", ".+", "(", "a(.?)"])]
        return node("replace", "label_replace(", self.metric(depth + 1), *(part for a in arguments for part in (", ", quoted(a))), ")")


class QuotedTemplate(type(node("x"))):
    """A template inside a string literal."""

    def __str__(self):
        return quoted("".join(map(str, self.parts)))


def times(rng):
    """The times of a request: an instant, or a range with its step."""
    at = data.START + rng.choice([60, 300, 301, 600, 660]) * data.NS + rng.choice([0, 0, 1, 500_000_000])
    start = data.START + rng.choice([0, 0, 60, 90]) * data.NS + rng.choice([0, 0, 1, 123_456_789])
    return at, start, start + rng.choice([300, 600, 610]) * data.NS, rng.choice(["30", "60", "7", "90.5", "1m", "5m", "250"])
