"""Captures what a Python prints when things fail, as cases for `shapes.rs`.

    capture.py INTERPRETER...        writes python-<version>.txt beside itself

A case is one snippet's standard error: one record. Paths and addresses are made the same on every machine. A case that an
earlier interpreter of the command line printed in the same words is left out.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

# What a snippet imports that can't be compiled.
BAD_MODULE = "x = 1\ndef f(a):\n    return a +* 2\n"

# Turns an exception into one that was raised, for exception groups.
RAISED = """def r(e):
    try:
        raise e
    except BaseException as x:
        return x
"""


def run(interpreter, snippet):
    """What the snippet writes to standard error."""
    _, _, code, how = snippet
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder, "train.py")
        script.write_text(code, encoding="utf-8")
        pathlib.Path(folder, "bad_mod.py").write_text(BAD_MODULE)
        command = [interpreter, *how.get("options", ())]
        source = None
        if how.get("how") == "c":
            command += ["-c", code]
        elif how.get("how") == "stdin":
            command.append("-")
            source = code
        else:
            command.append(script.name)
        env = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", **how.get("env", {})}
        done = subprocess.run(
            command, cwd=folder, env=env, input=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", timeout=30, check=False,
        )  # fmt: skip
        text = done.stderr.replace(folder, "/w")
    text = re.sub(r'(")[^"\n]*/lib/python3', r"\1/usr/lib/python3", text)
    text = re.sub(r"from '[^'\n]*/lib/python3", "from '/usr/lib/python3", text)
    text = re.sub(r"created at [^ \n]*/lib/python3", "created at /usr/lib/python3", text)
    return re.sub(r"0x[0-9a-f]{6,}", "0x7f00deadbeef", text).strip("\n")


def printed(names, text):
    """Which of the names (`a|b`: they differ by version) stands at the head of a line."""
    for name in names.split("|"):
        if re.search(rf"^[ |]*{re.escape(name)}(:|$| )", re.sub(r"\x1b\[[0-9;]*m", "", text), re.MULTILINE):
            return name
    raise SystemExit(f"{names} was not printed:\n{text}")


def as_case(snippet, text):
    title, exception, _, _ = snippet
    lines = text.replace("\x1b", "\\e").split("\n")
    marked = [f"> {lines[0]}", *(f"| {line}".rstrip() if not line.strip() else f"| {line}" for line in lines[1:])]
    end = [f"! {printed(exception, text)}"] if exception else []
    return "\n".join([f"# {title}", *marked, *end, "> 2026-01-01 10:00:00,123 INFO train: next", ""])


def main():
    seen = set()
    for interpreter in sys.argv[1:]:
        version = subprocess.run(
            [interpreter, "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        number = tuple(map(int, version.split(".")))
        texts = []
        for snippet in SNIPPETS:
            if number < tuple(snippet[3].get("since", (3, 8))):
                continue
            case = as_case(snippet, run(interpreter, snippet))
            if case not in seen:
                seen.add(case)
                texts.append(case)
        (HERE / f"python-{version}.txt").write_text("\n".join(texts), encoding="utf-8")
        print(f"{version}: {len(texts)} cases")


# Title, exception that must be named (or none), code, how to run it.
SNIPPETS = [
    ('plain', 'ZeroDivisionError', """def f(x):
    return 1 / x
f(0)
""", {}),
    ('no message', 'RuntimeError', """raise RuntimeError
""", {}),
    ('own class in a function', 'f.<locals>.Gone|__main__.Gone', """def f():
    class Gone(Exception): pass
    raise Gone('x')
f()
""", {}),
    ('name without Error', '_queue.Empty', """import queue
queue.Queue().get_nowait()
""", {}),
    ('stop iteration', 'StopIteration', """next(iter([]))
""", {}),
    ('lower case name', 'oops|__main__.oops', """class oops(Exception): pass
raise oops('bad thing')
""", {}),
    ('lower case no message', 'oops|__main__.oops', """class oops(Exception): pass
raise oops
""", {}),
    ('message lines', 'ValueError', r"""raise ValueError('first\nsecond line\n  third, indented\n\nafter a blank line\nend')
""", {}),
    ('message starts with newline', 'ValueError', r"""raise ValueError('\nfirst\nsecond')
""", {}),
    ('message list', 'ValueError', r"""raise ValueError('size mismatch:\n- a: 3 vs 4\n- b: 5 vs 6\n* c\n1. one\n2) two')
""", {}),
    ('message table', 'ValueError', r"""raise ValueError('mismatch\n+----+----+\n| a  | b  |\n+====+====+\n| 1  | 2  |\n+----+----+')
""", {}),
    ('message json', 'ValueError', r"""raise ValueError('bad config:\n{\n  "a": 1,\n  "b": [1, 2]\n}')
""", {}),
    ('message yaml', 'ValueError', r"""raise ValueError('bad config:\nmodel:\n  name: a\n  size: 3\n---\nx: y')
""", {}),
    ('message rule', 'ValueError', r"""raise ValueError('bad\n' + '='*60 + '\nhelp text here\n' + '='*60)
""", {}),
    ('message step', 'ValueError', r"""raise ValueError('loss is nan\nstep 12: loss nan\nepoch 3')
""", {}),
    ("a message that quotes another process's traceback", 'RuntimeError', r"""import traceback
try:
    int('x')
except ValueError:
    t = traceback.format_exc()
raise RuntimeError('worker died with:\n' + t)
""", {}),
    ('a message that goes on with an original traceback', 'RuntimeError', r"""import traceback
try:
    int('x')
except ValueError:
    t = traceback.format_exc()
raise RuntimeError('worker 3 failed.\n\nOriginal Traceback (most recent call last):\n' + t.split('\n',1)[1])
""", {}),
    ('message code', 'ValueError', r"""raise ValueError('bad code:\ndef f(x):\n    return x\n\nclass A:\n    pass')
""", {}),
    ('message diff', 'AssertionError', r"""raise AssertionError('differs\n--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n+ z')
""", {}),
    ('message with tabs', 'ValueError', r"""raise ValueError('bad\n\ttab one\n\t\ttab two\nend')
""", {}),
    ('message trailing newline', 'ValueError', r"""raise ValueError('bad\n')
""", {}),
    ('unicode', 'Größe|__main__.Größe', r"""class Größe(Exception): pass
raise Größe('zu groß\nüber alles')
""", {}),
    ('str fails', 'A|__main__.A', """class A(Exception):
    def __str__(self): raise ValueError
raise A('x')
""", {}),
    ('multi-line call', 'ValueError', """def f(*a, **k):
    raise ValueError('x')

f(
    1,
    2,
    a=3,
    b=[
        1,
    ],
)
""", {}),
    ('multi-line string', 'ValueError', """def f(*a, **k):
    raise ValueError('x')

f('''
SELECT a
FROM b
WHERE c
''', 3)
""", {}),
    ('suggestion', 'AttributeError', """import collections
collections.namedtoplo
""", {}),
    ('key error', 'KeyError', r"""{}['a\nb']
""", {}),
    ('cause', 'RuntimeError', """try:
    1/0
except Exception as e:
    raise RuntimeError('no luck') from e
""", {}),
    ('context', 'KeyError', """try:
    1/0
except Exception as e:
    {}['k']
""", {}),
    ('from none', 'RuntimeError', """try:
    1/0
except Exception as e:
    raise RuntimeError('no luck') from None
""", {}),
    ('chain of three, lines', 'KeyError', r"""try:
  try:
    raise ValueError('a\n\nb')
  except Exception as e:
    raise RuntimeError('c\nd\n') from e
except Exception:
    raise KeyError('e')
""", {}),
    ('notes', 'ValueError', r"""e = ValueError('a')
e.add_note('note one')
e.add_note('note two\nwith lines\n\n  and indentation')
raise e
""", {'since': (3, 11)}),
    ('notes chain', 'RuntimeError', """e = ValueError('a')
e.add_note('note one')
try:
    raise e
except Exception as x:
    y = RuntimeError('b'); y.add_note('n2'); raise y from x
""", {'since': (3, 11)}),
    ('group', 'ExceptionGroup', RAISED + r"""raise ExceptionGroup('several', [r(ValueError('a')), r(TypeError('b\nc'))])
""", {'since': (3, 11)}),
    ('group nested', 'ExceptionGroup', RAISED + """raise ExceptionGroup('several', [r(ValueError('a')), r(ExceptionGroup('inner', [r(TypeError('b')), r(OSError(2,'x'))])), r(KeyError('z'))])
""", {'since': (3, 11)}),
    ('group nested lines', 'ExceptionGroup', RAISED + r"""e = r(ValueError('a\n\nb')); e.add_note('n')
raise ExceptionGroup('several\nlines', [e, r(ExceptionGroup('inner', [r(TypeError('b'))]))])
""", {'since': (3, 11)}),
    ('group many', 'ExceptionGroup', RAISED + """raise ExceptionGroup('many', [r(ValueError(i)) for i in range(20)])
""", {'since': (3, 11)}),
    ('group cause', 'ExceptionGroup', RAISED + """try:
    1/0
except Exception as e:
    raise ExceptionGroup('x', [r(ValueError('q'))]) from e
""", {'since': (3, 11)}),
    ('group chained after', 'RuntimeError', RAISED + """try:
    raise ExceptionGroup('x', [r(ValueError('q'))])
except Exception as e:
    raise RuntimeError('later') from e
""", {'since': (3, 11)}),
    ('group inner cause', 'ExceptionGroup', RAISED + """def c():
  try:
    try:
      1/0
    except Exception as e:
      raise ValueError('in') from e
  except Exception as e:
    return e
raise ExceptionGroup('x', [c(), c()])
""", {'since': (3, 11)}),
    ('group own class', 'Bad|__main__.Bad', RAISED + """class Bad(ExceptionGroup): pass
raise Bad('x', [r(ValueError('q'))])
""", {'since': (3, 11)}),
    ('base group', 'BaseExceptionGroup', RAISED + """raise BaseExceptionGroup('x', [KeyboardInterrupt()])
""", {'since': (3, 11)}),
    ('syntax main', 'SyntaxError', """def f(:
    pass
""", {}),
    ('indentation main', 'IndentationError', """def f():
pass
""", {}),
    ('tab main', 'TabError', """if 1:
        x = 1
	y = 2
""", {}),
    ('string main', 'SyntaxError', """x = 'abc
""", {}),
    ('syntax import', 'SyntaxError', """import bad_mod
""", {}),
    ('syntax exec', 'SyntaxError', """exec('a b')
""", {}),
    ('syntax in except', 'SyntaxError', """try:
    1/0
except Exception:
    import bad_mod
""", {}),
    ('syntax no text', 'SyntaxError', """raise SyntaxError('hand made')
""", {}),
    ('recursion', 'RecursionError', """def f(x): return f(x + 1)
f(0)
""", {}),
    ('recursion two', 'RecursionError', """import sys
sys.setrecursionlimit(40)
def f(x):
    return g(x)
def g(x):
    return f(x)
f(0)
""", {}),
    ('recursion repr', 'RecursionError', """import sys
sys.setrecursionlimit(40)
class A:
    def __repr__(self): return repr(self)
repr(A())
""", {}),
    ('recursion caught', 'ValueError', """import sys
sys.setrecursionlimit(60)
def f(x):
    try:
        return f(x+1)
    except RecursionError as e:
        raise ValueError(x) from None
f(0)
""", {}),
    ('thread', 'ZeroDivisionError', """import threading
def f(): 1/0
t = threading.Thread(target=f); t.start(); t.join()
""", {}),
    ('thread named', 'ValueError', r"""import threading
def f(): raise ValueError('a\nb')
t = threading.Thread(target=f, name='pin memory'); t.start(); t.join()
""", {}),
    ('thread chained', 'ValueError', """import threading
def f():
    try: 1/0
    except Exception as e: raise ValueError('x') from e
t = threading.Thread(target=f); t.start(); t.join()
""", {}),
    ('thread raw', 'ZeroDivisionError', """import _thread, time
def f(): 1/0
_thread.start_new_thread(f, ()); time.sleep(.2)
""", {}),
    ('thread excepthook fails', 'ZeroDivisionError', """import threading
def h(*a): 1/0
threading.excepthook = h
def f(): raise KeyError('x')
t = threading.Thread(target=f); t.start(); t.join()
""", {}),
    ('thread group', 'ExceptionGroup', """import threading
def f(): raise ExceptionGroup('g', [ValueError(1)])
t = threading.Thread(target=f); t.start(); t.join()
""", {'since': (3, 11)}),
    ('del', 'ValueError', """class A:
    def __del__(self): raise ValueError('in del')
a = A()
del a
""", {}),
    ('del lines', 'ValueError', r"""class A:
    def __del__(self): raise ValueError('in del\nmore')
a = A()
del a
""", {}),
    ('del chained', 'ValueError', """class A:
    def __del__(self):
        try: 1/0
        except Exception as e: raise ValueError('in del') from e
a = A()
del a
""", {}),
    ('weakref', 'ZeroDivisionError', """import weakref
class A: pass
a = A()
def cb(r): 1/0
r = weakref.ref(a, cb)
del a
""", {}),
    ('finalize', 'ZeroDivisionError', """import weakref
class A: pass
a = A()
weakref.finalize(a, lambda: 1/0)
del a
""", {}),
    ('generator ignored', 'RuntimeError', """def g():
    try:
        yield 1
    except GeneratorExit:
        yield 2
x = g(); next(x); del x
""", {}),
    ('generator close', 'ZeroDivisionError', """def g():
    try:
        yield 1
    finally:
        1/0
x = g(); next(x); del x
""", {}),
    ('atexit', 'ZeroDivisionError', """import atexit
def f(): 1/0
atexit.register(f)
""", {}),
    ('broken pipe', 'BrokenPipeError', """import os, sys
r, w = os.pipe(); os.close(r); os.dup2(w, 1); print('x')
""", {}),
    ('ctypes callback', 'ZeroDivisionError', """import ctypes
@ctypes.CFUNCTYPE(None)
def f(): 1/0
f()
""", {}),
    ('unraisable hook fails', 'ZeroDivisionError', """import sys
def h(u): 1/0
sys.unraisablehook = h
class A:
    def __del__(self): raise ValueError('in del')
a = A()
del a
""", {}),
    ('excepthook fails', 'ValueError', """import sys
def h(*a): 1/0
sys.excepthook = h
raise ValueError('orig')
""", {}),
    ('coroutine', None, """async def f(): pass
f()
""", {}),
    ('coroutine tracemalloc', None, """async def f(): pass
def g():
    f()
g()
""", {'options': ['-X', 'tracemalloc=5']}),
    ('resource', None, """def g():
    open('/etc/hosts')
g()
""", {'options': ['-W', 'always']}),
    ('resource tracemalloc', None, """def g():
    open('/etc/hosts')
g()
""", {'options': ['-W', 'always', '-X', 'tracemalloc=5']}),
    ('warning', None, """import warnings
def f():
    warnings.warn('be careful')
f()
""", {}),
    ('warning lines', None, r"""import warnings
warnings.warn('be careful\nsecond line\n  third\n\nlast', UserWarning)
""", {}),
    ('warning no source', None, """import warnings
warnings.warn_explicit('be careful', FutureWarning, 'nowhere.py', 7)
""", {}),
    ('warning stacklevel', None, """import warnings
def f(): warnings.warn('dep', DeprecationWarning, stacklevel=2)
x = [f() for i in range(1)]
""", {'options': ['-W', 'always']}),
    ('warning multi-line call', None, """import warnings
warnings.warn(
    'be careful',
    UserWarning,
)
""", {}),
    ('warning error', 'UserWarning', """import warnings
warnings.warn('be careful')
""", {'options': ['-W', 'error']}),
    ('faulthandler segv', None, """import faulthandler, os, signal
faulthandler.enable()
def f(): os.kill(os.getpid(), signal.SIGSEGV)
f()
""", {}),
    ('faulthandler threads', None, """import faulthandler, os, signal, threading, time
faulthandler.enable()
for i in range(3): threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
time.sleep(.1)
os.kill(os.getpid(), signal.SIGABRT)
""", {}),
    ('faulthandler dump', None, """import faulthandler, threading, time
t=threading.Thread(target=time.sleep, args=(.2,)); t.start()
faulthandler.dump_traceback()
""", {}),
    ('faulthandler later', None, """import faulthandler, time
faulthandler.dump_traceback_later(.1)
time.sleep(.3)
""", {}),
    ('faulthandler later exit', None, """import faulthandler, time
faulthandler.dump_traceback_later(.1, exit=True)
time.sleep(.3)
""", {}),
    ('faulthandler usr1', None, """import faulthandler, os, signal, threading, time
faulthandler.register(signal.SIGUSR1)
t=threading.Thread(target=time.sleep, args=(.3,)); t.start(); time.sleep(.1)
os.kill(os.getpid(), signal.SIGUSR1)
""", {}),
    ('process', 'ZeroDivisionError', """import multiprocessing as m
def f(): 1/0
if __name__ == '__main__':
    m.set_start_method('fork')
    p = m.Process(target=f); p.start(); p.join()
""", {}),
    ('process spawn', 'ValueError', r"""import multiprocessing as m
def f(): raise ValueError('a\n\nb')
if __name__ == '__main__':
    m.set_start_method('spawn')
    p = m.Process(target=f, name='worker 7'); p.start(); p.join()
""", {}),
    ('pool', 'ZeroDivisionError', """import multiprocessing as m
def f(x): return 1/x
if __name__ == '__main__':
    with m.Pool(2) as p: p.map(f, [1,0])
""", {}),
    ('executor', 'ZeroDivisionError', """import concurrent.futures as c
def f(x): return 1/x
if __name__ == '__main__':
    with c.ProcessPoolExecutor(2) as p: list(p.map(f, [1,0]))
""", {}),
    ('thread executor', 'ValueError', """import concurrent.futures as c
with c.ThreadPoolExecutor(2) as p: list(p.map(int, ['x']))
""", {}),
    ('future callback', 'ZeroDivisionError', """import concurrent.futures as c
def cb(f): 1/0
f = c.Future(); f.add_done_callback(cb); f.set_result(1)
""", {}),
    ('broken executor', 'concurrent.futures.process.BrokenProcessPool', """import concurrent.futures as c, os
def f(x): os._exit(1)
if __name__ == '__main__':
    with c.ProcessPoolExecutor(1) as p: list(p.map(f, [1]))
""", {}),
    ('logging exception', 'ZeroDivisionError', """import logging
logging.basicConfig(format='%(asctime)s %(levelname)s %(name)s: %(message)s')
try: 1/0
except Exception: logging.exception('step failed')
""", {}),
    ('logging basic', 'ZeroDivisionError', """import logging
try: 1/0
except Exception: logging.exception('step failed')
""", {}),
    ('logging stack', None, """import logging
logging.basicConfig()
def f(): logging.error('hm', stack_info=True)
f()
""", {}),
    ('logging exc and stack', 'ZeroDivisionError', """import logging
logging.basicConfig()
def f():
  try: 1/0
  except Exception: logging.error('hm', exc_info=True, stack_info=True)
f()
""", {}),
    ('logging error', 'TypeError', """import logging
logging.basicConfig()
def f(): logging.error('hm %d', 'a')
f()
""", {}),
    ('logging error args', 'TypeError', r"""import logging
logging.basicConfig()
def f(): logging.error('hm\n%d', 'a\nb', 3)
f()
""", {}),
    ('print exc', 'ZeroDivisionError', """import traceback
try: 1/0
except Exception: traceback.print_exc()
""", {}),
    ('asyncio never retrieved', 'ZeroDivisionError', """import asyncio
async def f(): 1/0
async def main():
    t = asyncio.create_task(f()); await asyncio.sleep(.01); del t
asyncio.run(main())
""", {}),
    ('asyncio future never', 'ValueError', r"""import asyncio
async def main():
    f = asyncio.get_running_loop().create_future(); f.set_exception(ValueError('x\ny')); del f
asyncio.run(main())
""", {}),
    ('asyncio callback', 'ZeroDivisionError', """import asyncio
async def main():
    asyncio.get_running_loop().call_soon(lambda: 1/0); await asyncio.sleep(.01)
asyncio.run(main())
""", {}),
    ('asyncio callback debug', 'ZeroDivisionError', """import asyncio
async def main():
    asyncio.get_running_loop().call_soon(lambda: 1/0); await asyncio.sleep(.01)
asyncio.run(main(), debug=True)
""", {}),
    ('asyncio debug', 'ZeroDivisionError', """import asyncio
async def f(): 1/0
async def main():
    t = asyncio.create_task(f()); await asyncio.sleep(.01); del t
asyncio.run(main(), debug=True)
""", {}),
    ('asyncio destroyed', None, """import asyncio
async def f(): await asyncio.sleep(5)
loop = asyncio.new_event_loop()
t = loop.create_task(f())
loop.run_until_complete(asyncio.sleep(0))
del t
loop._ready.clear(); loop._scheduled.clear()
import gc; gc.collect()
""", {}),
    ('keyboard interrupt', 'KeyboardInterrupt', """import os, signal
os.kill(os.getpid(), signal.SIGINT)
import time; time.sleep(1)
""", {}),
    ('exec string frames', 'ZeroDivisionError', r"""exec('def f():\n  1/0\nf()')
""", {}),
    ('command', 'ZeroDivisionError', """1/0
""", {'how': 'c'}),
    ('command syntax', 'SyntaxError', """a b
""", {'how': 'c'}),
    ('stdin', 'ZeroDivisionError', """def f():
    1/0
f()
""", {'how': 'stdin'}),
    ('stdin syntax', 'SyntaxError', """a b
""", {'how': 'stdin'}),
    ('color', 'KeyError', """def f(x):
    return {}['a']['b']
f(0)
""", {'since': (3, 13), 'env': {'FORCE_COLOR': '1'}}),
    ('color chain', 'RuntimeError', r"""try:
    1/0
except Exception as e:
    raise RuntimeError('no luck\nmore') from e
""", {'since': (3, 13), 'env': {'FORCE_COLOR': '1'}}),
    ('color thread', 'ZeroDivisionError', """import threading
def f(): 1/0
t = threading.Thread(target=f); t.start(); t.join()
""", {'since': (3, 13), 'env': {'FORCE_COLOR': '1'}}),
]

if __name__ == "__main__":
    main()
