"""The process supervisor: starts, watches and ends the processes of attempts, in a small process
of its own.

Rule: standard library only, one thread, no import of dtf (it runs with `-I -S` as a package of its
own, see `start.py`). It is the parent and the subreaper of every process of every attempt, so
nothing an attempt starts can leave its sight; when the agent dies in any way, the control socket
ends and the supervisor kills all of them and itself. A small parent also makes spawning cheap, and
keeps the peak memory the kernel reports honest: a child inherits the peak of whoever spawned it.

Control: frames of 4 bytes length (little endian) and a marshalled tuple; both ends are the same
interpreter.
 in:  ("start", id, order) ("kill", id, soft) ("drop", id)
 out: ("started", id, pid) ("output", id, bytes, dropped) ("done", id, facts)
      ("refused", id, stage, text) ("returned", id)

Attempts with the same slot run one after the other: the next starts without asking the agent. Once
one of them proves not to be short, whoever waits behind it is returned.
"""
