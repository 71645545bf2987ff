"""What the checker found out about a program: the input of the builder of `flow` IR.

Tables are keyed by syntax nodes (by identity) and by declared names. Everything here holds only
if checking raised no error. Knows nothing of how it was found out, and nothing of IR.

Reading guide for a builder
- `names[Name]` says what a name means: a `Local` (parameter, let, var, loop variable, `others`,
  `round`, caught error) or a global symbol. A `Name` bound to an `AgentSymbol` that is not the
  callee of a call is that agent's bare instance: one for each workflow call, listed in
  `WorkflowSymbol.bare_agents`.
- `types[Expr]` is the type of an expression where it stands. After `if x != none` the type of the
  name `x` is narrowed from `T?` to `T`; compare with `names[x].type` to see it.
- `asks`, `calls` hold arguments put in order, defaults filled in.
- `bodies[Block]` says what a body does to what is outside of it.
- `constants[Expr]` holds the value of each expression known at compile time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tokenloom.compiler.diagnostics import Diagnostic
from tokenloom.compiler.frontend.syntax import (
    AgentDecl,
    Ask,
    Block,
    Call,
    ConstDecl,
    Expr,
    Field,
    For,
    Gather,
    Import,
    ModelDecl,
    Module,
    Name,
    Repeat,
    Span,
    TestDecl,
    Text,
    ToolDecl,
    TypeDecl,
    TypeExpr,
    WorkflowDecl,
)
from tokenloom.compiler.frontend.types import AgentType, IntType, Type

Constant = str | int | float | bool | None


class LocalKind(StrEnum):
    """How a local name came to be."""

    PARAMETER = "parameter"
    LET = "let"
    VAR = "var"
    LOOP = "loop variable"  # of for and map
    MEMBER = "member"  # of gather
    OTHERS = "others"
    ROUND = "round"
    ERROR = "error"  # of try


@dataclass(eq=False, slots=True)
class Local:
    """A name inside a workflow, tool or agent; compares by identity.

    `depth` is the number of bodies around its declaration (0 for parameters).
    """

    name: str
    kind: LocalKind
    type: Type
    span: Span
    depth: int
    is_used: bool = False

    @property
    def is_var(self) -> bool:
        """Whether it can be assigned again."""
        return self.kind is LocalKind.VAR


@dataclass(frozen=True, eq=False, slots=True)
class ParameterInfo:
    """A parameter of a tool, agent or workflow; `local` is its name inside the body."""

    name: str
    type: Type
    default: Expr | None
    local: Local


# --- symbols: what a file declares ------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Symbol:
    """A declared name; `qualified_name` is unique in the program.

    Names of the main file are as written, those of an imported file are `file.name`.
    """

    name: str
    qualified_name: str
    module: CheckedModule


@dataclass(eq=False, slots=True)
class ModelSymbol(Symbol):
    """A model; `source` is a registry name or a path relative to the file's folder."""

    decl: ModelDecl
    source: str = ""
    dtype: str | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Settings of a tool; exactly one of `impl` and `command` is given. Times in ns."""

    impl: str | None = None
    command: tuple[Text, ...] | None = None
    takes_ns: int | None = None
    stages_ns: tuple[tuple[str, int], ...] = ()
    timeout_ns: int = 60_000_000_000
    retries: int = 0
    is_effect: bool = False
    is_pure: bool = False


@dataclass(eq=False, slots=True)
class ToolSymbol(Symbol):
    """A tool."""

    decl: ToolDecl
    parameters: tuple[ParameterInfo, ...]
    result: Type
    settings: ToolSettings = ToolSettings()


@dataclass(eq=False, slots=True)
class TypeSymbol(Symbol):
    """A named type."""

    decl: TypeDecl
    type: Type


@dataclass(eq=False, slots=True)
class ConstSymbol(Symbol):
    """A compile-time constant."""

    decl: ConstDecl
    type: Type
    value: Constant


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The defaults of an agent.

    `reuse` is exact or linked, `refresh` its fraction where given; `history` is keep, last or
    none, `history_turns` the n of `last(n)`. `system` is None where there is no system turn.
    """

    model: ModelSymbol
    system: Expr | None = None
    reuse: str = "exact"
    refresh: float | None = None
    importance: int = 5
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    history: str = "keep"
    history_turns: int | None = None


@dataclass(eq=False, slots=True)
class AgentSymbol(Symbol):
    """An agent; `settings` is set once its file is checked without error."""

    decl: AgentDecl
    parameters: tuple[ParameterInfo, ...]
    settings: AgentSettings | None = None

    @property
    def type(self) -> AgentType:
        """The type of its instances."""
        return AgentType((self.qualified_name,))


@dataclass(eq=False, slots=True)
class WorkflowSymbol(Symbol):
    """A workflow; `asked_parameters` are those whose agents it asks, or passes to be asked."""

    decl: WorkflowDecl
    parameters: tuple[ParameterInfo, ...]
    result: Type
    bare_agents: tuple[AgentSymbol, ...] = ()
    asked_parameters: tuple[Local, ...] = ()
    calls_effects: bool = False
    deadline_ns: int | None = None
    is_critical: bool = False


@dataclass(eq=False, slots=True)
class ImportSymbol(Symbol):
    """An imported file under its local name."""

    decl: Import
    target: CheckedModule


@dataclass(frozen=True, eq=False, slots=True)
class Builtin:
    """A function of the language: `len`, `join`."""

    name: str


GlobalSymbol = (
    ModelSymbol
    | ToolSymbol
    | TypeSymbol
    | ConstSymbol
    | AgentSymbol
    | WorkflowSymbol
    | ImportSymbol
)
Binding = Local | GlobalSymbol | Builtin


@dataclass(eq=False, slots=True)
class CheckedModule:
    """One file with its symbols by their name in it; `prefix` is empty for the main file."""

    path: Path
    prefix: str
    syntax: Module
    symbols: dict[str, GlobalSymbol] = field(default_factory=dict[str, "GlobalSymbol"])
    tests: tuple[TestDecl, ...] = ()
    broken_imports: set[str] = field(default_factory=set[str])

    @property
    def folder(self) -> Path:
        """The folder that `impl`, `command` and model paths start from."""
        return self.path.parent


# --- facts about expressions ------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class AskInfo:
    """One ask: its prompt, budget and answer; None where the agent's default holds.

    `max_tokens` is an int expression whose type has both bounds, the lower at least 1.
    `agents` are the declarations that the asked agent may be of.
    """

    node: Ask
    agents: tuple[AgentSymbol, ...]
    prompt: Expr
    max_tokens: Expr
    max_tokens_bound: int
    answer: Type
    stop: tuple[str, ...] | None
    temperature: Expr | None
    top_p: Expr | None
    seed: Expr | None
    deadline_ns: int | None
    is_critical: bool


@dataclass(frozen=True, eq=False, slots=True)
class CallInfo:
    """One call; `arguments` are in the order of the parameters, None only for a default.

    `others.ask`-like asks are not calls. For a default use the parameter's `default`.
    """

    node: Call
    target: AgentSymbol | ToolSymbol | WorkflowSymbol | Builtin
    arguments: tuple[Expr | None, ...]


AgentRoot = Local | AgentSymbol
"""Where agents asked in a body come from: a local outside of it, or a bare agent."""


@dataclass(frozen=True, eq=False, slots=True)
class BodyInfo:
    """What a body does to what is declared outside of it.

    `assigns` are outer vars assigned in it, `reads` outer locals read in it (vars included),
    `asks` the outer agents that it asks; all without duplicates, in order of first use. An ask of
    the variable of a `map`, `gather` or `for` counts in its own body as an ask of that variable's
    local, and around the loop as one of the locals that its list comes from. `calls_effects`
    counts tools marked `effect`, also through workflows. `returns` is an early return in it.
    """

    assigns: tuple[Local, ...]
    reads: tuple[Local, ...]
    asks: tuple[AgentRoot, ...]
    calls_effects: bool
    returns: bool


@dataclass(frozen=True, eq=False, slots=True)
class LoopInfo:
    """A for or repeat; `variable` is None for repeat, `bound` the most iterations if known.

    `is_parallel`: no iteration reads what another writes, asks an outer agent that another may
    ask, calls an `effect` tool or returns; never true for repeat.
    """

    node: For | Repeat
    variable: Local | None
    item: Type | None
    bound: int | None
    is_parallel: bool


@dataclass(frozen=True, eq=False, slots=True)
class GatherInfo:
    """A gather: its member, `others` and `round`, and the type of one output of the body.

    With a timeout `others` and the value are lists of `output?`. `rounds` is the interval of the
    number of rounds (`max n` for `until`), both bounds known.
    """

    node: Gather
    member: Local
    others: Local
    round: Local
    agents: AgentType
    output: Type
    rounds: IntType


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A checked program: the main file, all that it imports, and what every node means.

    `modules` has the main file first; an imported file comes once, whatever imports it. `tools`,
    `agents`, `workflows`, `models`, `constants_by_name` and `named_types` are by qualified name.
    `bodies` has each block of a workflow or test. `variables` maps a declaring node (let, var,
    for, map, try) to its local. `value_types` has the body blocks of map and gather: the type of
    their value. `fields` tells a `Field` that names an imported symbol (`lib.x`) from a real one.
    """

    main: CheckedModule
    modules: tuple[CheckedModule, ...]
    models: Mapping[str, ModelSymbol]
    tools: Mapping[str, ToolSymbol]
    agents: Mapping[str, AgentSymbol]
    workflows: Mapping[str, WorkflowSymbol]
    named_types: Mapping[str, TypeSymbol]
    types: Mapping[Expr, Type]
    type_exprs: Mapping[TypeExpr, Type]
    names: Mapping[Name, Binding]
    fields: Mapping[Field, GlobalSymbol]
    constants: Mapping[Expr, Constant]
    asks: Mapping[Ask, AskInfo]
    calls: Mapping[Call, CallInfo]
    bodies: Mapping[Block, BodyInfo]
    loops: Mapping[For | Repeat, LoopInfo]
    gathers: Mapping[Gather, GatherInfo]
    variables: Mapping[object, Local]
    value_types: Mapping[Block, Type]
    warnings: tuple[Diagnostic, ...]
