"""Prompts that experiments and tests share: varied in length, form and language."""

from __future__ import annotations

from itertools import cycle, islice

from tokenloom.models.registry import Model

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a city by the sea, ",
    "Two agents argue about whether 17 is prime. The first says:",
    "The three laws of thermodynamics are:\n1.",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "Dear Professor Okafor,\n\nI am writing to you because",
    "Q: What do bees eat in winter?\nA:",
    "import numpy as np\n\nclass KalmanFilter:\n    def __init__(self",
    "In 1969, when the first people stood on the moon, the world below them",
    "Explain to a child why the sky is blue.",
    "Write a poem about autumn in the mountains.",
    "List five ways to save energy at home, and say how much each of them saves in a year.",
    "Should cities ban cars from their centres? Argue against it in three sentences.",
    "Translate into French: The ship leaves the harbour at dawn.",
    "Summarize: Heat pumps move heat instead of making it. For one unit of electricity they bring"
    " three units of heat indoors, even in cold air. They cost more to buy than a gas boiler and"
    " less to run, and their radiators must be larger.",
    "What is the difference between a process and a thread? Give an example of each in Python.",
    "Plan a day in Lisbon for someone who cannot walk far.",
    "¿Por qué cambian las hojas de color en otoño? Responde en español.",
    "A train leaves at 14:05 and arrives at 17:50 after a stop of 20 minutes. How long did it run?",
)
"""The first ten are texts to go on with, the others are questions of a user."""

NUM_PLAIN = 10


def prompt_ids(model: Model) -> list[list[int]]:
    """Return PROMPTS as ids: the plain ones as they are, the others as a turn of a chat."""
    encode, template = model.tokenizer.encode, model.template
    before = model.tokenizer.encode_markers(template.start + template.user_open)
    after = model.tokenizer.encode_markers(template.user_close + template.assistant_open)
    plain = [encode(text) for text in PROMPTS[:NUM_PLAIN]]
    return plain + [[*before, *encode(text), *after] for text in PROMPTS[NUM_PLAIN:]]


def long_prompts(model: Model, num_prompts: int, num_tokens: int) -> list[list[int]]:
    """Return prompts of exactly `num_tokens` tokens, each beginning differently."""
    texts = [model.tokenizer.encode(text + "\n") for text in PROMPTS]
    tokens = [token for text in texts for token in text]
    starts = [sum(map(len, texts[:index])) for index in range(num_prompts)]
    return [list(islice(cycle(tokens), start, start + num_tokens)) for start in starts]
