"""A run told by hand: events in, the view of a client out."""

from __future__ import annotations

from dtf.core.codec import encode_batch
from dtf.core.events import (
    AttemptFinished,
    AttemptStarted,
    CasesReported,
    Event,
    LeaderElected,
    RunSettled,
    TaskSettled,
)
from dtf.core.follow import RunView
from dtf.core.ids import attempt_token
from dtf.core.model import Cause, Measurement, Output, Verdict
from dtf.core.ports import Message
from dtf.core.subjects import Subjects
from dtf.core.submit import GroupPlan, Submission, submission_messages

SUBJECTS = Subjects("main")
SECOND_NS = 1_000_000_000


class Story:
    """One run of some groups; every call is one message of the log, a second after the last."""

    def __init__(self, *groups: GroupPlan, name: str = "story", keep_cases: bool = True) -> None:
        submission = Submission(publisher="me", key="k", name=name, groups=groups)
        self.run, messages = submission_messages(submission)
        self.view = RunView(self.run, keep_cases=keep_cases)
        self._sequence = 0
        self.tell(SUBJECTS.leader, LeaderElected(term=1, coordinator="c", nonce="n"))
        for subject, events in messages:
            self.tell(subject, *events)

    def tell(self, subject: str, *events: Event) -> tuple[int, int]:
        """One message; its position."""
        self._sequence += 1
        data = encode_batch(events)
        self.view.feed(Message(self._sequence, subject, data, self._sequence * SECOND_NS))
        return self._sequence, 0

    def start(self, task: str, worker: str = "w1") -> str:
        """The task's first attempt runs; its token."""
        token = attempt_token(task, 1, 1, "n")
        self.tell(SUBJECTS.attempt(worker, self.run), AttemptStarted(token=token))
        return token

    def end(
        self,
        task: str,
        verdict: Verdict,
        *,
        message: str = "",
        tail: str = "",
        latency_ms: float = 0,
    ) -> None:
        """The task is settled by its first attempt."""
        token = self.start(task)
        subject, n = SUBJECTS.attempt("w1", self.run), 1
        if latency_ms:
            measured = [Measurement(name="latency", value=latency_ms, unit="ms")]
            self.tell(subject, CasesReported(token=token, n=n, measurements=measured))
            n += 1
        output = Output(bytes=len(tail), tail=tail) if tail else None
        cause = Cause.DONE if verdict is Verdict.PASSED else Cause.TEST
        at = self.tell(
            subject,
            AttemptFinished(
                token=token, n=n, verdict=verdict, cause=cause, duration_us=5000, message=message,
                output=output,
            ),
        )  # fmt: skip
        settled = TaskSettled(term=1, task=task, verdict=verdict, cause=cause, token=token, at=at)
        self.tell(SUBJECTS.ruling(self.run), settled)

    def settle(self, verdict: str) -> RunView:
        """The run is over."""
        counts = {str(v): n for v, n in self.view.counts.items()}
        event = RunSettled(term=1, verdict=verdict, counts=counts)  # type: ignore[arg-type]
        self.tell(SUBJECTS.ruling(self.run), event)
        return self.view
