"""The chapter's own example: find the years in sentences.  [Goodfellow et al. 2016, introduction of chapter 10]

    I went to Nepal in 2009 .        In 2009 , I went to Nepal .

"If we ask a machine learning model to read each sentence and extract the year in which the narrator went to Nepal, we would like it to
recognize the year 2009 as the relevant piece of information, whether it appears in the sixth word or in the second word of the sentence."

A grammar writes the sentences. Every number is drawn from the same range, whether it is a year or something else (a price, a room, a
count, a flight, an address), and both stand in the same places: as the subject, as the object, in front of the sentence, at its end.
What a number is, only the words around it say, before it ("in room 2009") or after it ("In 2009 villages ..."), up to four words away
("between 2009 and 2011 dollars").

A clause's template is the order of its parts; a hash gives each template to one of train, valid and test. Then

    train   up to `TRAINED` = 16 words, so that numbers are at positions 0 to 15
    valid   as long, of other templates
    test    of templates again others, 17 words or more, all numbers at positions 16 and after: lengths and positions never trained on
    long    three times longer than any sentence trained on, 48 words or more, numbers anywhere
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

from wavefront.data.readers.reader import Column, Options, Reader, Row

__all__ = ["TRAINED", "Years"]

TRAINED = 16  # words: the longest sentence of train
SIZES = {"train": 4000, "valid": 500, "test": 1000, "long": 300}  # sentences

PEOPLE = "I|we|they|she|he|Maria|my sister|our teacher|the old man|her friends|two students|Tom|Ana|the whole family|nobody|Kofi|my uncle"
PLACES = "Nepal|Lima|Peru|Kenya|Rome|the coast|Oslo|the mountains|Chile|a small island|Dublin|the capital|Hanoi|Cairo|the lake|Bergen"
WENT = "went to {place}|moved to {place}|came back from {place}|travelled through {place}|lived in {place}|worked in {place}|left {place}"
WENT += "|met {person} in {place}|built a boat|sold the farm|got married|studied music|opened a shop in {place}|wrote a long letter"
WENT += "|learned to swim|planted trees near {place}|lost the keys|drove to {place}|saw {person} again"
MONTHS = "January|March|May|June|July|October|December"
STREETS = "Oak Street|Park Road|River Lane|Station Street|Mill Road|Church Lane"
THINGS = "birds|tickets|books|people|villages|visitors|stones|letters|chairs|miles|photographs|apples|sheep|guests|soldiers|bottles|trees"
EVENTS = "election|flood|season|festival|championship|harvest|treaty|fire|exhibition|census|strike|winter"
GOODS = "a boat|the piano|a used car|the tickets|an old clock|two horses|the painting|the trip"

PHRASES = {
    # YEAR and NUMBER are the same draw; what they are is what is learned
    "year adverb": "in YEAR|in YEAR|in YEAR|since YEAR|until YEAR|before YEAR|after YEAR|around YEAR|by YEAR|in early YEAR|in late YEAR"
    "|in the year YEAR|in the summer of YEAR|in the winter of YEAR|in {month} YEAR|back in YEAR|from YEAR to YEAR|between YEAR and YEAR"
    "|during YEAR|at the end of YEAR|during the YEAR {event}|after the YEAR {event}|before the YEAR {event}|until {month} YEAR",
    "number adverb": "in room NUMBER|in room NUMBER|in NUMBER {things}|in about NUMBER minutes|in apartment NUMBER|on flight NUMBER"
    "|before flight NUMBER|after flight NUMBER|after NUMBER days|before NUMBER {things}|around NUMBER {things}|by bus NUMBER"
    "|at NUMBER {street}|from NUMBER {street}|from gate NUMBER to gate NUMBER|from NUMBER to NUMBER {things}|for NUMBER dollars"
    "|for $ NUMBER|for less than $ NUMBER|between NUMBER and NUMBER dollars|between room NUMBER and room NUMBER|with NUMBER {things}"
    "|near NUMBER {street}|until page NUMBER|during NUMBER nights|since page NUMBER|at the end of NUMBER days|with the NUMBER {things}"
    "|in the last NUMBER {things}|until room NUMBER|on page NUMBER|of the NUMBER {things}",
    "plain adverb": "by train|with two friends|on a cold morning|against all advice|without any money|after a long walk|in the rain"
    "|for the first time|with {person}|in a hurry|near {place}|on the way to {place}|because of the weather",
    "year object": "remembered YEAR well|never forgot YEAR|wrote a book about YEAR|missed the YEAR {event}|won the YEAR {event}"
    "|talked about YEAR|called YEAR a good year|saw the YEAR {event}|spoke of the summer of YEAR|planned for {month} YEAR",
    "number object": "counted NUMBER {things}|paid NUMBER dollars for {goods}|paid $ NUMBER for {goods}|booked room NUMBER|missed flight NUMBER"
    "|sold NUMBER {things}|saw the NUMBER {things}|talked about NUMBER {things}|lived at NUMBER {street}|called room NUMBER a good place"
    "|wrote NUMBER {things}|won NUMBER dollars|remembered NUMBER {things} well|spoke of the NUMBER {things}|planned for NUMBER {things}",
    "year subject": "YEAR was a good year for {person}|YEAR began with snow in {place}|YEAR brought many changes|the year YEAR changed {place}"
    "|the YEAR {event} changed {place}|YEAR ended in silence|{month} YEAR was cold|the summer of YEAR was hot",
    "number subject": "NUMBER {things} were enough for {person}|NUMBER {things} came to {place}|room NUMBER was cold|flight NUMBER was late"
    "|NUMBER dollars were too much|the NUMBER {things} changed {place}|NUMBER {street} was empty|page NUMBER was missing"
    "|$ NUMBER was a good price|bus NUMBER ended in {place}",
    "person": PEOPLE,
    "verb": WENT,
}
FILLERS = {"person": PEOPLE, "place": PLACES, "month": MONTHS, "street": STREETS, "things": THINGS, "event": EVENTS, "goods": GOODS}
CHOICES = {name: phrases.split("|") for name, phrases in {**FILLERS, **PHRASES}.items()}

LEADS = (
    "as far as {person} could tell",
    "to the surprise of {person}",
    "on the way from {place} to {place}",
    "without a word to {person}",
    "long after the others were asleep",
    "when the rain finally stopped",
    "with nothing but a map and some bread",
    "although {person} did not believe a word of it",
    "because the road to {place} was closed again",
)
SAYING = ("{person} said that", "{person} thought that", "everybody in {place} knew that", "the letter from {place} says that")
JOINTS = ", and|, but|and then|; later|, so|while|, although|because"

Word = tuple[str, str]  # a token and its tag
Template = tuple[str, ...]


class Years(Reader):
    """One split of the generator, as a reader: columns `tokens` and `tags` (IOB2, one label: YEAR).

    >>> parts = Years.parts(seed=0)
    >>> row = next(parts["test"][0].rows())
    >>> len(row["tokens"]) > TRAINED, set(row["tags"]) <= {"O", "B-YEAR"}
    (True, True)
    """

    format = "generator"
    columns = (Column("tokens", "symbols"), Column("tags", "symbols"))

    def __init__(self, split: str, seed: int = 0, count: int | None = None):
        super().__init__(Path("years"), Options())
        self.split, self.seed, self.count = split, seed, SIZES[split] if count is None else count

    @classmethod
    def parts(cls, seed: int = 0) -> dict[str, list[Reader]]:
        return {split: [cls(split, seed)] for split in SIZES}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False  # it is asked for by its name

    def rows(self) -> Iterator[Row]:
        random = Random(f"years {self.split} {self.seed}")
        write = {"train": _short, "valid": _short, "test": _late, "long": _long}[self.split]
        for _ in range(self.count):
            words = write(random, self.split)
            yield {"tokens": [token for token, _ in words], "tags": [tag for _, tag in words]}

    def files(self) -> list[Path]:
        return []

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"years {self.split}".encode())
        for row in self.rows():
            digest.update(" ".join([*row["tokens"], *row["tags"]]).encode())
        return digest.hexdigest()


def _short(random: Random, split: str) -> list[Word]:
    """A sentence of at most `TRAINED` words, some of them two clauses."""
    while True:
        words = _clause(random, split)
        if random.random() < 0.3:
            words = [*words, *_plain(random.choice(JOINTS.split("|"))), *_clause(random, split)]
        elif random.random() < 0.2:
            words = [*_words(random, random.choice(SAYING)), *words]
        if len(words) < TRAINED:
            return _sentence(words)


def _late(random: Random, split: str) -> list[Word]:
    """At least `TRAINED` words without a number, then a clause with one."""
    words: list[Word] = []
    while len(words) < TRAINED:
        if random.random() < 0.5:
            words += [*_words(random, random.choice(LEADS)), *_plain(",")]
        else:
            words += [*_template(random, ("person", "verb", "plain adverb")), *_plain(random.choice(JOINTS.split("|")))]
    return _sentence([*words, *_clause(random, split)])


def _long(random: Random, split: str) -> list[Word]:
    """Clauses of all kinds, until there are three times as many words as in any sentence of train."""
    words = _clause(random, "test")
    while len(words) < 3 * TRAINED:
        words += _plain(random.choice(JOINTS.split("|")))
        if random.random() < 0.4:
            words += [*_words(random, random.choice(LEADS)), *_plain(",")]
        words += _clause(random, "test")
    return _sentence(words)


def _clause(random: Random, split: str) -> list[Word]:
    """A clause with at least one number, of a template that belongs to the split."""
    while True:
        template = _draw_template(random)
        if any(part.startswith(("year", "number")) for part in template) and home(template) == split:
            return _template(random, template)


def _draw_template(random: Random) -> Template:
    adverbs = ("year adverb", "number adverb", "plain adverb")
    front: Template = (random.choice(adverbs), random.choice((",", ",", ""))) if random.random() < 0.4 else ()
    core = random.choice((("person", "verb"), ("person", "verb"), ("person", "{} object"), ("{} subject",)))
    role = random.choice(("year", "number"))
    back = tuple(random.choice(adverbs) for _ in range(random.choice((0, 1, 1, 2, 2))))
    return (*front, *(part.format(role) for part in core), *back)


def home(template: Template) -> str:
    """The split that a template belongs to: two thirds are train's."""
    share = hashlib.sha256(" ".join(template).encode()).digest()[0] / 256
    return "train" if share < 2 / 3 else "valid" if share < 5 / 6 else "test"


def _template(random: Random, template: Template) -> list[Word]:
    words: list[Word] = []
    for part in template:
        words += _words(random, random.choice(CHOICES[part])) if part in CHOICES else _plain(part)
    return words


def _words(random: Random, phrase: str) -> list[Word]:
    """A phrase with its fillers and numbers drawn."""
    found: list[Word] = []
    for word in phrase.split():
        if word in ("YEAR", "NUMBER"):
            found.append((str(random.randrange(1000, 3000)), "B-YEAR" if word == "YEAR" else "O"))
        elif word.startswith("{"):
            found += _plain(random.choice(CHOICES[word[1:-1]]))
        else:
            found.append((word, "O"))
    return found


def _plain(text: str) -> list[Word]:
    return [(word, "O") for word in text.split()]


def _sentence(words: list[Word]) -> list[Word]:
    first, tag = words[0]
    return [(first[0].upper() + first[1:], tag), *words[1:], (".", "O")]
