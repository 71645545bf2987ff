from __future__ import annotations

import pytest

from tokenloom.models.errors import ModelError
from tokenloom.models.registry import Model
from tokenloom.models.template import ChatTemplate

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are Qwen. You are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen 3 drops the reasoning of earlier answers and puts an empty one into the last answer only.
QWEN3 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# No line break after the last turn: the separator belongs to what follows.
SEPARATED = (
    "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<' + m.role + '>' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<assistant>' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}"
    "{{ m.content + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)


def markers(template: ChatTemplate) -> tuple[str, ...]:
    return (
        template.start,
        template.system_open,
        template.system_close,
        template.user_open,
        template.user_close,
        template.assistant_open,
        template.assistant_close,
    )


CHATML_MARKERS = (
    "",
    "<|im_start|>system\n",
    "<|im_end|>\n",
    "<|im_start|>user\n",
    "<|im_end|>\n",
    "<|im_start|>assistant\n",
    "<|im_end|>\n",
)


def test_chatml(tiny: Model) -> None:
    assert markers(tiny.template) == CHATML_MARKERS


@pytest.mark.model
def test_smollm2_calls_its_turn_marker_bos_and_has_a_default_system_turn(smollm2: Model) -> None:
    assert "You are a helpful AI assistant" in smollm2.template.source
    assert markers(smollm2.template) == CHATML_MARKERS


@pytest.mark.parametrize("source", [QWEN, QWEN3])
def test_default_system_turn_and_dropped_reasoning(source: str) -> None:
    template = ChatTemplate(source, "m", bos_token="<|im_start|>", eos_token="<|im_end|>")
    assert markers(template) == CHATML_MARKERS
    assert template.supports_system


def test_llama3_begins_with_bos_and_trims_only_outside() -> None:
    template = ChatTemplate(LLAMA3, "m", bos_token="<|begin_of_text|>")
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    end = "<|eot_id|>"
    assert markers(template) == (
        "<|begin_of_text|>",
        header.format("system"),
        end,
        header.format("user"),
        end,
        header.format("assistant"),
        end,
    )


def test_separator_between_turns_closes_the_turn_before() -> None:
    assert markers(ChatTemplate(SEPARATED, "m")) == (
        "",
        "<system>",
        "</s>\n",
        "<user>",
        "</s>",
        "\n<assistant>",
        "</s>\n",
    )


def test_template_that_refuses_a_system_turn() -> None:
    template = ChatTemplate(MISTRAL, "m", bos_token="<s>", eos_token="</s>")
    assert not template.supports_system
    assert markers(template) == ("<s>", "", "", "[INST] ", " [/INST]", "", "</s>")


def refusal(source: str) -> str:
    with pytest.raises(ModelError) as caught:
        ChatTemplate(source, "some-model", bos_token="<s>", eos_token="</s>")
    message = str(caught.value)
    assert message.startswith("the chat template of 'some-model' ")
    return message


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + CONTENT + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    "altered",
    [
        "m.content | upper",
        "m.content | replace('<', '&lt;')",
        "m.content | replace('\n', ' ')",
        "m.content.split() | join(' ')",
        "m.content[:20]",
        "(m.content if m.role == 'user' else '')",
    ],
)
def test_altered_texts_are_refused(altered: str) -> None:
    assert "alters" in refusal(CHATML.replace("CONTENT", altered))


@pytest.mark.parametrize(
    "source",
    [
        CHATML.replace("CONTENT", "m.content + loop.length | string"),
        CHATML.replace("CONTENT", "('' if loop.last else 'old: ') + m.content"),
        CHATML.replace("CONTENT", "m.content | tojson"),
        "{{ messages | length }}" + CHATML.replace("CONTENT", "m.content"),
    ],
)
def test_templates_that_are_not_prefix_stable_are_refused(source: str) -> None:
    assert "prefix-stable" in refusal(source)


def test_system_prompt_inside_the_user_turn_is_refused() -> None:
    llama2 = (
        "{% set ns = namespace(system='') %}{% for m in messages %}"
        "{% if m.role == 'system' %}{% set ns.system = '<<SYS>>' + m.content + '<</SYS>>' %}"
        "{% elif m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + ns.system + m.content + ' [/INST]' }}{% set ns.system = '' %}"
        "{% else %}{{ m.content + ' ' + eos_token }}{% endif %}"
        "{% endfor %}"
    )
    assert "system prompt inside a user turn" in refusal(llama2)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}", "is not valid"),
        ("{{ messages[0].missing.deeper }}", "fails"),
        ("{{ raise_exception('never') }}", "fails: never"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails"),
        ("{{ messages[0].content / 2 }}", "fails"),
        ("{{ strftime_now('%d %b %Y') }}", "fails: 'strftime_now' is undefined"),
    ],
)
def test_broken_and_unsafe_templates_are_refused(source: str, reason: str) -> None:
    assert reason in refusal(source)
