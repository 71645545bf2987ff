"""How a forecast follows contexts, asks and tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import takewhile
from typing import cast

from xdsl.ir import Operation

from tokenloom.compiler.analysis.estimates import TOOL_TOKENS, Estimate, of_type
from tokenloom.compiler.analysis.forecast_walk import Ask, Extension, Handler, Walk
from tokenloom.compiler.analysis.prefix_tree import PrefixNode
from tokenloom.compiler.analysis.shared_rows import OTHERS
from tokenloom.compiler.options import PAGE_TOKENS
from tokenloom.ir import flow, kv
from tokenloom.ir.declarations import Reuse
from tokenloom.ir.types import AgentType

TOOL_NS = 1e9
"""How long a tool takes that does not say."""


def _root(walk: Walk, op: Operation) -> list[Estimate]:
    model = cast("kv.RootOp", op).model.root_reference.data
    node = walk.roots.setdefault(model, PrefixNode(None, model, 0, op))
    return [Estimate(node=node)]


def _extend(walk: Walk, op: Operation) -> list[Estimate]:
    extend = cast("kv.ExtendOp", op)
    base = walk.known[extend.context]
    parts = [walk.known[part] for part in extend.parts]
    assert base.node is not None
    node, linkable = base.node, 0
    node.shared |= bool(node.children)
    for part in parts:
        node = node.child(part.key, part.tokens, op)
        if part.content is None and not node.shared:
            before = walk.placed.setdefault(part, node)
            if before is not node and part.tokens >= PAGE_TOKENS:
                walk.linkable[node] = part.tokens
                linkable += part.tokens
    node.system |= base.node.parent is None
    made = Extension(
        node, base.node, node.last_computed(), linkable, tuple(parts), _round(walk, op)
    )
    walk.result.extensions.setdefault(op, []).append(made)
    return [Estimate(node=node, event=walk.when(base, *parts))]


def _round(walk: Walk, op: Operation) -> Estimate | None:
    block = op.parent
    in_gather = block is not None and isinstance(op.parent_op(), flow.GatherOp)
    return walk.known[block.args[OTHERS]] if block is not None and in_gather else None


def _slice(walk: Walk, op: Operation) -> list[Estimate]:
    cut = cast("kv.SliceOp", op)
    whole, base = walk.known[cut.context], walk.known[cut.base]
    assert whole.node is not None
    assert base.node is not None
    tokens = whole.node.tokens - base.node.tokens
    return [Estimate(tokens, walk.when(whole, base), node=whole.node)]


def _link(walk: Walk, op: Operation) -> list[Estimate]:
    link = cast("kv.LinkOp", op)
    base, run = walk.known[link.context], walk.known[link.run]
    assert base.node is not None
    node = base.node.child(("run", run.node), run.tokens, op) if run.tokens else base.node
    node.run = run.node if run.tokens else node.run
    return [Estimate(node=node, event=walk.when(base, run))]


def _window(walk: Walk, op: Operation) -> list[Estimate]:
    window = cast("kv.WindowOp", op)
    base = walk.known[window.context]
    assert base.node is not None
    node = base.node.window(window.turns.value.data, op)
    return [Estimate(node=node, event=base.event)]


def _decode(walk: Walk, op: Operation) -> list[Estimate]:
    decode = cast("kv.DecodeOp", op)
    context, agent = walk.known[decode.context], walk.known[decode.agent]
    node, most = context.node, decode.max_tokens.value.data
    assert node is not None
    *_, root = node.path()
    costs = walk.costs[str(root.key)]
    found = node.compute()
    reused = found.tokens if found.answer else found.tokens - found.tokens % PAGE_TOKENS
    linked = _linked_tokens(node, found)
    new_tokens = node.tokens - reused - linked
    event = walk.timeline.ask(
        (context.event, agent.event, walk.control),
        costs.prefill_ns(new_tokens, reused + linked),
        most,
        node.tokens + most // 2,
        costs.step_ns,
    )
    linkable = sum(walk.linkable.pop(made, 0) for made in node.path())
    made = Ask(event, new_tokens, reused, linked, linkable if _may_link(walk, decode) else 0)
    walk.result.asks.setdefault(op, []).append(made)
    answer = of_type(json.loads(decode.answer_type.data), most, event)
    answer.tokens = min(answer.tokens, most)
    end = node.child(answer, most + len(decode.close_tokens), op)
    end.answer = end.computed = True
    return [answer, Estimate(node=end, event=event)]


def _linked_tokens(node: PrefixNode, found: PrefixNode) -> int:
    """Return the tokens of runs behind `found` that somebody computed before; mark the others."""
    tokens = 0
    for part in takewhile(lambda one: one is not found, node.path()):
        if part.run is not None and part.run.computed:
            tokens += part.own_tokens
        elif part.run is not None:
            part.run.compute()
    return tokens


def _may_link(walk: Walk, decode: kv.DecodeOp) -> bool:
    """Return whether the classes asked allow linked reuse."""
    kind = cast("AgentType", decode.agent.type)
    classes = [walk.agents[name.root_reference.data] for name in kind.classes]
    return all(agent.reuse.data is Reuse.LINKED for agent in classes)


def _call(walk: Walk, op: Operation) -> list[Estimate]:
    tool = walk.tools[cast("flow.CallOp | flow.EffectOp", op).callee.root_reference.data]
    takes = tool.takes_ns.value.data if tool.takes_ns is not None else TOOL_NS
    after = [walk.control, *(e.event for e in walk.operands(op))]
    event = walk.timeline.tool(after, takes)
    result = of_type(json.loads(tool.result.data), TOOL_TOKENS, event)
    return [result, *(Estimate(event=event) for _ in op.results[1:])]


ASKS: Mapping[type[Operation], Handler] = {
    flow.CallOp: _call,
    flow.EffectOp: _call,
    kv.RootOp: _root,
    kv.ExtendOp: _extend,
    kv.SliceOp: _slice,
    kv.LinkOp: _link,
    kv.WindowOp: _window,
    kv.DecodeOp: _decode,
}
"""What is done for ops on contexts, asks and tools."""
