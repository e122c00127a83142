"""A generated data set in the SQuAD 2.0 form: small enough to learn from scratch, hard enough to need reading.

A passage states a fact about each of three people, towns or ships, and a question asks for one of them. In some
passages all entities are of one kind and the same fact may be stated about several of them: there a model has to
match the entity as well as the fact. One question in three has no answer: it asks for a fact that the passage does
not state about that entity, or about an entity that is not there, and is worded like any other question.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

_SEED = 42
ENTITIES_PER_PASSAGE = 3
SAME_KIND_RATE = 0.4  # of the passages; in the others each entity is of another kind
TOPICS_PER_KIND = 4  # the facts of a passage about a kind are drawn from this number of relations
QUESTIONS_PER_PASSAGE = 3  # two with an answer and one without


def _words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


def _joined(*parts: str) -> tuple[str, ...]:
    """All concatenations of one word of each part, each part given as words separated by blanks."""
    return tuple("".join(pieces) for pieces in product(*(part.split() for part in parts)))


WOMEN = _words("Ada Beth Clara Dora Edith Flora Greta Hanna Irene Julia Karin Laura Maria Nora Olga Paula")
MEN = _words("Adam Boris Carl David Emil Felix Georg Hugo Ivan Jonas Kurt Louis Martin Niels Oscar Peter")
SURNAMES = _joined("Ber Dal Fen Hol Kes Lor Mar Tor", "man sen wick ley")
TOWNS = _joined("Ash Brim Cor El Glen Nor Rav Wes", "ford ton mere holm")
RIVERS = _joined("Av Dor Il Mel Os Tav", "ana een or")
SHIPS = _words(
    "Albatross Comet Dolphin Falcon Heron Kestrel Lantern Meteor Nightingale Orion Pelican Raven Sparrow "
    "Swallow Thistle Zephyr"
)
OCCUPATIONS = _words(
    "baker barber blacksmith carpenter cook dentist doctor farmer gardener judge lawyer painter pilot "
    "potter sailor shepherd tailor teacher weaver writer"
)
INSTRUMENTS = _words("banjo cello clarinet drum fiddle flute guitar harp horn lute organ piano trumpet viola")
SUBJECTS = _words("algebra anatomy botany chemistry geology grammar history law logic music physics poetry")
ANIMALS = _words("cat dog donkey duck falcon goat goose hen horse mule parrot pig pony rabbit sheep turtle")
GOODS = _words("butter candles carpets cheese cider clocks glass honey lace paper pears silk soap tea wine wool")
QUALITIES = _words("blue cheap coarse dark fine green heavy light old pale red soft sweet white")
MATERIALS = _words("bamboo beech bronze cedar copper elm iron larch oak pine steel teak")
MONTHS = _words("January February March April May June July August September October November December")
YEARS = tuple(str(year) for year in range(1703, 1990, 7))
NUMBERS = tuple(str(number) for number in range(12, 100, 4))


@dataclass(frozen=True)
class Relation:
    """One kind of fact: how it is stated, how it is asked for, and which kind of value answers it."""

    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Entity:
    """A person, a town or a ship."""

    kind: str
    name: str


@dataclass(frozen=True)
class Fact:
    """A relation of one entity with its value, for example a person's instrument."""

    entity: Entity
    relation: Relation
    value: str


RELATIONS: dict[str, tuple[Relation, ...]] = {
    "person": (
        Relation(
            "town",
            ("{name} was born in {value}.", "{name} comes from {value}.", "{value} is the birthplace of {name}."),
            ("Where was {name} born?", "In which town was {name} born?", "What is the birthplace of {name}?"),
        ),
        Relation(
            "date",
            ("{name} got married in {value}.", "The wedding of {name} took place in {value}."),
            ("When did {name} get married?", "When was the wedding of {name}?"),
        ),
        Relation(
            "occupation",
            ("{name} works as a {value}.", "{name} earns a living as a {value}.", "By trade {name} is a {value}."),
            ("What does {name} work as?", "What is the trade of {name}?", "How does {name} earn a living?"),
        ),
        Relation(
            "instrument",
            ("{name} plays the {value}.", "{name} performs on the {value}.", "The {value} is played by {name}."),
            ("What does {name} play?", "Which instrument does {name} play?", "What is played by {name}?"),
        ),
        Relation(
            "subject",
            ("{name} studied {value}.", "{name} has a degree in {value}.", "At college {name} studied {value}."),
            ("What did {name} study?", "In which subject does {name} have a degree?"),
        ),
        Relation(
            "animal",
            ("{name} keeps a {value} as a pet.", "{name} owns a {value}.", "A {value} is the pet of {name}."),
            ("Which animal does {name} own?", "What does {name} keep as a pet?", "What is the pet of {name}?"),
        ),
        Relation(
            "person",
            ("{name} is a friend of {value}.", "The best friend of {name} is {value}."),
            ("Who is the best friend of {name}?", "Who is a friend of {name}?"),
        ),
    ),
    "town": (
        Relation(
            "river",
            ("{name} lies on the river {value}.", "The river {value} flows through {name}."),
            ("Which river flows through {name}?", "On which river does {name} lie?"),
        ),
        Relation(
            "year",
            ("{name} was founded in {value}.", "The foundation of {name} dates from {value}."),
            ("When was {name} founded?", "From which year does the foundation of {name} date?"),
        ),
        Relation(
            "goods",
            ("{name} is famous for {value}.", "People visit {name} to buy {value}."),
            ("What is {name} famous for?", "What do people visit {name} to buy?"),
        ),
        Relation(
            "person",
            ("The mayor of {name} is {value}.", "{name} has a mayor called {value}."),
            ("Who is the mayor of {name}?", "What is the mayor of {name} called?"),
        ),
        Relation(
            "number",
            ("{name} has {value} bridges.", "There are {value} bridges in {name}."),
            ("How many bridges does {name} have?", "How many bridges are there in {name}?"),
        ),
    ),
    "ship": (
        Relation(
            "goods",
            ("{name} carries {value}.", "The cargo of {name} is {value}.", "{name} is loaded with {value}."),
            ("What does {name} carry?", "What is the cargo of {name}?", "What is {name} loaded with?"),
        ),
        Relation(
            "year",
            ("{name} was launched in {value}.", "{name} has been at sea since {value}."),
            ("When was {name} launched?", "Since when has {name} been at sea?"),
        ),
        Relation(
            "material",
            ("{name} is made of {value}.", "The hull of {name} consists of {value}."),
            ("What is {name} made of?", "What does the hull of {name} consist of?"),
        ),
        Relation(
            "person",
            ("The captain of {name} is {value}.", "{name} sails under captain {value}."),
            ("Who is the captain of {name}?", "Under which captain does {name} sail?"),
        ),
        Relation(
            "town",
            ("{name} was built in {value}.", "{name} comes from a shipyard in {value}."),
            ("Where was {name} built?", "Where is the shipyard that {name} comes from?"),
        ),
        Relation(
            "number",
            ("{name} has a crew of {value} sailors.", "{value} sailors serve on {name}."),
            ("How many sailors serve on {name}?", "How large is the crew of {name}?"),
        ),
    ),
}


def _value(kind: str, rng: Random) -> str:
    """A value of this kind; some kinds have two words, so that an answer can be partly right."""
    if kind == "person":
        return f"{rng.choice(WOMEN + MEN)} {rng.choice(SURNAMES)}"
    if kind == "date":
        return f"{rng.choice(MONTHS)} {rng.choice(YEARS)}"
    if kind == "goods":
        return f"{rng.choice(QUALITIES)} {rng.choice(GOODS)}"
    words = {
        "town": TOWNS,
        "river": RIVERS,
        "occupation": OCCUPATIONS,
        "instrument": INSTRUMENTS,
        "subject": SUBJECTS,
        "animal": ANIMALS,
        "year": YEARS,
        "material": MATERIALS,
        "number": NUMBERS,
    }
    return rng.choice(words[kind])


def _entity(kind: str, rng: Random) -> Entity:
    """An entity of this kind."""
    if kind == "town":
        return Entity(kind, rng.choice(TOWNS))
    if kind == "ship":
        return Entity(kind, f"the {rng.choice(SHIPS)}")
    return Entity(kind, f"{rng.choice(WOMEN + MEN)} {rng.choice(SURNAMES)}")


def _new_entity(kind: str, known: set[str], rng: Random) -> Entity:
    """An entity that shares no word of its name with those known, so that a question means one entity only."""
    while True:
        entity = _entity(kind, rng)
        words = set(entity.name.split()) - {"the"}
        if not words & known:
            known |= words
            return entity


def _new_value(kind: str, known: set[str], rng: Random) -> str:
    """A value that shares no word with those known, so that an answer is in one place only."""
    while True:
        value = _value(kind, rng)
        if not set(value.split()) & known:
            known |= set(value.split())
            return value


def _sentence(fact: Fact, statement: str) -> tuple[str, int]:
    """A statement of the fact, and the offset of its value in it."""
    before, _, _ = statement.partition("{value}")
    text = statement.format(name=fact.entity.name, value=fact.value)
    # Upper case changes no offset, nor a value at the start of a sentence, which is a name or a number.
    return text[0].upper() + text[1:], len(before.format(name=fact.entity.name))


def _passage(facts: list[Fact], rng: Random) -> tuple[str, list[int]]:
    """The text that states the facts, and the offset of each fact's value in it."""
    text, starts = "", []
    for fact in facts:
        sentence, start = _sentence(fact, rng.choice(fact.relation.statements))
        text += " " if text else ""
        starts.append(len(text) + start)
        text += sentence
    return text, starts


def _unanswerable(
    facts: list[Fact], topics: dict[str, list[Relation]], known: set[str], rng: Random
) -> tuple[Entity, Relation]:
    """An entity and a relation that the passage does not state of it."""
    fact = rng.choice(facts)
    kind = fact.entity.kind
    if rng.random() < 0.5:
        # An absent entity is asked for a fact that is stated about a present one.
        return _new_entity(kind, set(known), rng), fact.relation
    return fact.entity, rng.choice([relation for relation in topics[kind] if relation is not fact.relation])


def _paragraph(rng: Random) -> tuple[str, dict[str, Any]]:
    """A title, and a paragraph with its questions; they have no ids yet."""
    known: set[str] = set()
    kinds = list(RELATIONS)
    if rng.random() < SAME_KIND_RATE:
        kinds = [rng.choice(kinds)] * ENTITIES_PER_PASSAGE
    topics = {kind: rng.sample(RELATIONS[kind], TOPICS_PER_KIND) for kind in sorted(set(kinds))}
    entities = [_new_entity(kind, known, rng) for kind in rng.sample(kinds, ENTITIES_PER_PASSAGE)]
    facts = []
    for entity in entities:
        relation = rng.choice(topics[entity.kind])
        facts.append(Fact(entity, relation, _new_value(relation.value, known, rng)))
    context, starts = _passage(facts, rng)

    questions = []
    for index in rng.sample(range(len(facts)), QUESTIONS_PER_PASSAGE - 1):
        fact = facts[index]
        answer = {"text": context[starts[index] : starts[index] + len(fact.value)], "answer_start": starts[index]}
        questions.append(_question(fact.entity, fact.relation, [answer], rng))
    questions.append(_question(*_unanswerable(facts, topics, known, rng), [], rng))
    rng.shuffle(questions)
    title = entities[0].name.removeprefix("the ")
    return title, {"context": context, "qas": questions}


def _question(entity: Entity, relation: Relation, answers: list[dict[str, Any]], rng: Random) -> dict[str, Any]:
    question = rng.choice(relation.questions).format(name=entity.name)
    return {"question": question, "is_impossible": not answers, "answers": answers}


def _articles(seen: set[str], rng: Random) -> Iterator[dict[str, Any]]:
    """Articles of one paragraph each, without end; no context is in `seen`, and each is added to it."""
    while True:
        title, paragraph = _paragraph(rng)
        if paragraph["context"] not in seen:
            seen.add(paragraph["context"])
            yield {"title": title, "paragraphs": [paragraph]}


def _write_split(file: Path, articles: Iterator[dict[str, Any]], num_questions: int) -> None:
    """Write the first articles, as many as hold that number of questions."""
    data = list(islice(articles, -(-num_questions // QUESTIONS_PER_PASSAGE)))
    questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    for number, qa in enumerate(questions):
        qa["id"] = f"{file.stem}-{number:06d}"
    file.write_text(json.dumps({"version": "v2.0", "data": data}, indent=1), encoding="utf-8")


def write_dataset(folder: Path, *, num_train: int, num_validation: int) -> tuple[Path, Path]:
    """Write `train.json` and `validation.json` in the nested SQuAD 2.0 form, and return their paths.

    `num_train` and `num_validation` count questions and are rounded up to whole passages of three questions. The
    same numbers write the same bytes. No passage is in both files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = Random(_SEED)
    articles = _articles(set(), rng)
    train_file, validation_file = folder / "train.json", folder / "validation.json"
    # Validation comes first: it then stays the same when only the number of training questions changes.
    _write_split(validation_file, articles, num_validation)
    _write_split(train_file, articles, num_train)
    return train_file, validation_file
