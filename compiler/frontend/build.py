"""From a checked program to a module of `flow` IR.

Every op has the place of the syntax it comes from. Knows nothing of models or tokens: prompts
stay text here, with a value for each piece, and become segments in `segment-prompts`.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from tokenloom.compiler.frontend.build_agents import AgentValues
from tokenloom.compiler.frontend.build_calls import Calls
from tokenloom.compiler.frontend.build_collectives import Collectives
from tokenloom.compiler.frontend.build_core import Core
from tokenloom.compiler.frontend.build_declarations import build_agent, build_model, build_tool
from tokenloom.compiler.frontend.build_effects import EffectOrder
from tokenloom.compiler.frontend.build_expressions import Expressions
from tokenloom.compiler.frontend.build_loops import Loops
from tokenloom.compiler.frontend.build_operators import Operators
from tokenloom.compiler.frontend.build_statements import Statements
from tokenloom.compiler.frontend.build_workflows import Workflows
from tokenloom.compiler.frontend.checked import Checked


def build(checked: Checked) -> ModuleOp:
    """Return the program as IR: models, tools, agents, workflows, imported ones included.

    Raises CompileError for a form that is checked, but not lowered in this version.
    """
    core = Core(checked)
    agents = AgentValues(core)
    effects = EffectOrder(core)
    expressions = Expressions(core, agents)
    operators = Operators(core, expressions)
    Calls(core, agents, expressions, effects)
    collectives = Collectives(core, agents, expressions)
    statements = Statements(core, expressions)
    Loops(core, agents, operators, collectives, statements)
    workflows = Workflows(core, agents, statements, effects)
    ops: list[Operation] = []
    base = checked.main.folder
    ops += [build_model(core, symbol, base) for symbol in checked.models.values()]
    ops += [build_tool(core, symbol) for symbol in checked.tools.values()]
    ops += [build_agent(core, expressions, symbol) for symbol in checked.agents.values()]
    ops += [workflows.build(symbol) for symbol in checked.workflows.values()]
    module = ModuleOp(ops)
    module.location = core.location(checked.main.syntax)
    return module
