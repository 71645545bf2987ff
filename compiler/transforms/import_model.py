"""Write down what a model computes, from its configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    I64,
    FloatAttr,
    IntegerAttr,
    LocationAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    f32,
    f64,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from tokenloom.compiler.context import compile_context
from tokenloom.ir.declarations import ModelOp
from tokenloom.ir.nn import (
    AddOp,
    AppendOp,
    AttentionOp,
    CacheType,
    EmbedOp,
    FunctionOp,
    HeadNormOp,
    LinearOp,
    Phase,
    PhaseAttr,
    ReturnOp,
    RmsNormOp,
    SiluMulOp,
    TakeRowsOp,
)
from tokenloom.ir.text import TextAttr
from tokenloom.models.config import ModelConfig


def function_name(model: str, phase: Phase) -> str:
    """Return the symbol of a model's function for one phase."""
    return f"{model}_{phase.value}"


@dataclass(frozen=True)
class ImportModel(ModulePass):
    """Add two functions for each model that is declared: prefill and decode.

    Both compute the same; they are two so that each can be placed on its own.

    ```mlir
    flow.model @smol <"smollm2-135m-instruct">
    ```
    becomes
    ```mlir
    flow.model @smol <"smollm2-135m-instruct">
    nn.function @smol_prefill prefill {
    ^bb0(%tokens: tensor<?xi32>, %cache: !nn.cache):
      %x = nn.embed %tokens "embed" : tensor<?xi32> -> tensor<?x576xf32>
      …
    }
    nn.function @smol_decode decode {…}
    ```
    """

    name = "import-model"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Add the functions that the module lacks, each behind its model."""
        models = compile_context(ctx)
        present = {f.sym_name.data for f in op.ops if isinstance(f, FunctionOp)}
        for declared in [m for m in op.ops if isinstance(m, ModelOp)]:
            config = models.model(declared.source.data).config
            name, after = declared.sym_name.data, declared
            for phase in (Phase.PREFILL, Phase.DECODE):
                if function_name(name, phase) in present:
                    continue
                function = _Builder(config, declared.location).function(name, phase)
                op.body.block.insert_ops_after([function], after)
                after = function


class _Builder:
    """The ops of one function; all get the place of the model's declaration."""

    HEADS: ClassVar = ("num_heads", "num_kv_heads", "head_dim")

    def __init__(self, config: ModelConfig, location: LocationAttr):
        self.config = config
        self.location = location
        self.block = Block(arg_types=[TensorType(i32, [DYNAMIC_INDEX]), CacheType()])
        self.heads: dict[str, IntegerAttr[I64]] = {
            name: IntegerAttr(getattr(config, name), i64) for name in self.HEADS
        }
        self.epsilon = FloatAttr(config.norm_eps, f64)

    def function(self, model: str, phase: Phase) -> FunctionOp:
        tokens, cache = self.block.args
        tokens.name_hint, cache.name_hint = "tokens", "cache"
        x = self._add(EmbedOp, [tokens], self.config.hidden_size, weight=StringAttr("embed"))
        for layer in range(self.config.num_layers):
            x, cache = self._layer(layer, x, cache)
        x = self._add(TakeRowsOp, [x], self.config.hidden_size)
        logits = self._linear(self._norm(x, "norm"), "lm_head", self.config.vocab_size)
        logits.name_hint = "logits"
        self._append(ReturnOp(logits, cache))
        function = FunctionOp.create(
            properties={
                "sym_name": StringAttr(function_name(model, phase)),
                "phase": PhaseAttr(phase),
                "config": TextAttr(json.dumps(self.config.to_json(), sort_keys=True)),
            },
            regions=[Region(self.block)],
        )
        function.location = self.location
        return function

    def _layer(self, layer: int, x: SSAValue, cache: SSAValue) -> tuple[SSAValue, SSAValue]:
        config, prefix = self.config, f"layers.{layer}."
        bias = f"{prefix}qkv_bias" if config.qkv_bias else None
        normed = self._norm(x, f"{prefix}attn_norm")
        qkv = self._linear(normed, f"{prefix}qkv", config.qkv_size, bias)
        if config.qk_norm:
            weights = {
                key: StringAttr(f"{prefix}{key[0]}_norm") for key in ("q_weight", "k_weight")
            }
            qkv = self._add(
                HeadNormOp, [qkv], config.qkv_size, **weights, **self.heads, epsilon=self.epsilon
            )
        place: dict[str, Attribute] = {"layer": IntegerAttr(layer, i64), **self.heads}
        append = AppendOp.create(
            operands=[qkv, cache], properties=dict(place), result_types=[CacheType()]
        )
        cache = self._append(append)
        width = config.num_heads * config.head_dim
        attended = self._add(AttentionOp, [qkv, cache], width, **place)
        x = self._add(AddOp, [x, self._linear(attended, f"{prefix}o", config.hidden_size)],
                      config.hidden_size)  # fmt: skip
        gate_up = self._linear(
            self._norm(x, f"{prefix}ffn_norm"), f"{prefix}gate_up", 2 * config.ffn_size
        )
        active = self._add(SiluMulOp, [gate_up], config.ffn_size)
        down = self._linear(active, f"{prefix}down", config.hidden_size)
        return self._add(AddOp, [x, down], config.hidden_size), cache

    def _norm(self, x: SSAValue, weight: str) -> SSAValue:
        return self._add(
            RmsNormOp, [x], self.config.hidden_size, weight=StringAttr(weight), epsilon=self.epsilon
        )

    def _linear(self, x: SSAValue, weight: str, width: int, bias: str | None = None) -> SSAValue:
        biased = {"bias": StringAttr(bias)} if bias else {}
        return self._add(
            LinearOp, [x], width, weight=StringAttr(weight), format=StringAttr("dense"), **biased
        )

    def _add(
        self,
        kind: type[Operation],
        operands: list[SSAValue],
        width: int,
        **properties: Attribute,
    ) -> SSAValue:
        result = TensorType(f32, [DYNAMIC_INDEX, width])
        op = kind.create(operands=operands, properties=properties, result_types=[result])
        return self._append(op)

    def _append(self, op: Operation) -> SSAValue:
        op.location = self.location
        self.block.add_op(op)
        return op.results[0] if op.results else self.block.args[0]
