"""What a trained network writes: text as it comes, music as steps and as a MIDI file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from wavefront.app.run import Run
from wavefront.errors import SettingsError
from wavefront.learning import write_whole
from wavefront.tasks.task import Manner

__all__ = ["LENGTH", "generate", "steps_of", "write_midi"]

LENGTH = 500  # symbols of text, or steps of music
TICKS, TEMPO = 240, 500_000  # of a MIDI file: to the step; microseconds to the quarter


def generate(
    run: Run,
    prompt: str = "",
    length: int = LENGTH,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    num_beams: int = 0,
    seed: int | None = None,
) -> Iterator[str]:
    """What the network of a run writes after a prompt, as a stream: the state is kept, each symbol costs the same time and memory.

    prompt       read first, however long; what training never saw in it is read as the unknown symbol
    length       symbols at most; of music, steps
    temperature  below 1 the probable becomes more probable; 0: always the most probable
    top_k, top_p drawn from the k most probable; from the fewest that together have this probability
    num_beams    a search for the most probable text of that length, in place of chance
    seed         the same seed writes the same; None: another text each time

    Raises `SettingsError` for a run that writes nothing, and for choices that cannot be.
    """
    if length < 0 or num_beams < 0 or temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise SettingsError(
            "length, num_beams, top_k and temperature are at least 0, top_p is in (0, 1]; got"
            f" {length}, {num_beams}, {top_k}, {temperature}, {top_p}."
        )
    if num_beams and (temperature != 1 or top_k or top_p < 1):
        raise SettingsError("a search leaves nothing to chance: give num_beams, or temperature, top_k and top_p, not both.")
    torch.manual_seed(torch.seed() if seed is None else seed)
    return run.task.write(run.network, prompt, Manner(length, temperature, top_k, top_p, num_beams))


def write_midi(steps: Iterable[list[int]], path: str | Path, steps_per_quarter: int = 1) -> None:
    """Steps of notes as a MIDI file of one track; a note that goes on is held."""
    from io import BytesIO

    from mido import Message, MetaMessage, MidiFile, MidiTrack

    track, waiting = MidiTrack(), 0
    track.append(MetaMessage("set_tempo", tempo=TEMPO))
    held: set[int] = set()
    for step in [*steps, []]:
        sounding = set(step)
        for kind, notes in (("note_off", held - sounding), ("note_on", sounding - held)):
            for note in sorted(notes):
                track.append(Message(kind, note=note, velocity=64, time=waiting))
                waiting = 0
        held, waiting = sounding, waiting + TICKS
    file, content = MidiFile(ticks_per_beat=TICKS * steps_per_quarter), BytesIO()
    file.tracks.append(track)
    file.save(file=content)
    write_whole(Path(path), content.getvalue())


def steps_of(pieces: Iterable[str]) -> Iterator[list[int]]:
    """The steps that `generate` wrote for a run of music."""
    return (json.loads(piece) for piece in pieces)
