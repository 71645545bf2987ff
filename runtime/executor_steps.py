"""How the executor does single steps: values, agents, tools, checks, contexts, asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenloom.runtime.asker import Where
from tokenloom.runtime.conversation import Conversation
from tokenloom.runtime.errors import AssertionFailed, RunError
from tokenloom.runtime.executor_core import Handler, Run, at
from tokenloom.runtime.pending import (
    Frame,
    Pending,
    complete,
    fail,
    is_ready,
    wait_inside,
    wait_outside,
)
from tokenloom.runtime.steps import (
    Agent,
    AwaitStep,
    CallStep,
    CheckStep,
    ComputeStep,
    ConstantStep,
    ExtendStep,
    LinkStep,
    MoveStep,
    ParamStep,
    ReleaseStep,
    RootStep,
    SliceStep,
    SpawnStep,
    SubmitStep,
    WindowStep,
)
from tokenloom.runtime.values import Value


def constant(run: Run, step: ConstantStep, frame: Frame, where: Where) -> None:
    """Bind a constant."""
    frame[step.result] = step.value


def compute(run: Run, step: ComputeStep, frame: Frame, where: Where) -> None:
    """Compute at once if the operands are there, else in a task."""
    operands = frame.many(step.operands)
    if all(is_ready(operand, is_deep=step.is_deep) for operand in operands):
        frame[step.result] = _computed(step, operands)
    else:
        frame[step.result] = run.spawn(_compute_later(step, operands), is_required=False)


async def _compute_later(step: ComputeStep, operands: Sequence[Value]) -> Value:
    wait = wait_inside if step.is_deep else wait_outside
    return await wait_outside(_computed(step, [await wait(operand) for operand in operands]))


def _computed(step: ComputeStep, operands: Sequence[Value]) -> Value:
    try:
        return step.function(*(complete(o) if step.is_deep else o for o in operands))
    except RunError as error:
        raise at(error, step.place) from error


def spawn(run: Run, step: SpawnStep, frame: Frame, where: Where) -> None:
    """Make an agent; its arguments may come later."""
    frame[step.result] = Agent(step.agent, tuple(frame.many(step.operands)))


def param(run: Run, step: ParamStep, frame: Frame, where: Where) -> None:
    """Read an agent's argument."""
    agent = frame[step.agent]

    def read(agent: Agent) -> Value:
        return agent.arguments[run.program.agents[agent.name].params.index(step.param)]

    async def later() -> Value:
        return await wait_outside(read(await wait_outside(agent)))

    if is_ready(agent, is_deep=False):
        frame[step.result] = read(agent)
    else:
        frame[step.result] = run.spawn(later(), is_required=False)


def call(run: Run, step: CallStep, frame: Frame, where: Where) -> None:
    """Call a tool once its arguments, and for an effect the effects before, are done."""
    operands = frame.many(step.operands)
    token = None if step.token is None else frame[step.token]
    task = run.spawn(_call(run, step, operands, token), is_required=step.token is not None)
    frame[step.result] = task
    if step.next is not None:
        frame[step.next] = task


async def _call(run: Run, step: CallStep, operands: Sequence[Value], token: Value) -> Value:
    arguments = [await wait_inside(operand) for operand in operands]
    await wait_outside(token)
    value = await run.tools.call(step.tool, arguments, step.place)
    run.asker.redactor.learn(value, run.program.tools[step.tool].result)
    return value


def check(run: Run, step: CheckStep, frame: Frame, where: Where) -> None:
    """Fail the run unless the condition holds."""
    condition = True if step.condition is None else frame[step.condition]
    run.spawn(_check(step, condition, frame[step.message]))


async def _check(step: CheckStep, condition: Value, message: Value) -> None:
    holds = await wait_outside(condition)
    if step.condition is None or not holds:
        raise AssertionFailed(await wait_inside(message), step.place)


def root(run: Run, step: RootStep, frame: Frame, where: Where) -> None:
    """Start with the empty context."""
    frame[step.result] = Conversation(step.model)


def extend(run: Run, step: ExtendStep, frame: Frame, where: Where) -> None:
    """Put parts behind a context, at once if they are there."""
    operands = frame.many((step.context, *step.parts))
    if all(is_ready(operand, is_deep=True) for operand in operands):
        frame[step.result] = _extended(run, step, operands)
    else:
        frame[step.result] = run.spawn(_extend_later(run, step, operands), is_required=False)


async def _extend_later(run: Run, step: ExtendStep, operands: Sequence[Value]) -> Conversation:
    return _extended(run, step, [await wait_inside(operand) for operand in operands])


def _extended(run: Run, step: ExtendStep, operands: Sequence[Value]) -> Conversation:
    parts = [complete(part) for part in operands[1:]]
    return run.asker.extend(operands[0], parts, step.place)


def window(run: Run, step: WindowStep, frame: Frame, where: Where) -> None:
    """Forget the turns in the middle."""
    context = frame[step.context]

    async def later() -> Conversation:
        return (await wait_outside(context)).window(step.turns)

    if is_ready(context, is_deep=False):
        frame[step.result] = context.window(step.turns)
    else:
        frame[step.result] = run.spawn(later(), is_required=False)


def cut(run: Run, step: SliceStep, frame: Frame, where: Where) -> None:
    """Take the run behind a context's beginning; the engine computes it when it is needed."""
    operands = frame.many((step.context, step.base))
    _compute(run, step.result, frame, operands, Conversation.run_behind)


def link(run: Run, step: LinkStep, frame: Frame, where: Where) -> None:
    """Put a run behind a context."""
    operands = frame.many((step.context, step.run))
    _compute(run, step.result, frame, operands, Conversation.link)


def _compute(
    run: Run,
    result: int,
    frame: Frame,
    operands: Sequence[Value],
    function: Callable[..., Value],
) -> None:
    async def later() -> Value:
        return function(*[await wait_outside(operand) for operand in operands])

    if all(is_ready(operand, is_deep=False) for operand in operands):
        frame[result] = function(*operands)
    else:
        frame[result] = run.spawn(later(), is_required=False)


def move(run: Run, step: MoveStep, frame: Frame, where: Where) -> None:
    """Give the context on: with one tier a device, the engine's pages lie where it needs them."""
    frame[step.moved] = frame[step.context]
    frame[step.done] = frame[step.context]


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What a request will give."""

    answer: Pending
    next: Pending


def submit(run: Run, step: SubmitStep, frame: Frame, where: Where) -> None:
    """Ask, once context and agent are there."""
    ticket = _Ticket(run.future(), run.future())
    frame[step.ticket] = ticket
    run.spawn(_ask(run, step, frame[step.context], frame[step.agent], where, ticket))


def wait(run: Run, step: AwaitStep, frame: Frame, where: Where) -> None:
    """Bind what the request will give; this holds nothing up."""
    ticket: _Ticket = frame[step.ticket]
    frame[step.answer] = ticket.answer
    frame[step.next] = frame[step.done] = ticket.next


async def _ask(
    run: Run, step: SubmitStep, context: Value, agent: Value, where: Where, ticket: _Ticket
) -> None:
    try:
        conversation, asked = await wait_outside(context), await wait_inside(agent)
        answer, following = await run.asker.ask(conversation, asked, step.settings, where)
    except BaseException as error:
        for future in (ticket.answer, ticket.next):
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                fail(future, error)
        raise
    ticket.answer.set_result(answer)
    ticket.next.set_result(following)


def release(run: Run, step: ReleaseStep, frame: Frame, where: Where) -> None:
    """Let go of a context once the requests that read it are done."""
    events = frame.many(step.after)
    if all(is_ready(event, is_deep=False) for event in events):
        frame.forget(step.context)
    else:
        run.spawn(_release(frame, step.context, events), is_required=False)


async def _release(frame: Frame, context: int, events: Sequence[Value]) -> None:
    for event in events:
        await wait_outside(event)
    frame.forget(context)


STEPS: dict[type, Handler] = {
    AwaitStep: wait,
    CallStep: call,
    CheckStep: check,
    ComputeStep: compute,
    ConstantStep: constant,
    ExtendStep: extend,
    LinkStep: link,
    MoveStep: move,
    ParamStep: param,
    ReleaseStep: release,
    RootStep: root,
    SliceStep: cut,
    SpawnStep: spawn,
    SubmitStep: submit,
    WindowStep: window,
}
