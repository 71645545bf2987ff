from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenloom.backends.device import Argument, Buffer, Device, DeviceError
from tokenloom.kernel_spec import KernelSpec

Array = NDArray[Any]
HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 32, "page_tokens": 16}
QUERY, WIDTH = 4 * 32, 8 * 32
NUM_PAGES = 6


class Case(Protocol):
    """The fixture's type, as far as these tests use it."""

    device: Device
    computes: bool
    pool_tier: str
    pool_dtype: str
    tolerance: float

    def spec(self, op: str, dims: dict[str, int], eps: float | None = None) -> KernelSpec: ...
    def put(self, data: Array, tier: str = "dense") -> Buffer: ...


def pools(case: Case) -> list[Buffer]:
    shapes = [(NUM_PAGES, 2, 32, 16), (NUM_PAGES, 2, 16, 32)]
    return [case.device.allocate(shape, case.pool_dtype, case.pool_tier) for shape in shapes]


def tables() -> list[Array]:
    angles = np.arange(64)[:, None] * 100.0 ** (-np.arange(16) / 16)
    return [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]


def append_arguments(case: Case, qkv: Array, positions: list[int], slots: list[int]) -> list[Any]:
    indices = [case.put(np.array(values, np.int32)) for values in (positions, slots)]
    return [case.put(qkv), *indices, *map(case.put, tables()), *pools(case), len(qkv)]


def small_append(case: Case) -> list[Any]:
    return append_arguments(case, np.zeros((3, WIDTH), np.float32), [0, 1, 2], [0, 1, 2])


def test_a_kernel_keeps_its_spec_and_its_launch_can_be_waited_for(case: Case) -> None:
    kernel = case.device.load(case.spec("kv_append", HEADS))
    assert kernel.spec == case.spec("kv_append", HEADS)
    case.device.wait(case.device.launch(kernel, small_append(case)))


@pytest.mark.parametrize(
    ("op", "dims", "message"),
    [
        ("conv", {"hidden": 16}, "no operation 'conv'; there are embed"),
        ("kv_append", {"num_heads": 4}, "kv_append has dimensions head_dim, num_heads"),
        ("kv_append", {**HEADS, "hidden": 4}, "the spec has head_dim, hidden"),
        ("kv_append", {**HEADS, "num_heads": 3}, "multiple of num_kv_heads"),
        ("kv_append", {**HEADS, "num_heads": 0}, "not positive"),
    ],
)
def test_a_spec_that_fits_no_operation_is_refused(
    case: Case, op: str, dims: dict[str, int], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        case.device.load(case.spec(op, dims))


def test_a_spec_for_another_device_is_refused(case: Case) -> None:
    spec = KernelSpec("kv_append", tuple(sorted(HEADS.items())), device="abacus")
    with pytest.raises(DeviceError, match="cannot load"):
        case.device.load(spec)


def replaced(arguments: list[Any], index: int, value: Argument) -> list[Any]:
    return [value if place == index else given for place, given in enumerate(arguments)]


def test_launch_arguments_are_checked(case: Case) -> None:
    device = case.device
    kernel = device.load(case.spec("kv_append", HEADS))
    good = small_append(case)
    freed = device.allocate((3, WIDTH), "float32")
    device.free(freed)
    wrong: list[tuple[list[Any], str]] = [
        (good[:-1], "takes 8 arguments"),
        (replaced(good, 0, 3), "argument qkv must be a buffer, got 3"),
        (replaced(good, 7, good[0]), "argument n must be an int"),
        (replaced(good, 7, -1), "argument n must be an int >= 0"),
        (replaced(good, 7, 1.5), "argument n must be an int"),
        (replaced(good, 7, 4), "launched on 4 rows; its buffers have 3"),
        (replaced(good, 0, freed), "freed already"),
        (replaced(good, 0, device.allocate((3, 5), "float32")), r"qkv must be float32\[n, 256\]"),
        (replaced(good, 1, device.allocate((3,), "int64")), r"frame_positions must be int32\[n\]"),
    ]
    for arguments, message in wrong:
        with pytest.raises(DeviceError, match=message):
            device.launch(kernel, arguments)
    device.launch(kernel, good)


def test_a_buffer_freed_after_a_launch_is_refused_at_the_next(case: Case) -> None:
    kernel = case.device.load(case.spec("kv_append", HEADS))
    arguments = small_append(case)
    case.device.launch(kernel, arguments)
    case.device.free(arguments[0])
    with pytest.raises(DeviceError, match="freed already"):
        case.device.launch(kernel, arguments)


def test_what_is_written_may_not_be_passed_twice(case: Case) -> None:
    kernel = case.device.load(case.spec("kv_append", {**HEADS, "head_dim": 16}))
    square = case.device.allocate((NUM_PAGES, 2, 16, 16), case.pool_dtype, case.pool_tier)
    small = [case.put(np.zeros(shape, np.float32)) for shape in ((3, 128), (9, 8), (9, 8))]
    indices = small_append(case)[1:3]
    with pytest.raises(DeviceError, match="argument keys is written and passed twice"):
        case.device.launch(kernel, [small[0], *indices, *small[1:], square, square, 3])


def test_a_kernel_of_another_device_is_refused(case: Case, other: Callable[[str], Device]) -> None:
    foreign = other(case.device.name)
    spec = KernelSpec("kv_append", tuple(sorted(HEADS.items())), device=foreign.name)
    with pytest.raises(DeviceError, match="loaded by another device"):
        case.device.launch(foreign.load(spec), small_append(case))
    foreign.close()


def attention_arguments(
    case: Case, appended: list[Any], qkv: Array, positions: list[int]
) -> list[Any]:
    """Rows of one request whose table is two frames: pages 4 and 1, then page 2."""
    columns = [positions, [0] * len(positions), [0, 3], [4, 1, 2], [0, 0, 20], [0, 16, 20]]
    lengths = [16, 4, 5]
    return [
        case.put(qkv.astype(np.float32)),
        *(case.put(np.array(column, np.int32)) for column in [*columns, lengths]),
        *appended[3:7],
        case.device.allocate((len(positions), QUERY), "float32"),
        0,
        len(positions),
    ]


def rotated(x: Array, position: int) -> Array:
    cos, sin = (table[position].astype(np.float64) for table in tables())
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def expected_attention(query: Array, position: int, qkv: Array) -> Array:
    """Attention of one row over appended rows, all keys rotated to their true positions."""
    heads = qkv.astype(np.float64).reshape(len(qkv), 8, 32)
    q = rotated(query.astype(np.float64)[:QUERY].reshape(4, 32), position)
    k = np.stack([rotated(heads[t, 4:6], t) for t in range(position + 1)]).repeat(2, axis=1)
    v = heads[: position + 1, 6:].repeat(2, axis=1)
    scores = np.einsum("hd,thd->th", q, k) / np.sqrt(32)
    weights = np.exp(scores - scores.max(axis=0))
    return np.einsum("th,thd->hd", weights / weights.sum(axis=0), v).ravel()


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_append_and_attention_over_two_frames(
    case: Case, rng: np.random.Generator, op: str
) -> None:
    if not case.computes:
        pytest.skip(f"{case.device.name} computes nothing")
    device = case.device
    qkv = rng.standard_normal((25, WIDTH)).astype(np.float32)
    frames = [*range(20), *range(5)]
    slots = [*range(64, 80), *range(16, 20), *range(32, 37)]
    appended = append_arguments(case, qkv, frames, slots)
    device.launch(device.load(case.spec("kv_append", HEADS)), appended)
    positions = [24, 0, 19, 20, 7]
    arguments = attention_arguments(case, appended, qkv[positions], positions)
    device.wait(device.launch(device.load(case.spec(op, HEADS)), arguments))
    out = device.read(arguments[12])
    for row, position in enumerate(positions):
        expected = expected_attention(qkv[position], position, qkv)
        error = np.abs(out[row] - expected).max() / np.abs(expected).max()
        assert error < case.tolerance


def test_pages_copied_between_pools_read_the_same(case: Case, rng: np.random.Generator) -> None:
    if not case.computes:
        pytest.skip(f"{case.device.name} computes nothing")
    source, target = pools(case)[0], pools(case)[0]
    data = rng.standard_normal(source.shape).astype(case.pool_dtype)
    case.device.write(source, data)
    case.device.copy(source, target, [(0, 5), (3, 0), (0, 1)])
    read = case.device.read(target)
    assert (read[[5, 0, 1]] == data[[0, 3, 0]]).all()
    assert not read[2:5].any()
    assert (case.device.read(source, 1, 3) == data[1:3]).all()


def test_a_read_is_a_copy(case: Case) -> None:
    buffer = case.put(np.arange(6, dtype=np.int32).reshape(3, 2))
    case.device.read(buffer)[:] = 9
    assert not (case.device.read(buffer) == 9).any()


def test_what_was_written_is_read(case: Case) -> None:
    if not case.computes:
        pytest.skip(f"{case.device.name} computes nothing")
    for tier in case.device.capacity().size_bytes:
        buffer = case.device.allocate((4, 3), "float32", tier)
        data = np.arange(6, dtype=np.float32).reshape(2, 3)
        case.device.write(buffer, data, start=1)
        assert (case.device.read(buffer, 1, 3) == data).all()
        assert not case.device.read(buffer, 3).any()
