"""Generated support tickets of five classes, as a newcomer might bring them: a few hundred rows in two csv files.

    python -m ted_distill.demo.tickets FOLDER [--rows 400]

Each ticket is two sentences: one about what the customer wants, which says the class in one of several ways, and one
about something else, which may sound like another class. One label in twenty is drawn at random, as people
err who label files.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

WANTS = {
    "billing": [
        "I was charged twice for {thing}", "the amount on my invoice does not match what I agreed to pay",
        "please explain the fee of {number} euros on my last statement", "my card was debited although I had cancelled",
        "I need a copy of the invoice for {thing}", "the discount code was not taken off the total",
    ],
    "delivery": [
        "{thing} has not arrived although it was promised for {day}", "the courier left {thing} with a stranger",
        "tracking has said 'on its way' for {number} days", "can you send {thing} to another address",
        "half of my parcel is missing", "nobody rang the bell on {day} and the parcel went back",
    ],
    "returns": [
        "I would like to send {thing} back", "how do I get a label to return {thing}",
        "{thing} does not fit and I want another size", "I changed my mind about {thing} within {number} days",
        "you received {thing} back but nothing has happened since", "can I exchange {thing} for a different colour",
    ],
    "account": [
        "I cannot log in since {day}", "please delete everything you know about me",
        "the mail to reset my password never comes", "I want to change the name on my profile",
        "somebody else seems to use my login", "two profiles were made for me and I need one",
    ],
    "technical": [
        "the app closes by itself when I open {thing}", "{thing} does not switch on any more",
        "the screen stays black after the update on {day}", "I get error {number} whenever I press save",
        "{thing} is not found by my phone", "sound comes and goes with {thing}",
    ],
}  # fmt: skip
ASIDES = [
    "I ordered it on {day}.", "My order number is {number}.", "I have been a customer for {number} years.",
    "I paid with a card and had it delivered to my office.", "I already wrote to you from my account on {day}.",
    "The parcel itself arrived on {day}.", "I do not want to send it back, only to know.", "The price was fine.",
    "It worked well until now.", "Your website says something else.", "Please answer by mail.", "Thanks in advance!",
]  # fmt: skip
OPENINGS = ["Hello,", "Hi there,", "Good morning,", "", "", "Dear team,", "Sorry to bother you again:"]
THINGS = ["the headphones", "my lamp", "the coffee machine", "the blue jacket", "this router", "the desk", "my tablet"]
DAYS = ["Monday", "Tuesday", "Friday", "Saturday", "the 3rd", "the 21st"]
WRONG = 0.05


def tickets(rows: int, seed: int) -> list[tuple[str, str]]:
    """(text, label) of this many tickets."""
    draw = random.Random(seed)
    names = list(WANTS)
    return [_ticket(names[row % len(names)], draw) for row in range(rows)]


def _ticket(label: str, draw: random.Random) -> tuple[str, str]:
    fill = {"thing": draw.choice(THINGS), "day": draw.choice(DAYS), "number": draw.randint(2, 99)}
    wants = draw.choice(WANTS[label]).format(**fill)
    sentences = [f"{wants}.", draw.choice(ASIDES).format(**fill)]
    if draw.random() < 0.5:
        sentences.reverse()
    text = " ".join([draw.choice(OPENINGS), *sentences]).strip()
    return text, draw.choice(list(WANTS)) if draw.random() < WRONG else label


def write(folder: Path, rows: int) -> None:
    """`train.csv` and `validation.csv`, half as long, with the columns `text` and `label`.

    Raises:
        SystemExit: too few rows, or one of the files is there with other content.
    """
    if rows < 2:
        raise SystemExit(f"tickets: expected --rows of at least 2, got {rows}")
    files = {}
    for name, count, seed in (("train", rows, 1), ("validation", rows // 2, 2)):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("text", "label"), *tickets(count, seed)])
        files[folder / f"{name}.csv"] = text.getvalue().encode()
    if theirs := [file for file, content in files.items() if file.exists() and file.read_bytes() != content]:
        raise SystemExit(f"tickets: expected a folder without {theirs[0].name}, got another one in {folder}; move it")
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        file.write_bytes(content)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tickets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=400)
    parsed = parser.parse_args(argv)
    write(parsed.folder, parsed.rows)


if __name__ == "__main__":
    main()
