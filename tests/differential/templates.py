"""Random Go templates: every function, control flow, variables, pipelines, printf verbs, time layouts."""

import json

from .tree import node, optional

FIELDS = ["app", "job", "n", "d", "b", "msg", "level", "ip", "status", "v", "g", "missing", "a_b", "trace_id", "detected_level"]
STRINGS = ["", " ", "a", "x", "o", "er", "é", "日", "=", "\n", "abc", "Hello World", "a.b", "%d", "YWJj", "!!", "2026-01-02", "10", "-3", "1.5", "1h"]
REGEXES = ["a", "[a-z]+", "(o)(r)?", "(?i)E", "\\d+", "^", "$", "(?P<x>\\w)", "", "a|b", "[[:alpha:]]", "\\bx", "(", "x{1001}", "(?=a)"]
REPLACEMENTS = ["", "<$1>", "${x}", "$0", "$1x", "$$", "$", "${", "z"]
LAYOUTS = ["2006-01-02T15:04:05Z07:00", "Jan _2 15:04:05.000", "Monday, 02-Jan-06 03:04:05 PM MST", "2006-002 .999999999", "15h04m05.00s -0700", "3:4:5pm Z0700", "06/1/2 -07", "x", "", "2006-01-02"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Nowhere/City", "", "Local"]
VERBS = ["%s", "%q", "%v", "%d", "%5s|", "%-5s|", "%05d", "%x", "%X", "%+v", "%.2f", "%8.3f", "%e", "%g", "%t", "%T", "%c", "%U", "%b", "%o", "%#x", "%#v", "%+d", "% d", "%6.2f%%", "%s %s", "%[2]s %[1]s", "%*d", "%z", "%", "%!", "%.3s", "%08.3f", "%#q", "%x %X", "%v %d"]


class Templates:
    """Makes templates; `text()` is one, without quotes around it."""

    def __init__(self, rng):
        self.rng = rng

    def pick(self, choices):
        return self.rng.choice(choices)

    def text(self, depth=0):
        pieces = [self.piece(depth) for _ in range(self.rng.choice([1, 1, 2, 3]))]
        return node("template", *(optional("piece", piece) for piece in pieces))

    def piece(self, depth):
        choice = self.rng.random()
        if choice < 0.15:
            return node("text", self.pick(["-", " ", "é ", "<", "&", "}", "\n", "a b  ", "{", "{{/* c */}}", "{{- /* c */ -}}"]))
        if choice < 0.72 or depth > 2:
            left, right = self.trim()
            return node("action", left, self.pipeline(depth), right)
        return self.control(depth)

    def trim(self):
        return self.pick(["{{", "{{ ", "{{- "]), self.pick(["}}", " }}", " -}}"])

    def control(self, depth):
        form = self.rng.randrange(8)
        body, other, condition = self.text(depth + 1), self.text(depth + 1), self.pipeline(depth + 1)
        if form == 0:
            return node("action", "{{if ", condition, "}}", body, "{{end}}")
        if form == 1:
            return node("action", "{{if ", condition, "}}", body, "{{else if ", self.pipeline(depth + 1), "}}", other, "{{else}}z{{end}}")
        if form == 2:
            return node("action", "{{with ", self.pick(["", "$w := "]), condition, "}}[{{.}}]{{else}}", other, "{{end}}")
        if form == 3:
            source = self.pick([".", "(fromJson __line__)", "(fromJson `[1,\"b\",[2]]`)", ".n", "3", "(fromJson `{\"b\":2,\"a\":1}`)", "$"])
            head = self.pick(["", "$x := ", "$k, $v := "])
            inner = {"": "{{.}}", "$x := ": "{{$x}}", "$k, $v := ": "{{$k}}={{$v}}"}[head]
            stop = self.pick(["", "", "{{break}}", "{{continue}}", "{{if eq 1 1}}{{break}}{{end}}"])
            return node("action", "{{range ", head, source, "}}", stop, inner, ";", "{{else}}", other, "{{end}}")
        if form == 4:
            return node("action", "{{$y := ", condition, "}}{{$y}}{{if ", self.pipeline(depth + 1), "}}{{$y = ", self.argument(depth + 1), "}}{{end}}{{$y}}")
        if form == 5:
            return node("action", '{{define "t"}}', body, '{{end}}{{template "t" ', self.pick([".", "3", ".app", ""]), "}}")
        if form == 6:
            return node("action", '{{block "b" .}}', body, "{{end}}")
        return node("action", "{{with $ }}{{.app}}{{end}}{{with .missing}}x{{else with .app}}{{.}}{{end}}")

    def pipeline(self, depth):
        """A command, perhaps piped into functions whose last argument it is."""
        command = self.command(depth)
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 2])):
            command = node("pipeline", command, optional("pipe", " | ", self.piped(depth)))
        return node("pipeline", command)

    def command(self, depth):
        if self.rng.random() < 0.35 or depth > 3:
            return self.operand()
        return self.call(depth)

    def operand(self):
        choice = self.rng.random()
        if choice < 0.55:
            return node("argument", "." + self.pick(FIELDS))
        return node("argument", self.pick(["__line__", "__timestamp__", ".", "$", "$.app", "1", "-2", "1.5", "0x10", "1e3", "'a'", "true", "nil", '"s"', "`r`", ".__error__", "(.app)", ".app.x", "0b11", "1_000"]))

    def argument(self, depth, kind="any"):
        """An argument, mostly of the type asked for."""
        choice = self.rng.random()
        if choice < 0.12 and depth < 3:
            return node("argument", "(", self.pipeline(depth + 1), ")")
        if choice < 0.2:
            return self.operand()
        if kind == "any":
            kind = self.pick(["string", "int", "float", "field", "field"])
        if kind == "field" or (kind == "string" and choice < 0.6):
            return node("argument", self.pick(["." + self.pick(FIELDS), "__line__"]))
        texts = {
            "string": lambda: json.dumps(self.pick(STRINGS), ensure_ascii=False),
            "int": lambda: self.pick(["0", "1", "2", "3", "-1", "10", "7", "100", "(int .n)", "(.v | int)"]),
            "float": lambda: self.pick(["1.5", "-0.25", "2.0", "1e3", "(float64 .n)", "(.v | float64)", "3"]),
            "regex": lambda: json.dumps(self.pick(REGEXES)),
            "replacement": lambda: json.dumps(self.pick(REPLACEMENTS)),
            "layout": lambda: json.dumps(self.pick(LAYOUTS)),
            "zone": lambda: json.dumps(self.pick(ZONES)),
            "time": lambda: self.pick(["__timestamp__", "(unixToTime \"1767571200\")", "(toDate \"2006-01-02\" \"2026-03-29\")", "(unixToTime .n)"]),
            "verbs": lambda: json.dumps(self.pick(VERBS)),
            "epoch": lambda: json.dumps(self.pick(["12345", "1767571200", "1767571200123", "1767571200123456", "1767571200123456789", "x", "123"])),
            "json": lambda: self.pick(["__line__", '`{"a":{"b":[1,2.5,"x",null,true]}}`', "`[1,2]`", "`3`", "`x`"]),
        }
        return node("argument", texts[kind]())

    CALLS = {
        "ToLower": ["string"], "ToUpper": ["string"], "Replace": ["string", "string", "string", "int"], "Trim": ["string", "string"],
        "TrimLeft": ["string", "string"], "TrimRight": ["string", "string"], "TrimPrefix": ["string", "string"],
        "TrimSuffix": ["string", "string"], "TrimSpace": ["string"], "regexReplaceAll": ["regex", "string", "replacement"],
        "regexReplaceAllLiteral": ["regex", "string", "replacement"], "count": ["regex", "string"], "urldecode": ["string"],
        "urlencode": ["string"], "bytes": ["string"], "duration": ["string"], "duration_seconds": ["string"],
        "unixEpochMillis": ["time"], "unixEpochNanos": ["time"], "toDateInZone": ["layout", "zone", "string"], "unixToTime": ["epoch"],
        "alignLeft": ["int", "string"], "alignRight": ["int", "string"], "b64dec": ["string"], "b64enc": ["string"], "lower": ["string"],
        "upper": ["string"], "title": ["string"], "trunc": ["int", "string"], "substr": ["int", "int", "string"],
        "contains": ["string", "string"], "hasPrefix": ["string", "string"], "hasSuffix": ["string", "string"], "indent": ["int", "string"],
        "nindent": ["int", "string"], "replace": ["string", "string", "string"], "repeat": ["int", "string"], "trim": ["string"],
        "trimAll": ["string", "string"], "trimSuffix": ["string", "string"], "trimPrefix": ["string", "string"], "int": ["any"],
        "float64": ["any"], "add": ["any", "any", "any"], "sub": ["any", "any"], "mul": ["any", "any"], "div": ["any", "any"],
        "mod": ["any", "any"], "addf": ["any", "any"], "subf": ["any", "any"], "mulf": ["any", "any"], "divf": ["any", "any"],
        "max": ["any", "any"], "min": ["any", "any"], "maxf": ["any", "any"], "minf": ["any", "any"], "ceil": ["any"], "floor": ["any"],
        "round": ["any", "int"], "fromJson": ["json"], "date": ["layout", "time"], "toDate": ["layout", "string"], "unixEpoch": ["time"],
        "default": ["any", "any"], "and": ["any", "any"], "or": ["any", "any"], "not": ["any"], "eq": ["any", "any"], "ne": ["any", "any"],
        "lt": ["any", "any"], "le": ["any", "any"], "gt": ["any", "any"], "ge": ["any", "any"], "len": ["any"],
        "slice": ["field", "int", "int"], "print": ["any", "any"], "printf": ["verbs", "any", "any"], "println": ["any"], "html": ["string"],
        "js": ["string"], "urlquery": ["string"],
    }  # fmt: skip

    def call(self, depth):
        choice = self.rng.random()
        if choice < 0.04:
            return node("call", "index (fromJson ", self.argument(depth, "json"), ") ", self.pick(['"a"', "0", '"a" "b"', '"a" "b" 1', '"zz"', "5", "-1"]))
        if choice < 0.07:
            return node("call", self.pick(["__timestamp__.Unix", "__timestamp__.Year", "(__timestamp__.Format \"15:04\")", "__timestamp__.UTC.Weekday", "(unixToTime \"1767571200\").Month", "call .app", "nosuch .app", "__timestamp__.Nope", ".app.Len"]))
        name = self.pick(list(self.CALLS))
        kinds = self.CALLS[name]
        if self.rng.random() < 0.04:
            kinds = kinds[:-1] if self.rng.random() < 0.5 else [*kinds, "any"]
        parts = [part for kind in kinds for part in (" ", self.argument(depth, kind))]
        return node("call", name, *parts)

    def piped(self, depth):
        name = self.pick(list(self.CALLS))
        parts = [part for kind in self.CALLS[name][:-1] for part in (" ", self.argument(depth, kind))]
        return node("call", name, *parts)
