"""The keys of a suite file and what they mean. Rule: reading, messages and reference share it."""

from __future__ import annotations

SUITE_KEYS = {
    "name": "name of the suite; the file's name when it is left out",
    "priority": "-100 to 100, higher runs first",
    "labels": "labels of the run, a table of texts",
    "wait_for_capacity": "keep tasks queued that no worker of the pool can run now",
    "defaults": "table of values for every task that does not say otherwise",
    "bundle": "table about the working tree that is shipped to workers, or false",
    "task": "array of tables: the tasks",
}
BUNDLE_KEYS = {
    "root": "directory to ship, relative to the suite file; its own directory when left out",
    "exclude": "patterns of files to leave out, as in .gitignore",
    "limit": 'most bytes to ship, such as "64M"',
}
DEFAULT_KEYS = {
    "hardware": "accelerator class, or a list of them: the task then runs once on each",
    "labels": "labels a worker must have, a table of texts; `worker` is the name of any worker",
    "cpus": "cores to reserve, fractions allowed",
    "memory": 'main memory to reserve, such as "4G"',
    "devices": "accelerators to reserve; one unless said otherwise, none for cpu",
    "device_memory": 'memory each reserved accelerator must have, such as "16G"',
    "wall": 'most time of one attempt, such as "5m"',
    "silence": "most time without any output",
    "queue": "most time until the first attempt begins",
    "grace": "time between asking a task to stop and killing it",
    "retries": "further attempts after the test itself failed",
    "infra_retries": "further attempts after the infrastructure failed",
    "artifacts": "globs below the scratch directory; what matches is stored",
    "env": 'environment, a table of texts; "{name}" is replaced by the parameter of that name',
    "isolation": '"process", or "none" for a trusted callable inside the worker; with `pytest`'
    ' what shares a process: "none" (a run), "process" (a task), "file", "case"',
    "preload": "modules imported once by the warm parent that tasks are forked from",
    "allow_fallback": "accept that the test ran elsewhere than on the hardware asked for",
    "check": "false: do not look for the task's files and callables here",
}
TASK_KEYS = {
    "name": "name of the task",
    "command": 'program and arguments; "{name}" is replaced by the parameter of that name',
    "python": '"module:callable" or "path/to/script.py", looked up in the bundle first',
    "pytest": "words of a pytest command line, paths below the bundle root: one task a file",
    "count": "run it that many times",
    "params": "array of tables: run it once with each",
    "matrix": "table of lists: run it once with each combination",
    "include": "combinations to add to the matrix; may stand in its table",
    "exclude": "combinations to leave out, a value may be a list; may stand in the matrix's table",
    **DEFAULT_KEYS,
}
"""Key -> what it means, for messages and for the reference."""
