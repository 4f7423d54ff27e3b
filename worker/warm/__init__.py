"""The warm program: an interpreter that has imported what tests need, and forks them.

Rule: standard library only, few imports, no thread, no import of dtf (it runs by path in any
Python >= 3.11, see `__main__.py`); `chain.py` alone is the agent's. Linux forks; elsewhere the same
program is started anew for each piece of work.

It serves one control socket (SOCK_STREAM; frames of 4 bytes length, little endian, and a marshalled
tuple; descriptors travel with the frame that needs them):

 in:  ("prepare", payload)   ("fork", [ids]) + for each a control socket and an output
      ("run", key, order)    ("warm", [files])      ("exit",)
 out: ("hello", pid, now)    first word on every socket; now is monotonic nanoseconds
      ("ready", {"pid", "threads", "seconds", "problem"})     problem "" is none; after prepare
      ("became", id, reason) this process must not be forked: it is that child from now on, and
                             serves the new socket only
      ("failed", ids, reason) it could not be forked; this process serves on
      ("end", key, status, {"cpu_us", "peak_rss"})            after a run that others may follow
      ("warmed", seconds, problem)

A fork is a double fork: the clone is adopted by the supervisor, which is the subreaper, and leads a
session and a process group of its own. `order` of a run: {"env": its own variables, "cwd": folder,
"once": the process ends with it, "work": payload}.

Payloads, by "kind": `import` {"modules", "path", "runners"} and `python` {"target"} are done here
(`work.py`); all of kind `pytest` by `runners/pytest/entry.py`, loaded by path as a package of its
own name, so that it may import what lies beside it relatively: `prepare(payload) -> state`,
`warm(state, files)`, `run(state, work, order) -> int`, `close(state)`.

A clone that ends does what a script does at its end: it waits for its threads, calls what `atexit`
has and flushes its files; the interpreter is not torn down object by object (`leaving.py`).
"""
