"""The `nn` dialect: what a model computes, op by op, and on which device.

Rows are tokens; their number is dynamic. Weights are named, not passed. A cache value stands for
the KV pages of all layers: an append makes the next one, so the order of layers is data flow.
Rotary embedding is part of append (keys, by position within the run) and of attention (queries, by
distance to the run's frame), since a query is rotated once for each frame it attends to.
"""

from __future__ import annotations

from xdsl.dialects.builtin import (
    I1,
    I64,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    TensorType,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Dialect,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    ParsePropInAttrDict,
    base,
    irdl_attr_definition,
    irdl_op_definition,
    lazy_traits_def,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import HasParent, IsolatedFromAbove, IsTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from tokenloom.ir.text import TextAttr

Rows = base(TensorType)


class Phase(StrEnum):
    """Which work a function does: many new tokens of a request, or one."""

    PREFILL = "prefill"
    DECODE = "decode"


@irdl_attr_definition
class PhaseAttr(EnumAttribute[Phase], SpacedOpaqueSyntaxAttribute):
    """`#nn<phase decode>`."""

    name = "nn.phase"


class Placement(StrEnum):
    """The device an op runs on (the names of DESIGN, section 4)."""

    HOST = "host"
    PIM = "pim"
    CUDA = "cuda"


@irdl_attr_definition
class PlacementAttr(EnumAttribute[Placement], SpacedOpaqueSyntaxAttribute):
    """`#nn<placement pim>`."""

    name = "nn.placement"


@irdl_attr_definition
class CacheType(ParametrizedAttribute, TypeAttribute):
    """The KV pages of all layers at one point of the computation: `!nn.cache`."""

    name = "nn.cache"


@irdl_op_definition
class FunctionOp(IRDLOperation):
    """One phase of a model. Block arguments: token ids, cache; it returns logits and the cache.

    `config` is the model's configuration as JSON.
    """

    name = "nn.function"
    sym_name = prop_def(SymbolNameConstraint())
    phase = prop_def(PhaseAttr)
    config = prop_def(TextAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $phase $body attr-dict"

    def verify_(self) -> None:
        if not isinstance(self.body.block.last_op, ReturnOp):
            raise VerifyException(f"function @{self.sym_name.data} ends with nn.return")


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """Give the logits and the cache."""

    name = "nn.return"
    values = var_operand_def(AnyAttr())
    traits = lazy_traits_def(lambda: (IsTerminator(), HasParent(FunctionOp), Pure()))
    assembly_format = "$values `:` type($values) attr-dict"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


@irdl_op_definition
class EmbedOp(IRDLOperation):
    """Look token ids up in an embedding table."""

    name = "nn.embed"
    tokens = operand_def(Rows)
    weight = prop_def(StringAttr)
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$tokens $weight attr-dict `:` type($tokens) `->` type($result)"


@irdl_op_definition
class RmsNormOp(IRDLOperation):
    """Scale each row to unit root mean square, times a weight (RMSNorm, arXiv 1910.07467)."""

    name = "nn.rms_norm"
    x = operand_def(Rows)
    weight = prop_def(StringAttr)
    epsilon = prop_def(FloatAttr)
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x $weight attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class LinearOp(IRDLOperation):
    """Multiply by the transpose of a weight `[outputs, inputs]`, and add a bias if one is named.

    `format` is the weight's structure: `dense`, later `circulant`.
    """

    name = "nn.linear"
    x = operand_def(Rows)
    weight = prop_def(StringAttr)
    bias = opt_prop_def(StringAttr)
    format = opt_prop_def(StringAttr)
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x $weight attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class HeadNormOp(IRDLOperation):
    """Normalize each query and key head (Qwen3)."""

    name = "nn.head_norm"
    qkv = operand_def(Rows)
    q_weight = prop_def(StringAttr)
    k_weight = prop_def(StringAttr)
    epsilon = prop_def(FloatAttr)
    num_heads = prop_def(IntegerAttr[I64])
    num_kv_heads = prop_def(IntegerAttr[I64])
    head_dim = prop_def(IntegerAttr[I64])
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$qkv $q_weight `,` $k_weight attr-dict `:` type($qkv) `->` type($result)"


@irdl_op_definition
class AppendOp(IRDLOperation):
    """Write new rows' keys (rotated by place in the run) and values to a layer's pages."""

    name = "nn.append"
    qkv = operand_def(Rows)
    cache = operand_def(CacheType())
    layer = prop_def(IntegerAttr[I64])
    num_heads = prop_def(IntegerAttr[I64])
    num_kv_heads = prop_def(IntegerAttr[I64])
    head_dim = prop_def(IntegerAttr[I64])
    result = result_def(CacheType())
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$qkv `to` $cache attr-dict `:` type($qkv)"


@irdl_op_definition
class AttentionOp(IRDLOperation):
    """Causal attention of new rows over a layer's pages, by true position, with grouped heads.

    `placement` is set by place-attention; `decision` names its entry in the plan.
    """

    name = "nn.attention"
    qkv = operand_def(Rows)
    cache = operand_def(CacheType())
    layer = prop_def(IntegerAttr[I64])
    num_heads = prop_def(IntegerAttr[I64])
    num_kv_heads = prop_def(IntegerAttr[I64])
    head_dim = prop_def(IntegerAttr[I64])
    placement = opt_prop_def(PlacementAttr)
    decision = opt_prop_def(TextAttr)
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$qkv `over` $cache attr-dict `:` type($qkv) `->` type($result)"

    def verify_(self) -> None:
        heads, kv_heads = self.num_heads.value.data, self.num_kv_heads.value.data
        if heads % kv_heads:
            raise VerifyException(f"{heads} heads cannot share {kv_heads} KV heads evenly")


@irdl_op_definition
class SiluMulOp(IRDLOperation):
    """silu(gate) * up, where a row is gate then up (SwiGLU, arXiv 2002.05202)."""

    name = "nn.silu_mul"
    gate_up = operand_def(Rows)
    result = result_def(Rows)
    traits = traits_def(Pure())
    assembly_format = "$gate_up attr-dict `:` type($gate_up) `->` type($result)"


@irdl_op_definition
class AddOp(IRDLOperation):
    """The sum of two tensors of one shape."""

    name = "nn.add"
    x = operand_def(Rows)
    y = operand_def(Rows)
    result = result_def(Rows)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $y attr-dict `:` type($x) `,` type($y) `->` type($result)"


@irdl_op_definition
class TakeRowsOp(IRDLOperation):
    """Keep the rows whose logits are wanted (`all` in the interest of a check)."""

    name = "nn.take_rows"
    x = operand_def(Rows)
    all = opt_prop_def(IntegerAttr[I1])
    result = result_def(Rows)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"


NN = Dialect(
    "nn",
    [
        AddOp,
        AppendOp,
        AttentionOp,
        EmbedOp,
        FunctionOp,
        HeadNormOp,
        LinearOp,
        ReturnOp,
        RmsNormOp,
        SiluMulOp,
        TakeRowsOp,
    ],
    [CacheType, PhaseAttr, PlacementAttr],
)
