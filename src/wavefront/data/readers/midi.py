"""MIDI files: a piece of music each, cut into steps."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from wavefront.data.readers.reader import Column, Options, Reader, Row, ending
from wavefront.errors import DataError

__all__ = ["Midi"]

DRUMS = 9  # the channel on which a number is a drum, not a note (General MIDI)
LONGEST = 1_000_000  # steps of one piece: a file that is damaged may say anything


class Note(NamedTuple):
    number: int
    start: int  # ticks
    end: int


class Midi(Reader):
    """One file is one piece, one row with one column, `notes`: at each step the notes that sound, of all tracks and channels but the drums.

    A quarter note is `Options.steps_per_quarter` steps. Beginnings and ends go to the nearest step, and no note is shorter than one; how fast and
    how loud it is played is not kept, nor whether a note that sounds is struck again.
    """

    format = "midi"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = (Column("notes", "notes"),)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and ending(path) in (".mid", ".midi")

    def rows(self) -> Iterator[Row]:
        file = self._load()
        ticks = file.ticks_per_beat / self.options.steps_per_quarter
        notes = list(_notes(file))
        if not notes:
            raise DataError(f"{self.path}: there is no note in it, drums left aside. Leave the file out.")
        spans = [(note.number, _nearest(note.start / ticks), _nearest(note.end / ticks)) for note in notes]
        length = max(max(start + 1, end) for _, start, end in spans)
        if length > LONGEST:
            raise DataError(f"{self.path}: its last note ends at step {length:,}; at most {LONGEST:,} are read. Is the file damaged?")
        steps: list[set[int]] = [set() for _ in range(length)]
        for number, start, end in spans:
            for step in steps[start : max(start + 1, end)]:
                step.add(number)
        yield {"notes": [sorted(step) for step in steps]}

    def _load(self) -> Any:
        from mido import MidiFile

        try:
            content = self.path.read_bytes()
            content = gzip.decompress(content) if self.path.name.lower().endswith(".gz") else content
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path}: the gzip file is cut short or damaged ({error}). Copy it again.") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}.") from None
        try:
            file = MidiFile(file=BytesIO(content))
        except Exception as error:  # what mido raises for bytes that are none: EOFError, OSError, ValueError, IndexError, KeyError ..
            raise DataError(f"{self.path}: is no MIDI file, or a damaged one ({type(error).__name__}: {error}). Leave it out.") from None
        if file.type == 2 or file.ticks_per_beat <= 0:
            what = "songs one after the other (type 2)" if file.type == 2 else "seconds, not beats (SMPTE)"
            raise DataError(f"{self.path}: counts in {what}; expected one piece in beats. Save it as MIDI of type 0 or 1.")
        return file


def _notes(file: Any) -> Iterator[Note]:
    """Every note of all tracks: from where it is struck to where it is let go, or struck again, or its track ends."""
    for track in file.tracks:
        now, sounding = 0, dict[tuple[int, int], int]()
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
                continue
            key = message.channel, message.note
            if key in sounding:
                yield Note(message.note, sounding.pop(key), now)
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
        for (_, number), start in sounding.items():
            yield Note(number, start, now)


def _nearest(x: float) -> int:
    """The nearest whole number; from the middle up, for beginnings and ends alike."""
    return math.floor(x + 0.5)
