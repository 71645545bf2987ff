"""The actions of the grammar: from the children of a rule to a node of the syntax tree.

One method a rule of grammar.lark, called by lark as it reduces; knows nothing of meaning.
"""
# ruff: noqa: D102 -- an action is the rule of the grammar of its name

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from tokenloom.compiler.diagnostics import CompileError, Note
from tokenloom.compiler.frontend import syntax as s
from tokenloom.compiler.frontend.numbers import duration_ns, float_value, int_value
from tokenloom.compiler.frontend.operators import build_tree
from tokenloom.compiler.frontend.scan import Token
from tokenloom.compiler.frontend.text import RawPiece, make_pieces

Children = list[Any]
"""Tokens, nodes and `Items` of a rule, in order of source; lark knows no more of them."""


class Items(NamedTuple):
    """Things between braces or in a row, on their way into a node."""

    span: s.Span
    items: tuple[Any, ...]


def _ends(children: Children) -> s.Span:
    return children[0].span.to(children[-1].span)


def _only(children: Children, kind: type) -> tuple[Any, ...]:
    return tuple(child for child in children if isinstance(child, kind))


def _inside(children: Children) -> tuple[Any, ...]:
    """Return what is no token."""
    return tuple(child for child in children if not isinstance(child, Token))


def _after(children: Children, kind: str) -> Any:
    """Return the child after a token of a kind, None if there is no such token."""
    for index, child in enumerate(children):
        if isinstance(child, Token) and child.type == kind:
            return children[index + 1]
    return None


def _identifier(token: Token) -> s.Identifier:
    return s.Identifier(token.span, token.value)


class DeclarationActions:
    """Declarations, with what their braces and parentheses hold."""

    def start(self, children: Children) -> tuple[s.Declaration, ...]:
        return _inside(children)

    def decorated(self, children: Children) -> s.Declaration:
        attributes, declaration = children
        if isinstance(declaration, s.Import):
            raise CompileError("an import takes no attributes", attributes.span)
        span = attributes.span.to(declaration.span)
        return replace(declaration, span=span, attributes=attributes.items)

    def import_(self, children: Children) -> s.Import:
        return s.Import(_ends(children), children[1], _identifier(children[3]))

    def model(self, children: Children) -> s.ModelDecl:
        settings = children[4].items if len(children) > 4 else ()
        return s.ModelDecl(_ends(children), _identifier(children[1]), children[3], settings, ())

    def tool(self, children: Children) -> s.ToolDecl:
        _, name, parameters, _, result, settings = children
        span, params = _ends(children), parameters.items
        return s.ToolDecl(span, _identifier(name), params, result, settings.items, ())

    def type_decl(self, children: Children) -> s.TypeDecl:
        return s.TypeDecl(_ends(children), _identifier(children[1]), children[3], ())

    def agent(self, children: Children) -> s.AgentDecl:
        params = children[2].items if len(children) == 4 else ()
        name, settings = _identifier(children[1]), children[-1].items
        return s.AgentDecl(_ends(children), name, params, settings, ())

    def workflow(self, children: Children) -> s.WorkflowDecl:
        _, name, parameters, _, result, body = children
        span, params = _ends(children), parameters.items
        return s.WorkflowDecl(span, _identifier(name), params, result, body, ())

    def test(self, children: Children) -> s.TestDecl:
        return s.TestDecl(_ends(children), children[1], children[2], ())

    def const(self, children: Children) -> s.ConstDecl:
        return s.ConstDecl(_ends(children), _identifier(children[1]), children[3], ())

    def attributes(self, children: Children) -> Items:
        return Items(_ends(children), _only(children, s.Attribute))

    def attribute_flag(self, children: Children) -> s.Attribute:
        (token,) = children
        return s.Attribute(token.span, s.Identifier(token.span, token.value[1:]), ())

    def attribute_call(self, children: Children) -> s.Attribute:
        name = s.Identifier(children[0].span, children[0].value[1:-1])
        return s.Attribute(_ends(children), name, _only(children, s.Argument))

    def parameters(self, children: Children) -> Items:
        return Items(_ends(children), _inside(children))

    def parameter(self, children: Children) -> s.Parameter:
        default = children[4] if len(children) > 4 else None
        return s.Parameter(_ends(children), _identifier(children[0]), children[2], default)

    def settings(self, children: Children) -> Items:
        return Items(_ends(children), _inside(children))

    def setting(self, children: Children) -> s.Setting:
        value = children[2] if len(children) > 1 else None
        return s.Setting(_ends(children), _identifier(children[0]), value)


class TypeActions:
    """Type expressions."""

    def union(self, children: Children) -> s.UnionType:
        members = _inside(children)
        for member in members:
            if not isinstance(member, s.UnionType):
                help_ = Note('a union looks like `"for" | "against"`', kind="help")
                raise CompileError("a union is of literals", member.span, [help_])
        values = tuple(value for member in members for value in member.values)
        return s.UnionType(_ends(children), values)

    def literal_type(self, children: Children) -> s.UnionType:
        return s.UnionType(_ends(children), (children[0],))

    def optional(self, children: Children) -> s.OptionalTypeExpr:
        return s.OptionalTypeExpr(_ends(children), children[0])

    def pattern(self, children: Children) -> s.PatternType:
        regex = children[2].value[1:-1].replace(r"\/", "/")
        return s.PatternType(_ends(children), children[0], regex)

    def match_pattern(self, children: Children) -> s.Node:
        """Return a literal, or the name `_` for the arm that takes all."""
        first = children[0]
        if not isinstance(first, Token):
            return first
        if first.type == "SIGN":
            literal = s.IntLiteral(children[1].span, int_value(children[1]))
            return s.Unary(_ends(children), first.value, literal)
        literals = {
            "TRUE": s.BoolLiteral(first.span, True),
            "FALSE": s.BoolLiteral(first.span, False),
            "NONE": s.NoneLiteral(first.span),
        }
        return literals.get(first.type) or s.Name(first.span, first.value)

    def secret(self, children: Children) -> s.SecretType:
        return s.SecretType(_ends(children), children[1])

    def list_type(self, children: Children) -> s.ListTypeExpr:
        return s.ListTypeExpr(_ends(children), children[1])

    def record_type(self, children: Children) -> s.RecordTypeExpr:
        return s.RecordTypeExpr(_ends(children), _inside(children))

    def type_field(self, children: Children) -> s.RecordTypeField:
        return s.RecordTypeField(_ends(children), _identifier(children[0]), children[2])

    def named_type(self, children: Children) -> s.NamedType:
        qualifier = _identifier(children[0]) if len(children) > 1 else None
        return s.NamedType(_ends(children), qualifier, _identifier(children[-1]))

    def limited_type(self, children: Children) -> s.LimitedType:
        return s.LimitedType(_ends(children), children[0], _only(children, s.Argument))

    def range_type(self, children: Children) -> s.RangeType:
        return s.RangeType(_ends(children), children[0], children[2], children[4])


class StatementActions:
    """Statements and blocks."""

    def block(self, children: Children) -> s.Block:
        statements: list[s.Statement] = children[1] if len(children) == 3 else []
        return s.Block(_ends(children), tuple(statements))

    def first_statement(self, children: Children) -> list[s.Statement]:
        return [children[0]]

    def next_statement(self, children: Children) -> list[s.Statement]:
        children[0].append(children[2])
        return children[0]

    def let(self, children: Children) -> s.Let:
        return s.Let(_ends(children), _identifier(children[1]), children[3])

    def var(self, children: Children) -> s.Var:
        return s.Var(_ends(children), _identifier(children[1]), children[3])

    def assign(self, children: Children) -> s.Assign:
        name = s.Name(children[0].span, children[0].value)
        return s.Assign(_ends(children), name, children[2])

    def if_(self, children: Children) -> s.If:
        otherwise = children[4] if len(children) > 3 else None
        if isinstance(otherwise, s.If):
            otherwise = s.Block(otherwise.span, (otherwise,))
        return s.If(_ends(children), children[1], children[2], otherwise)

    def match(self, children: Children) -> s.Match:
        return s.Match(_ends(children), children[1], children[3])

    def arms(self, children: Children) -> tuple[s.MatchArm, ...]:
        return _only(children, s.MatchArm)

    def arm(self, children: Children) -> s.MatchArm:
        pattern = children[0]
        takes_all = isinstance(pattern, s.Name) and pattern.name == "_"
        return s.MatchArm(_ends(children), None if takes_all else pattern, children[2])

    def repeat_block(self, children: Children) -> tuple[s.Block, s.Expr | None]:
        statements: list[s.Statement] = [] if isinstance(children[1], Token) else children[1]
        return s.Block(_ends(children), tuple(statements)), _after(children, "UNTIL")

    def repeat(self, children: Children) -> s.Repeat:
        body, until = children[2]
        return s.Repeat(children[0].span.to(body.span), children[1], body, False, until)

    def repeat_max(self, children: Children) -> s.Repeat:
        body, until = children[3]
        return s.Repeat(children[0].span.to(body.span), children[2], body, True, until)

    def for_(self, children: Children) -> s.For:
        _, variable, _, items, body = children
        return s.For(_ends(children), _identifier(variable), items, body)

    def try_(self, children: Children) -> s.Try:
        _, body, _, error, handler = children
        return s.Try(_ends(children), body, _identifier(error), handler)

    def return_(self, children: Children) -> s.Return:
        return s.Return(_ends(children), children[1])

    def assert_(self, children: Children) -> s.Assert:
        return s.Assert(_ends(children), children[1], _after(children, "ELSE"))

    def fail(self, children: Children) -> s.Fail:
        return s.Fail(_ends(children), children[1])

    def reply(self, children: Children) -> s.Reply:
        return s.Reply(_ends(children), children[1], children[3])

    def expression_statement(self, children: Children) -> s.ExprStatement:
        return s.ExprStatement(children[0].span, children[0])


class ExpressionActions:
    """Expressions."""

    def expression(self, children: Children) -> s.Expr:
        return children[0] if len(children) == 1 else build_tree(children)

    def parenthesized(self, children: Children) -> s.Node:
        return children[1]

    def name(self, children: Children) -> s.Name:
        (token,) = children
        return s.Name(token.span, token.value)

    def int(self, children: Children) -> s.IntLiteral:
        return s.IntLiteral(children[0].span, int_value(children[0]))

    def float(self, children: Children) -> s.FloatLiteral:
        return s.FloatLiteral(children[0].span, float_value(children[0]))

    def true(self, children: Children) -> s.BoolLiteral:
        return s.BoolLiteral(children[0].span, True)

    def false(self, children: Children) -> s.BoolLiteral:
        return s.BoolLiteral(children[0].span, False)

    def none(self, children: Children) -> s.NoneLiteral:
        return s.NoneLiteral(children[0].span)

    def duration(self, children: Children) -> s.Duration:
        return s.Duration(children[0].span, duration_ns(children[0]))

    def percentage(self, children: Children) -> s.Percentage:
        return s.Percentage(children[0].span, float_value(children[0]) / 100)

    def text(self, children: Children) -> s.Text:
        multiline = len(children[0].value) == 3
        raw: list[RawPiece | s.Interpolation] = [
            (part.value, part.span) if isinstance(part, Token) else part for part in children[1:-1]
        ]
        return s.Text(_ends(children), make_pieces(raw, multiline=multiline), multiline)

    def interpolation(self, children: Children) -> s.Interpolation:
        return s.Interpolation(_ends(children), children[1])

    def list(self, children: Children) -> s.ListExpr:
        return s.ListExpr(_ends(children), _inside(children))

    def record(self, children: Children) -> s.RecordExpr:
        return s.RecordExpr(_ends(children), _inside(children))

    def record_field(self, children: Children) -> s.RecordField:
        return s.RecordField(_ends(children), _identifier(children[0]), children[2])

    def field(self, children: Children) -> s.Field:
        return s.Field(_ends(children), children[0], _identifier(children[2]))

    def index(self, children: Children) -> s.Index:
        return s.Index(_ends(children), children[0], children[2])

    def argument(self, children: Children) -> s.Argument:
        name = _identifier(children[0]) if len(children) > 1 else None
        return s.Argument(_ends(children), name, children[-1])

    def answer_argument(self, children: Children) -> s.AnswerArgument:
        return s.AnswerArgument(_ends(children), children[2])

    def call(self, children: Children) -> s.Call | s.Ask:
        callee = children[0]
        arguments = _only(children[1:], s.Argument)
        answers: tuple[s.AnswerArgument, ...] = _only(children[1:], s.AnswerArgument)
        if isinstance(callee, s.Field) and callee.name.name == "ask":
            if len(answers) > 1:
                raise CompileError("`as` is given twice", answers[1].span)
            answer = answers[0].type if answers else None
            return s.Ask(_ends(children), callee.value, arguments, answer, ())
        if answers:
            raise CompileError("`as` is an argument of asks only", answers[0].span)
        return s.Call(_ends(children), callee, arguments)

    def decorated_ask(self, children: Children) -> s.Ask:
        attributes, *call = children
        ask = self.call(call)
        if isinstance(ask, s.Call):
            raise CompileError("attributes stand before declarations and asks", attributes.span)
        return replace(ask, span=_ends(children), attributes=attributes.items)


class BodyActions:
    """Expressions with bodies or branches."""

    def gather(self, children: Children) -> s.Gather:
        clauses: dict[str, Any] = {}
        for clause in _only(children, Items):
            keyword, value, limit = clause.items
            if keyword.value in clauses:
                raise CompileError(f"`{keyword.value}` is given twice", keyword.span)
            clauses[keyword.value] = value
            if limit is not None:
                clauses["max"] = limit
        return s.Gather(
            _ends(children),
            _identifier(children[1]),
            children[3],
            clauses.get("for"),
            clauses.get("until"),
            clauses.get("max"),
            clauses.get("timeout"),
            children[-1],
        )

    def gather_clause(self, children: Children) -> Items:
        limit = _after(children, "MAX")
        return Items(_ends(children), (children[0], children[1], limit))

    def map(self, children: Children) -> s.Map:
        _, variable, _, items, body = children
        return s.Map(_ends(children), _identifier(variable), items, body)

    def branches(self, children: Children) -> Items:
        return Items(_ends(children), _inside(children))

    def race(self, children: Children) -> s.Race:
        return s.Race(_ends(children), children[1].items)

    def first(self, children: Children) -> s.First:
        return s.First(_ends(children), children[1], children[3].items)


class Actions(DeclarationActions, TypeActions, StatementActions, ExpressionActions, BodyActions):
    """All actions, as lark wants them: one object."""
