"""Model ops of the `exec` dialect: buffers, weights, launches and copies of one engine step."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    f64,
    i64,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
)
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    lazy_traits_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    NoTerminator,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from tokenloom.ir.text import TextAttr
from tokenloom.kernel_spec import MODES, KernelSpec, Mode


class RowSet(StrEnum):
    """Which rows of a step an op is for; it is skipped where there are none."""

    ALL = "all"
    DECODE = "decode"
    PREFILL = "prefill"
    LOGITS = "logits"
    PAGES = "pages"


@irdl_attr_definition
class RowSetAttr(EnumAttribute[RowSet], SpacedOpaqueSyntaxAttribute):
    """`#exec<rows decode>`."""

    name = "exec.rows"


@irdl_attr_definition
class KernelAttr(ParametrizedAttribute):
    """A kernel's name: `#exec.kernel<"linear", {inputs = 576 : i64, …}, {}, "float32", …>`."""

    name = "exec.kernel"
    op: StringAttr
    dims: DictionaryAttr
    attrs: DictionaryAttr
    dtype: StringAttr
    device: StringAttr
    mode: StringAttr

    @classmethod
    def of(cls, spec: KernelSpec) -> KernelAttr:
        """Make the attribute from a spec."""
        return cls(
            StringAttr(spec.op),
            DictionaryAttr({name: IntegerAttr(size, i64) for name, size in spec.dims}),
            DictionaryAttr({name: FloatAttr(value, f64) for name, value in spec.attrs}),
            StringAttr(spec.dtype),
            StringAttr(spec.device),
            StringAttr(spec.mode),
        )

    def spec(self) -> KernelSpec:
        """Return the spec that the attribute was made from."""
        dims: dict[str, int] = {}
        for name, size in self.dims.data.items():
            assert isinstance(size, IntegerAttr)
            dims[name] = size.value.data
        attrs: dict[str, float] = {}
        for name, value in self.attrs.data.items():
            assert isinstance(value, FloatAttr)
            attrs[name] = value.value.data
        mode: Mode = "exact" if self.mode.data == "exact" else "fast"
        return KernelSpec.of(
            self.op.data,
            device=self.device.data,
            mode=mode,
            dtype=self.dtype.data,
            attrs=attrs,
            **dims,
        )

    def verify(self) -> None:
        """Check the mode and that sizes are integers."""
        if self.mode.data not in MODES:
            raise VerifyException(f"kernel {self.op.data}: no mode {self.mode.data!r}")
        for name, size in self.dims.data.items():
            if not isinstance(size, IntegerAttr):
                raise VerifyException(f"kernel {self.op.data}: dimension {name} is no integer")


@irdl_op_definition
class ModelOp(IRDLOperation):
    """A model ready to run: buffers and weights, then the program of one engine step.

    It takes the symbol of its `flow.model`; `source` is that model's registry name or path.
    """

    name = "exec.model"
    sym_name = prop_def(SymbolNameConstraint())
    source = opt_prop_def(TextAttr)
    config = prop_def(TextAttr)
    digest = prop_def(StringAttr)
    page_tokens = prop_def(IntegerAttr[I64])
    max_rows = prop_def(IntegerAttr[I64])
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove(), NoTerminator())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name $body attr-dict"


@irdl_op_definition
class BufferOp(IRDLOperation):
    """A buffer. The leading size may be a run-time one, by name (`rows`, `table`, …)."""

    name = "exec.buffer"
    sym_name = prop_def(StringAttr)
    shape = prop_def(ArrayAttr[Attribute])
    dtype = prop_def(StringAttr)
    role = prop_def(StringAttr)
    device = prop_def(StringAttr)
    traits = lazy_traits_def(lambda: (HasParent(ModelOp),))
    assembly_format = "$sym_name $shape $dtype $role `on` $device attr-dict"

    def __init__(self, name: str, shape: Sequence[int | str], dtype: str, role: str, device: str):
        sizes = [IntegerAttr(s, i64) if isinstance(s, int) else StringAttr(s) for s in shape]
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "shape": ArrayAttr(sizes),
                "dtype": StringAttr(dtype),
                "role": StringAttr(role),
                "device": StringAttr(device),
            }
        )

    def verify_(self) -> None:
        if self.role.data not in ("input", "state", "temp", "output"):
            raise VerifyException(f"buffer {self.sym_name.data}: no role {self.role.data!r}")


@irdl_op_definition
class WeightOp(IRDLOperation):
    """A weight by its canonical name, laid out for a kernel; without one, as stored."""

    name = "exec.weight"
    sym_name = prop_def(StringAttr)
    device = prop_def(StringAttr)
    kernel = opt_prop_def(KernelAttr)
    traits = lazy_traits_def(lambda: (HasParent(ModelOp),))
    assembly_format = "$sym_name `on` $device (`for` $kernel^)? attr-dict"


@irdl_op_definition
class LaunchOp(IRDLOperation):
    """One kernel launch; arguments are names of buffers, weights and scalars, or numbers."""

    name = "exec.launch"
    kernel = prop_def(KernelAttr)
    rows = prop_def(RowSetAttr)
    arguments = prop_def(ArrayAttr[Attribute])
    decision = opt_prop_def(TextAttr)
    traits = lazy_traits_def(lambda: (HasParent(ModelOp),))
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$kernel $rows $arguments attr-dict"


@irdl_op_definition
class CopyOp(IRDLOperation):
    """Copy rows or pages between two buffers, also of different devices."""

    name = "exec.copy"
    source = prop_def(StringAttr)
    target = prop_def(StringAttr)
    rows = prop_def(RowSetAttr)
    traits = lazy_traits_def(lambda: (HasParent(ModelOp),))
    assembly_format = "$source `to` $target $rows attr-dict"

    def verify_(self) -> None:
        if self.source == self.target:
            raise VerifyException(f"exec.copy of {self.source.data} to itself")


MODEL_OPS = [BufferOp, CopyOp, LaunchOp, ModelOp, WeightOp]
