from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from xdsl.dialects.builtin import ModuleOp

from tokenloom.compiler.options import CompileOptions, TargetDevice
from tokenloom.compiler.pipeline import lower
from tokenloom.compiler.plan import Alternative, Decision, Plan, schema
from tokenloom.ir.exec import ExtendOp
from tokenloom.ir.exec_model import LaunchOp

DEBATERS, JUDGES = 3, 1


def _validate(data: dict[str, Any]) -> None:
    jsonschema.validate(json.loads(json.dumps(data)), schema())  # pyright: ignore (untyped)


@pytest.mark.parametrize("device", ["host", "pim"])
def test_a_plan_is_as_its_schema_says(debate: ModuleOp, device: TargetDevice) -> None:
    plan = lower(debate, CompileOptions(device=device)).plan
    assert plan.device == device
    _validate(plan.to_json())


def test_the_schema_refuses_what_it_does_not_describe() -> None:
    data = Plan("this-host", "host", "fast").to_json()
    _validate(data)
    with pytest.raises(jsonschema.ValidationError):
        _validate({**data, "device": "tpu"})
    with pytest.raises(jsonschema.ValidationError):
        _validate({**data, "asks": [{"place": "a.loom:1:1"}]})


def test_a_decision_with_the_same_id_is_replaced() -> None:
    plan = Plan()
    for chosen in ("dense", "prefix"):
        alternatives = (Alternative("dense", 1.0),)
        plan.add(Decision("reuse.0", "reuse", "x", "", chosen, alternatives, "because"))
    assert [decision.chosen for decision in plan.of_kind("reuse")] == ["prefix"]


def test_every_decision_in_the_ir_is_in_the_plan(debate: ModuleOp) -> None:
    result = lower(debate, CompileOptions())
    named = {
        op.decision.data
        for op in result.module.walk()
        if isinstance(op, ExtendOp | LaunchOp) and op.decision is not None
    }
    kinds = {result.plan.decisions[name].kind for name in named}
    assert kinds == {"reuse", "placement"}


def test_predicts_the_asks_of_a_debate(debate: ModuleOp) -> None:
    plan = lower(debate, CompileOptions()).plan
    debaters, judge = plan.asks
    assert (debaters.count, judge.count) == (2 * DEBATERS, JUDGES)
    assert debaters.decode_tokens == 2 * DEBATERS * 32
    assert debaters.reused_tokens > 0
    assert debaters.linked_tokens > 0
    assert debaters.priority > judge.priority
    assert debaters.critical
    assert judge.critical
    total = plan.workflows[0]
    assert total.asks == 2 * DEBATERS + JUDGES
    assert total.prefill_tokens == debaters.prefill_tokens + judge.prefill_tokens
    assert total.critical_path_ns >= 2e9, "the tool alone takes two seconds"
    assert total.total_ns >= total.critical_path_ns


def test_links_what_all_debaters_read_and_says_what_it_saves(debate: ModuleOp) -> None:
    plan = lower(debate, CompileOptions()).plan
    linked = [d for d in plan.of_kind("reuse") if d.subject == "prompt of Debater"]
    assert len(linked) == 1
    costs = {option.name: option for option in linked[0].alternatives}
    assert costs["linked"].tokens is not None
    assert costs["prefix"].tokens is not None
    assert costs["linked"].tokens < costs["prefix"].tokens
    saved = costs["prefix"].tokens - costs["linked"].tokens
    assert f"saves {saved} tokens" in linked[0].reason
    assert linked[0].chosen == "linked"
    row = plan.reuse[linked[0].id]
    assert (row.prefix_tokens, row.linked_tokens) == (
        costs["prefix"].tokens,
        costs["linked"].tokens,
    )
    assert row.master == "the first member"
    assert "others" in row.run
    (debaters,) = [ask for ask in plan.asks if ask.agents == ("Debater",)]
    assert debaters.prefill_tokens == row.linked_tokens


def test_the_placement_table_covers_batch_and_context(debate: ModuleOp) -> None:
    plan = lower(debate, CompileOptions(machine="attacc-hbm3", device="pim")).plan
    decode = [row for row in plan.placements if row.phase == "decode"]
    assert len({row.batch for row in decode}) > 1
    assert len({row.context for row in decode}) > 1
    assert all(set(row.time_ns) == {"cuda", "pim"} for row in decode)
    chosen = plan.decisions["placement.m_decode"]
    assert chosen.chosen == "pim"
    assert chosen.reason.startswith("asked for; ")


def test_the_plan_says_in_which_order_commands_go_to_the_stacks(debate: ModuleOp) -> None:
    plan = lower(debate, CompileOptions(machine="attacc-hbm3", device="pim")).plan
    (decision,) = plan.of_kind("schedule")
    assert decision.id == "schedule.m"
    assert decision.chosen == decision.alternatives[0].name
    assert len(decision.alternatives) > 1
    assert "by the closed form, the best 2 command by command; the next" in decision.reason
    first, second, *others = decision.alternatives
    assert first.time_ns is not None
    assert second.time_ns is not None
    assert first.time_ns <= second.time_ns
    assert all(other.time_ns is None for other in others)
    for option in decision.alternatives:
        assert option.closed_ns is not None
    _validate(plan.to_json())


def test_units_that_cannot_run_attention_are_said_to(debate: ModuleOp) -> None:
    plan = lower(debate, CompileOptions(machine="hbm2-pim")).plan
    (decision,) = plan.of_kind("schedule")
    assert (decision.chosen, decision.alternatives) == ("none", ())
    assert "needs a unit in every bank, one serves 2 here" in decision.reason


def test_a_machine_without_stacks_has_no_schedules_of_them(debate: ModuleOp) -> None:
    assert not lower(debate, CompileOptions(machine="h100")).plan.of_kind("schedule")
