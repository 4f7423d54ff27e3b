import time

from dtf.core import codec
from dtf.core import events as e
from dtf.core.fold import Fold
from dtf.core.ids import run_id
from dtf.core.model import *
from dtf.core.ports import Message
from msgspec import Raw

N = 20000
rid = run_id("me", "k")
msgs = []
seq = 0


def m(subject, evs):
    global seq
    seq += 1
    msgs.append(Message(seq, "dtf.main." + subject, codec.encode_batch(evs)))


m("pool", [e.PoolCreated(uuid="u", name="main")])
m("leader", [e.LeaderElected(term=1, coordinator="c", nonce="n")])
m("worker.w", [e.WorkerJoined(incarnation="i", hardware=["cpu"], cpu_milli=1000, memory_bytes=1)])
m(
    f"run.me.{rid}",
    [
        e.RunSubmitted(key="k"),
        e.TasksSubmitted(
            part=0,
            group="noop",
            spec=TaskSpec(runner="python", target="a:b"),
            items=[Raw(b'{"i":%d}' % i) for i in range(N)],
        ),
        e.RunSealed(parts=1, tasks=N),
    ],
)
B = 100
for s in range(0, N, B):
    r = range(s, s + B)
    tok = [f"noop-{i}.1.1.n{i:x}" for i in r]
    m(
        "assign.cpu.w",
        [
            e.TaskAssigned(term=1, run=rid, token=t, incarnation="i", params=Raw(b'{"i":1}'))
            for t in tok
        ],
    )
    m(
        f"attempt.w.{rid}",
        [
            e.AttemptFinished(token=t, verdict=Verdict.PASSED, duration_us=5, value=Raw(b"1"))
            for t in tok
        ],
    )
    q = seq
    m(
        f"ruling.{rid}",
        [
            e.TaskSettled(
                term=1, task=f"noop-{i}", verdict=Verdict.PASSED, token=tok[i - s], at=(q, i - s)
            )
            for i in r
        ],
    )
m(f"ruling.{rid}", [e.RunSettled(term=1, verdict="passed", counts={"passed": N})])
import gc

gc.freeze()
for _ in range(3):
    f = Fold("main")
    t = time.perf_counter()
    n = 0
    for x in msgs:
        j = f.apply(x)
        n += len(j.events)
        assert not any(j.voids), j
    dt = time.perf_counter() - t
    print(n, n / dt, "events/s", f.pool.runs[rid].settled, f.pool.voids)
from dtf.core.state import digest

print(digest(f.pool))
