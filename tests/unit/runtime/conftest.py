"""A model executable written by hand, so that the engine is tested without the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tokenloom.backends.device import Device
from tokenloom.backends.host import HostDevice
from tokenloom.kernel_spec import KernelSpec
from tokenloom.models.config import ModelConfig
from tokenloom.models.registry import Model
from tokenloom.runtime.engine import Engine, EngineOptions
from tokenloom.runtime.executable import (
    BufferDecl,
    CopyStep,
    Launch,
    ModelExecutable,
    Role,
    RowSet,
    Step,
    WeightDecl,
)

PAGE_TOKENS = 16
TABLES = ("pages", "frame_starts", "page_positions", "page_lengths")
ATTENTION_INPUTS = ("positions", "row_requests", "table_offsets", *TABLES)


class ExecutableWriter:
    """Writes the program of a Llama model; with `kv` "pim" the pools lie there, as float16."""

    def __init__(self, config: ModelConfig, device: str, kv: str, max_rows: int):
        self.config, self.device, self.kv, self.max_rows = config, device, kv, max_rows
        self.buffers: dict[str, BufferDecl] = {}
        self.weights: dict[str, WeightDecl] = {}
        self.steps: list[Step] = []
        self.heads: dict[str, int] = {
            "num_heads": config.num_heads,
            "num_kv_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
        }

    def write(self) -> ModelExecutable:
        config = self.config
        hidden = config.hidden_size
        tokens = self.input("tokens", "rows")
        x = self.rows("x", hidden)
        dims = {"vocab": config.vocab_size, "hidden": hidden}
        self.launch("embed", [tokens, "embed", x], dims, weight=1)
        for layer in range(config.num_layers):
            self.layer(layer, x)
        wanted = self.input("logit_rows", "logit_rows")
        last = self.buffer("last", ("logit_rows", hidden), "temp")
        normed = self.buffer("last_normed", ("logit_rows", hidden), "temp")
        logits = self.buffer("logits", ("logit_rows", config.vocab_size), "output")
        self.launch("take_rows", [x, wanted, last], {"hidden": hidden}, rows="logits")
        self.norm("norm", last, normed, rows="logits")
        self.linear("lm_head", normed, logits, hidden, config.vocab_size, rows="logits")
        return ModelExecutable(
            config.name,
            config.to_json(),
            PAGE_TOKENS,
            self.max_rows,
            tuple(self.buffers.values()),
            tuple(self.weights.values()),
            tuple(self.steps),
        )

    def layer(self, layer: int, x: str) -> None:
        config = self.config
        hidden, attended = config.hidden_size, config.num_heads * config.head_dim
        name = f"layers.{layer}."
        normed, qkv = self.rows("normed", hidden), self.rows("qkv", config.qkv_size)
        out, delta = self.rows("attended", attended), self.rows("delta", hidden)
        gate_up, gated = (
            self.rows("gate_up", 2 * config.ffn_size),
            self.rows("gated", config.ffn_size),
        )
        self.norm(name + "attn_norm", x, normed)
        self.linear(name + "qkv", normed, qkv, hidden, config.qkv_size)
        self.attention(layer, qkv, out)
        self.linear(name + "o", out, delta, attended, hidden)
        self.launch("add", [x, delta], {"hidden": hidden})
        self.norm(name + "ffn_norm", x, normed)
        self.linear(name + "gate_up", normed, gate_up, hidden, 2 * config.ffn_size)
        self.launch("silu_mul", [gate_up, gated], {"ffn": config.ffn_size})
        self.linear(name + "down", gated, delta, config.ffn_size, hidden)
        self.launch("add", [x, delta], {"hidden": hidden})

    def attention(self, layer: int, qkv: str, out: str) -> None:
        pools = self.pools(f"keys.{layer}", f"values.{layer}", "pages", "state", self.kv)
        if self.kv == self.device:
            self.append(qkv, pools)
            for phase in ("decode", "prefill"):
                self.attend(phase, self.device, qkv, pools, out)
            return
        away = self.rows("qkv@kv", self.config.qkv_size, self.kv)
        away_out = self.rows("attended@kv", self.config.num_heads * self.config.head_dim, self.kv)
        staged = self.pools("staged_keys", "staged_values", "staged_pages", "temp", self.device)
        self.steps.append(CopyStep(qkv, away, "all"))
        self.append(away, pools)
        self.attend("decode", self.kv, away, pools, away_out)
        self.steps.append(CopyStep(away_out, out, "decode"))
        for source, target in zip(pools, staged, strict=True):
            self.steps.append(CopyStep(source, target, "pages"))
        self.attend("prefill", self.device, qkv, staged, out)

    def append(self, qkv: str, pools: list[str]) -> None:
        rows = [self.input(name, "rows", self.kv) for name in ("frame_positions", "slots")]
        arguments = [qkv, *rows, *self.rope(self.kv), *pools]
        dims = {**self.heads, "page_tokens": PAGE_TOKENS}
        self.launch("kv_append", arguments, dims, device=self.kv)

    def attend(self, phase: str, device: str, qkv: str, pools: list[str], out: str) -> None:
        sizes = {"positions": "rows", "row_requests": "rows", "table_offsets": "requests1"}
        names: list[str] = list(ATTENTION_INPUTS)
        if phase == "prefill" and device != self.kv:
            names[names.index("pages")] = "staged_pages"
        tables = [self.input(name, sizes.get(name, "table"), device) for name in names]
        arguments = [qkv, *tables, *self.rope(device), *pools, out]
        self.launch(
            f"attention_{phase}",
            arguments,
            {**self.heads, "page_tokens": PAGE_TOKENS},
            rows="decode" if phase == "decode" else "prefill",
            device=device,
        )

    def pools(self, keys: str, values: str, size: str, role: Role, device: str) -> list[str]:
        heads, dim = self.config.num_kv_heads, self.config.head_dim
        dtype = "float16" if device == "pim" else "float32"
        return [
            self.buffer(keys, (size, heads, dim, PAGE_TOKENS), role, device, dtype),
            self.buffer(values, (size, heads, PAGE_TOKENS, dim), role, device, dtype),
        ]

    def norm(self, weight: str, x: str, out: str, rows: RowSet = "all") -> None:
        arguments = [x, weight, out]
        attrs = {"eps": self.config.norm_eps}
        dims = {"hidden": self.config.hidden_size}
        self.launch("rms_norm", arguments, dims, weight=1, rows=rows, attrs=attrs)

    def linear(
        self, weight: str, x: str, out: str, inputs: int, outputs: int, rows: RowSet = "all"
    ) -> None:
        arguments = [x, weight, out]
        dims = {"inputs": inputs, "outputs": outputs}
        self.launch("linear", arguments, dims, weight=1, rows=rows)

    def rope(self, device: str) -> list[str]:
        shape = (self.config.max_context, self.config.head_dim // 2)
        return [self.buffer(self.on(n, device), shape, "state", device) for n in ("cos", "sin")]

    def on(self, name: str, device: str) -> str:
        return name if device == self.device else f"{name}@{device}"

    def input(self, name: str, size: str, device: str | None = None) -> str:
        device = device or self.device
        return self.buffer(self.on(name, device), (size,), "input", device, "int32")

    def rows(self, name: str, width: int, device: str | None = None) -> str:
        return self.buffer(name, ("rows", width), "temp", device)

    def buffer(
        self,
        name: str,
        shape: tuple[int | str, ...],
        role: Role,
        device: str | None = None,
        dtype: str = "float32",
    ) -> str:
        self.buffers[name] = BufferDecl(name, shape, dtype, role, device or self.device)
        return name

    def launch(
        self,
        op: str,
        arguments: list[str],
        dims: dict[str, int],
        *,
        weight: int | None = None,
        rows: RowSet = "all",
        device: str | None = None,
        attrs: dict[str, float] | None = None,
    ) -> None:
        device = device or self.device
        constants = tuple(sorted((attrs or {}).items()))
        spec = KernelSpec(op, tuple(sorted(dims.items())), constants, device=device)
        if weight is not None:
            name = arguments[weight]
            self.weights[name] = WeightDecl(name, spec, device)
        scalars = ("first", "n") if op.startswith("attention") else ("n",)
        self.steps.append(Launch(spec, device, (*arguments, *scalars), rows))


WriteExecutable = Callable[..., ModelExecutable]


@pytest.fixture(scope="session")
def write_executable() -> WriteExecutable:
    """Return a function that writes the executable of a model's configuration."""

    def write(
        config: ModelConfig, device: str = "host", kv: str | None = None, max_rows: int = 512
    ) -> ModelExecutable:
        return ExecutableWriter(config, device, kv or device, max_rows).write()

    return write


MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def host() -> Iterator[Device]:
    """One host device for all tests, so that kernels are loaded once."""
    device = HostDevice("exact")
    yield device
    device.close()


@pytest.fixture
def make_engine(
    tiny: Model, host: Device, write_executable: WriteExecutable
) -> Iterator[MakeEngine]:
    """Return a function that opens an engine for the tiny model; all are closed at the end."""
    engines: list[Engine] = []

    def make(**options: object) -> Engine:
        chosen = EngineOptions(**{"num_pages": 256, **options})  # pyright: ignore[reportArgumentType]
        engine = Engine(tiny, write_executable(tiny.config), {"host": host}, chosen)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()
        engine.check_integrity()
