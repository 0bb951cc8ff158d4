"""What happens to one identity: it looks at the record and at each attempt, counts, and notes what is new.

It watches, and changes nothing: an identity lives the same without it.
"""

from collections.abc import Callable

from device_agent.core.clock import Moment, TimeSource
from device_agent.core.stored import StoredRecord
from device_agent.diary import Diary
from device_agent.errors import AgentError
from device_agent.meter import Meter
from device_agent.trouble import word_of
from device_agent.wire.fields import time_text

_LONGEST_DETAIL = 200


class Chronicle:
    """Watches one identity. `moment` says what time is believed, and by what."""

    def __init__(
        self, meter: Meter, diary: Diary, *, record: StoredRecord, moment: Callable[[], Moment]
    ) -> None:
        self._meter, self._diary, self._moment = meter, diary, moment
        self._record = record
        self._problem: str | None = None
        self._source: TimeSource | None = None

    @property
    def meter(self) -> Meter:
        """The counters."""
        return self._meter

    def begun(self, version: str) -> None:
        """Note that an agent of this version runs from now on."""
        self._source = self._moment().source
        self._note("started", agent=version)

    def attempted(self, record: StoredRecord, error: AgentError | None) -> None:
        """Hear how a round of work ended, and what the record is now."""
        self.look(record)
        word = None if error is None else word_of(error)
        if word is not None:
            self._meter.failed(word)
        if word != self._problem:
            before, self._problem = self._problem, word
            if word is None:
                self._note("works-again", after=before)
            else:
                self._note("failed", problem=word, detail=str(error)[:_LONGEST_DETAIL])
        source, known = self._moment().source, self._source
        self._source = source
        if known is not None and source is not known:
            self._note("time", before=known.value)
        self._meter.keep_in_time()

    def look(self, record: StoredRecord) -> None:
        """Note what is new in the record."""
        before, self._record = self._record, record
        self._note_certificate(before, record)
        if record.trust_versions != before.trust_versions:
            self._note("trust", versions=dict(record.trust_versions))
        if record.standing != before.standing:
            standing = record.standing
            rung, why = ("certificate", "") if standing is None else (standing.rung.value, standing.why)
            self._note("recovery", rung=rung, why=why)

    def forget(self) -> None:
        """Forget all of it, for a factory reset; raises `StateError`."""
        self._meter.forget()
        self._diary.forget()
        self._record, self._problem = StoredRecord(), None

    def _note_certificate(self, before: StoredRecord, record: StoredRecord) -> None:
        old, new = before.life.active, record.life.active
        if new is None or (old is not None and old.serial == new.serial):
            return
        if old is not None:
            self._meter.renewed()
        self._note(
            "enrolled" if old is None else "renewed",
            name=new.broker.name,
            serial=new.serial,
            not_after=time_text(new.not_after),
        )

    def _note(self, event: str, **members: object) -> None:
        moment = self._moment()
        known = {"at": time_text(moment.now), "time_source": moment.source.value, "event": event}
        self._diary.note({**known, **members})
