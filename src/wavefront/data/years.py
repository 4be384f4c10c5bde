"""The chapter's own example: find the years in sentences.  [Goodfellow et al. 2016, introduction of chapter 10]

    I went to Nepal in 2009 .        In 2009 , I went to Nepal .

"If we ask a machine learning model to read each sentence and extract the year in which the narrator went to Nepal, we would like it to
recognize the year 2009 as the relevant piece of information, whether it appears in the sixth word or in the second word of the sentence."

A grammar writes the sentences. What is said of years is said in the same places of prices, rooms, counts, flights and addresses, with
numbers drawn from the same range: as subject, as object, in front of the sentence, at its end. Which of them a number is, only the words
around it say: before it ("in room 2009"), after it ("In 2009 villages ..."), up to four words away ("between 2009 and 2011 dollars").

The template of a clause is the order of its parts, whatever its numbers are. A hash gives each template to train, valid or test:

    train   sentences of at most `TRAINED` = 16 words, so that numbers stand at positions 0 to 14
    valid   as long, of other templates
    test    of templates again others, more than 16 words, all numbers at positions 16 and after: lengths and positions never trained on
    long    of the templates of test, 48 words or more, three times the longest sentence of train; numbers anywhere
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
NUMBERS = (1500, 2100)  # every number, whatever it counts
YEARS = 0.45  # the share of years among the places for a number: to call every number a year gives F1 2 · 0.45 / (1 + 0.45) = 0.62

# In the phrases below # is a number, {name} one of the phrases of that name, | parts alternatives.
PHRASES = {
    "year adverb": "in #|in #|in #|since #|until #|before #|after #|around #|by #|in early #|in late #|in the year #|in the summer of #"
    "|in the winter of #|in {month} #|back in #|from # to #|between # and #|during #|at the end of #|during the # {event}"
    "|after the # {event}|before the # {event}|until {month} #|sometime in #|for the # {event}|long before #|with the # {event}",
    "other adverb": "in room #|in room #|in # villages|in # houses|in about # minutes|in apartment #|on flight #|before flight #"
    "|after flight #|after # days|after # miles|after # steps|before # witnesses|around # tables|by bus #|at # {street}|near # {street}"
    "|from # {street}|from gate # to gate #|between gate # and gate #|between # and # dollars|from # to # dollars|for # dollars|for $ #"
    "|for less than $ #|for the # dollars|with # guests|with the # guests|until page #|since page #|until room #|during # nights"
    "|during the # nights|in the last # days|long before page #|at the end of # days|in early # copies|sometime in room #",
    "plain adverb": "by train|with two friends|on a cold morning|against all advice|without any money|after a long walk|in the rain"
    "|for the first time|with {other}|in a hurry|near {place}|on the way to {place}|in spite of the weather",
    "year object": "remembered # well|never forgot #|wrote a book about #|missed the # {event}|won the # {event}|talked about #"
    "|called # a good year|saw the # {event}|spoke of the summer of #|planned for {month} #|waited for #|lost everything in #",
    "other object": "remembered # names|never forgot room #|wrote # pages about {place}|missed flight #|won # dollars|talked about # things"
    "|called # witnesses|saw the # birds|spoke of the # visitors|planned for # guests|waited for bus #|lost everything in room #"
    "|counted # birds|paid # dollars for {goods}|paid $ # for {goods}|booked room #|sold # tickets|lived at # {street}",
    "year subject": "# was a good year for {other}|# began with snow in {place}|# brought many changes|the year # changed {place}"
    "|the # {event} changed {place}|# ended in silence|{month} # was cold|the summer of # was hot|# had been kind to {other}",
    "other subject": "# dollars were enough for {other}|# visitors came to {place}|# people brought flowers|room # was cold"
    "|the # soldiers left {place}|flight # was late|# {street} was empty|page # was missing|$ # was a good price|bus # ended in {place}"
    "|# letters had been lost|the # guests were kind to {other}",
    "person": "I|I|we|they|she|he|Maria|my sister|our teacher|the old man|her friends|two students|Tom|Ana|nobody|Kofi|my uncle",
    "other": "me|us|them|him|Maria|my sister|our teacher|the old man|her friends|two students|Tom|Ana|everybody|Kofi|my uncle",
    "verb": "went to {place}|went to {place}|moved to {place}|came back from {place}|travelled through {place}|worked in {place}|left {place}"
    "|met {other} in {place}|built a boat|sold the farm|got married|studied music|opened a shop in {place}|wrote a long letter"
    "|learned to swim|planted trees near {place}|lost the keys|drove to {place}|saw {other} again",
    "place": "Nepal|Lima|Peru|Kenya|Rome|the coast|Oslo|the mountains|Chile|a small island|Dublin|the capital|Hanoi|Cairo|the lake|Bergen",
    "month": "January|March|May|June|July|October|December",
    "street": "Oak Street|Park Road|River Lane|Station Street|Mill Road|Church Lane",
    "event": "election|flood|season|festival|championship|harvest|treaty|fire|exhibition|census|strike|winter",
    "goods": "a boat|the piano|a used car|the tickets|an old clock|two horses|the painting|the trip",
    "saying": "{person} said that|{person} thought that|everybody in {place} knew that|the letter from {place} says that",
    "lead": "as far as {person} could tell|to the surprise of {other}|on the way from {place} to {place}|without a word to {other}"
    "|long after the others were asleep|when the rain finally stopped|with nothing but a map and some bread"
    "|although {person} did not believe a word of it|because the road to {place} was closed again",
    "joint": ", and|, but|and then|; then|, so|while|, although|because",
}
CHOICES = {name: phrases.split("|") for name, phrases in PHRASES.items()}
NUMBERED = ("adverb", "object", "subject")  # parts of a template that hold a number: of a year or of something else

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
    """At most `TRAINED` words; some sentences are of two clauses."""
    while True:
        words = _clause(random, split)
        form = random.random()
        if form < 0.3:
            words += _phrase(random, "joint") + _clause(random, split)
        elif form < 0.4:
            words = _phrase(random, "saying") + words
        if len(words) < TRAINED:
            return _sentence(words)


def _late(random: Random, split: str) -> list[Word]:
    """At least `TRAINED` words without a number, then a clause with one."""
    words: list[Word] = []
    while len(words) < TRAINED:
        if random.random() < 0.5:
            words += [*_phrase(random, "lead"), (",", "O")]
        else:
            words += _written(random, ("person", "verb", "plain adverb")) + _phrase(random, "joint")
    return _sentence(words + _clause(random, split))


def _long(random: Random, split: str) -> list[Word]:
    """Clauses of the templates of test, until there are three times as many words as in any sentence of train."""
    words = _clause(random, "test")
    while len(words) < 3 * TRAINED:
        words += _phrase(random, "joint")
        if random.random() < 0.4:
            words += [*_phrase(random, "lead"), (",", "O")]
        words += _clause(random, "test")
    return _sentence(words)


def _clause(random: Random, split: str) -> list[Word]:
    """A clause with at least one number, of a template that belongs to the split."""
    while True:
        template = _template(random)
        if any(part in NUMBERED for part in template) and home(template) == split:
            return _written(random, template)


def _template(random: Random) -> Template:
    adverbs = ("adverb", "adverb", "plain adverb")
    front: Template = (random.choice(adverbs), *random.choice(((",",), (",",), ()))) if random.random() < 0.4 else ()
    core = random.choice((("person", "verb"), ("person", "verb"), ("person", "object"), ("subject",)))
    back = tuple(random.choice(adverbs) for _ in range(random.choice((0, 1, 1, 2, 2, 3))))
    return front + core + back


def home(template: Template) -> str:
    """The split that a template belongs to: two thirds are train's."""
    share = hashlib.sha256(" ".join(template).encode()).digest()[0] / 256
    return "train" if share < 2 / 3 else "valid" if share < 5 / 6 else "test"


def _written(random: Random, template: Template) -> list[Word]:
    words: list[Word] = []
    for part in template:
        if part in NUMBERED:
            year = random.random() < YEARS
            words += _phrase(random, f"{'year' if year else 'other'} {part}", "B-YEAR" if year else "O")
        else:
            words += _phrase(random, part) if part in CHOICES else [(part, "O")]
    return words


def _phrase(random: Random, name: str, tag: str = "O") -> list[Word]:
    """One of the phrases of a name, its fillers and numbers drawn, two numbers in ascending order; `tag` is what its numbers are."""
    found: list[Word] = []
    phrase = random.choice(CHOICES[name]).split()
    numbers = iter(sorted(random.randrange(*NUMBERS) for word in phrase if word == "#"))
    for word in phrase:
        if word == "#":
            found.append((str(next(numbers)), tag))
        elif word.startswith("{"):
            found += _phrase(random, word[1:-1])
        else:
            found.append((word, "O"))
    return found


def _sentence(words: list[Word]) -> list[Word]:
    first, tag = words[0]
    return [(first[0].upper() + first[1:], tag), *words[1:], (".", "O")]
