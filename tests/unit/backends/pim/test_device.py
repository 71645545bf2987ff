from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenloom.backends.device import Buffer, DeviceError
from tokenloom.backends.machine import load_machine
from tokenloom.backends.pim.device import PimDevice
from tokenloom.backends.pim.storage import KvPool
from tokenloom.kernel_spec import KernelSpec

KEYS, VALUES = (8, 2, 64, 16), (8, 2, 16, 64)
HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "page_tokens": 16}


def pages(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def spec(op: str, **dims: int) -> KernelSpec:
    return KernelSpec(op, tuple(sorted(dims.items())), device="pim")


def append_arguments(pim: PimDevice, keys: Buffer, values: Buffer) -> list[Buffer | int]:
    qkv = pim.allocate((1, 8 * 16), "float32")
    pim.write(qkv, np.arange(1, 129, dtype=np.float32)[None])
    index = [pim.allocate((1,), "int32") for _ in range(2)]
    cos, sin = pim.allocate((4, 8), "float32"), pim.allocate((4, 8), "float32")
    pim.write(cos, np.ones((4, 8), np.float32))
    return [qkv, *index, cos, sin, keys, values, 1]


def test_the_stack_of_this_host_is_what_the_device_offers(pim: PimDevice) -> None:
    stack = load_machine("this-host-pim").pim
    assert stack is not None
    assert pim.capacity().size_bytes["pim"] == stack.capacity_bytes == 2 << 30
    assert pim.capacity().lanes == 1024 * 16


@pytest.mark.parametrize("shape", [KEYS, VALUES, (8, 2, 16, 16), (3, 2, 16, 80)])
def test_pages_come_back_as_they_were_written(pim: PimDevice, shape: tuple[int, ...]) -> None:
    buffer, data = pim.allocate(shape, "float16", "pim"), pages(shape)
    assert isinstance(buffer.storage, KvPool)
    pim.write(buffer, data[:2], start=1)
    got = pim.read(buffer)
    assert np.array_equal(got[1:3], data[:2])
    assert not got[0].any()
    assert not got[3:].any()


@pytest.mark.parametrize(("shape", "dtype"), [((5, 7), "float32"), ((3,), "int8"), (KEYS, "uint8")])
def test_other_buffers_lie_interleaved(pim: PimDevice, shape: tuple[int, ...], dtype: str) -> None:
    first, second = pim.allocate(shape, dtype, "pim"), pim.allocate(shape, dtype, "pim")
    data = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    pim.write(first, data)
    pim.copy(first, second, [(2, 0), (0, 1)])
    assert np.array_equal(pim.read(first), data)
    assert np.array_equal(pim.read(second, 0, 2), data[[2, 0]])


def test_pages_are_copied_and_gathered(pim: PimDevice) -> None:
    source, target = (pim.allocate(KEYS, "float16", "pim") for _ in range(2))
    data = pages(KEYS)
    pim.write(source, data)
    pim.copy(source, target, [(7, 0), (0, 7), (3, 3)])
    assert np.array_equal(pim.read(target)[[0, 7, 3]], data[[7, 0, 3]])
    pim.copy(source, source, [(0, 1), (1, 0)])
    assert np.array_equal(pim.gather_rows(source, [0, 1, 5]), data[[1, 0, 5]])
    with pytest.raises(DeviceError, match="beyond the 8"):
        pim.gather_rows(source, [8])


def test_memory_is_counted_in_rows_of_all_banks_and_comes_back(pim: PimDevice) -> None:
    rows = load_machine("this-host-pim").pim
    assert rows is not None
    whole = (rows.rows, 1 << 20)
    buffer = pim.allocate(whole, "uint8", "pim")
    with pytest.raises(DeviceError, match=r"1,048,576 bytes asked in tier pim, 0 bytes free"):
        pim.allocate(KEYS, "float16", "pim")
    pim.free(buffer)
    again = pim.allocate(KEYS, "float16", "pim")
    pim.write(again, pages(KEYS))
    pim.free(again)
    assert not pim.read(pim.allocate(KEYS, "float16", "pim")).any()


def test_a_head_of_16_dimensions_is_laid_out_as_it_is_used(pim: PimDevice) -> None:
    """Keys and values look alike then: the first launch says which is which."""
    shape = (4, 2, 16, 16)
    keys, values = (pim.allocate(shape, "float16", "pim") for _ in range(2))
    data = pages(shape)
    pim.write(values, data)
    kernel = pim.load(spec("kv_append", **HEADS))
    pim.launch(kernel, append_arguments(pim, keys, values))
    assert isinstance(values.storage, KvPool)
    assert values.storage.role == "values"
    got = pim.read(values)
    assert np.array_equal(got[1:], data[1:])
    assert np.array_equal(got[0, :, 0], np.arange(97, 129).reshape(2, 16))
    assert np.array_equal(pim.read(keys)[0, :, :, 0], np.arange(65, 97).reshape(2, 16))
    with pytest.raises(DeviceError, match="laid out for values is used for keys"):
        pim.launch(kernel, append_arguments(pim, values, keys))


def test_weights_and_foreign_operations_are_refused(pim: PimDevice) -> None:
    linear = spec("linear", inputs=16, outputs=16)
    message = "cannot run linear; a PIM stack runs kv_append, attention_prefill, attention_decode"
    with pytest.raises(DeviceError, match=message):
        pim.load(linear)
    with pytest.raises(DeviceError, match=message):
        pim.prepare_weight(linear, np.zeros((16, 16), np.float32))
    with pytest.raises(DeviceError, match="must have pages of 16 tokens"):
        pim.load(spec("kv_append", **{**HEADS, "page_tokens": 32}))


def test_launches_are_checked(pim: PimDevice) -> None:
    kernel = pim.load(spec("kv_append", **HEADS))
    shape = (4, 2, 16, 16)
    keys, fewer = (
        pim.allocate(shape, "float16", "pim"),
        pim.allocate((3, *shape[1:]), "float16", "pim"),
    )
    with pytest.raises(DeviceError, match="equally many pages, got 4 and 3"):
        pim.launch(kernel, append_arguments(pim, keys, fewer))
    with pytest.raises(DeviceError, match="keys and values in tier pim"):
        pim.launch(kernel, append_arguments(pim, keys, pim.allocate(shape, "float16")))
    wrong = append_arguments(pim, keys, pim.allocate(shape, "float16", "pim"))
    wrong[0] = pim.allocate((1, 8 * 16), "float32", "pim")
    with pytest.raises(DeviceError, match="activations from tier dense"):
        pim.launch(kernel, wrong)


def test_freed_buffers_are_not_kept_by_earlier_launches(pim: PimDevice) -> None:
    kernel = pim.load(spec("kv_append", **HEADS))
    keys, values = (pim.allocate((4, 2, 16, 16), "float16", "pim") for _ in range(2))
    arguments = append_arguments(pim, keys, values)
    pim.launch(kernel, arguments)
    pim.free(keys)
    with pytest.raises(DeviceError, match="freed already"):
        pim.launch(kernel, arguments)


def test_machines_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="machine h100 has no PIM stack"):
        PimDevice(machine="h100")
    huge = tmp_path / "huge.toml"
    huge.write_text(
        'extends = "this-host-pim"\n'
        '[pim]\nsource = "test"\nrows = 4398046511104\npim_rows = 4398046511104\n'
    )
    with pytest.raises(DeviceError, match="no room for a stack of"):
        PimDevice(machine=str(huge))
