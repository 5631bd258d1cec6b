import argparse
import importlib
import json
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from metaprompts.errors import InputError
from metaprompts.utils.tensor_files import is_finite, load_tensors, read_tensors, state_dict_in, write_tensors

TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
    torch.complex64, torch.bool,
]  # fmt: skip


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def raw(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


class TestWriteTensors:
    def test_every_type_odd_shapes_and_orders(self, tmp_path):
        values = {f"z.{kind}": (torch.randn(3, 5) * 9).to(kind) for kind in TYPES}
        values |= {f"a.{kind}": (torch.randn(7) * 9).to(kind) for kind in TYPES}
        values |= {"scalar": torch.tensor(3), "empty": torch.zeros(0, 4), "ä/ü.weight": torch.ones(1)}
        write_tensors(tmp_path / "x.safetensors", values, {"made by": "a test"})
        loaded = load_file(tmp_path / "x.safetensors")
        assert loaded.keys() == values.keys()
        for name, tensor in values.items():
            assert loaded[name].dtype == tensor.dtype
            assert loaded[name].shape == tensor.shape
            assert torch.equal(raw(loaded[name]), raw(tensor)), name
            assert loaded[name].data_ptr() % tensor.element_size() == 0

    def test_header(self, tmp_path):
        write_tensors(tmp_path / "x.safetensors", {"b": torch.ones(2), "a": torch.ones(3)}, {"key": "value"})
        with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
            assert file.metadata() == {"format": "pt", "key": "value"}
            assert sorted(file.keys()) == ["a", "b"]
            assert file.get_slice("a").get_shape() == [3]
            assert torch.equal(file.get_tensor("b"), torch.ones(2))

    def test_mapped_tensors_lie_as_pytorch_lays_its_own(self, tmp_path):
        """A loaded model gave other numbers than the saved one in the last digit: its weights lay elsewhere."""
        values = {"odd": torch.ones(5), "steps": torch.tensor(7), "byte": torch.ones(3, dtype=torch.uint8)}
        values |= {f"{name}": torch.randn(16, index + 1) for index, name in enumerate("zyxcba")}
        write_tensors(tmp_path / "x.safetensors", values)
        loaded = load_file(tmp_path / "x.safetensors")
        assert all(loaded[name].data_ptr() % 64 == 0 for name in "abcxyz")

    def test_written_again_by_safetensors(self, tmp_path):
        values = {"b": torch.randn(3, 2), "a": torch.randn(5).half(), "steps": torch.tensor(7)}
        write_tensors(tmp_path / "ours.safetensors", values)
        save_file(load_file(tmp_path / "ours.safetensors"), tmp_path / "theirs.safetensors")
        theirs = read_tensors(tmp_path / "theirs.safetensors")
        assert all(torch.equal(theirs[name], tensor) for name, tensor in values.items())

    def test_the_same_tensors_make_the_same_file(self, tmp_path):
        values = {"b": torch.arange(4.0), "a": torch.tensor(1)}
        write_tensors(tmp_path / "1.safetensors", values)
        write_tensors(tmp_path / "2.safetensors", dict(reversed(values.items())))
        assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()

    def test_tied_strided_and_gradient_tensors(self, tmp_path):
        base = torch.arange(24.0).reshape(4, 6)
        values = {
            "tied1": base,
            "tied2": base,
            "transposed": base.T,
            "strided": base[::2, 1::2],
            "expanded": torch.ones(1, 3).expand(4, 3),
            "expanded one": torch.tensor(2.0).expand(1),
            "offset": torch.arange(5.0)[3:4],
            "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "parameter": nn.Parameter(torch.ones(2)),
            "conjugated": torch.tensor([1 + 2j]).conj(),
        }
        write_tensors(tmp_path / "x.safetensors", values)
        loaded = load_file(tmp_path / "x.safetensors")
        for name, tensor in values.items():
            assert torch.equal(loaded[name], tensor.detach()), name

    def test_no_tensors(self, tmp_path):
        write_tensors(tmp_path / "x.safetensors", {})
        assert load_file(tmp_path / "x.safetensors") == {}

    def test_a_type_the_format_lacks(self, tmp_path):
        with pytest.raises(InputError, match=r"weird is torch\.complex128") as caught:
            write_tensors(tmp_path / "x.safetensors", {"weird": torch.ones(1, dtype=torch.complex128)})
        one_line(caught)
        assert list(tmp_path.iterdir()) == []

    def test_failing_half_way_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "x.safetensors"
        write_tensors(path, {"a": torch.ones(1)})
        before = path.read_bytes()
        with pytest.raises(NotImplementedError):
            write_tensors(path, {"a": torch.ones(1), "b": torch.ones(1, device="meta")})
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]

    def test_a_full_disk_leaves_the_old_file(self, tmp_path):
        """A limit on file sizes stands for the full disk."""
        resource = pytest.importorskip("resource")
        path = tmp_path / "x.safetensors"
        write_tensors(path, {"a": torch.ones(1)})
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9999, most))
        try:
            with pytest.raises(InputError) as caught:
                write_tensors(path, {"a": torch.ones(10000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert one_line(caught) == f"cannot write {path}: File too large; nothing was changed"
        assert torch.equal(load_file(path)["a"], torch.ones(1))
        assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]

    def test_over_a_file_that_is_mapped(self, tmp_path):
        path = tmp_path / "x.safetensors"
        write_tensors(path, {"a": torch.ones(9000), "b": torch.zeros(9000)})
        mapped = read_tensors(path)
        write_tensors(path, {"a": mapped["b"], "b": mapped["a"]})
        assert torch.equal(read_tensors(path)["b"], torch.ones(9000))
        assert torch.equal(mapped["a"], torch.ones(9000))


class Executed:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Settings:
    """A class of one's own; unpickling it would import this module."""


class ModelCheckpoint:
    """As Lightning's, which is a key among the callbacks."""


class AttributeDict(dict):
    """As Lightning's."""


class AttributeList(list):
    """As OmegaConf's."""


class Called:
    """Calls a function when it is unpickled."""

    def __init__(self, function) -> None:
        self.function = function

    def __reduce__(self):
        return self.function, ("1",)


class TestReadTensors:
    @pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".pt", ".bin", ".safetensors"])
    @pytest.mark.parametrize(
        "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "meta": {"iter": 3}}]
    )
    def test_formats(self, tmp_path, suffix, wrap):
        state = OrderedDict(a=torch.randn(3), b=torch.tensor(2))
        path = tmp_path / f"x{suffix}"
        if suffix == ".safetensors":
            write_tensors(path, state)
        else:
            torch.save(wrap(state), path)
        read = read_tensors(path)
        assert list(read) == ["a", "b"] or suffix == ".safetensors"
        assert torch.equal(read["a"], state["a"])
        assert torch.equal(read["b"], state["b"])

    def test_files_from_before_pytorch_1_6(self, tmp_path):
        torch.save({"a": torch.ones(3)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
        assert torch.equal(read_tensors(tmp_path / "x.pth")["a"], torch.ones(3))

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_changing_what_was_read_does_not_change_the_file(self, tmp_path, suffix):
        path = tmp_path / f"x{suffix}"
        state = {"a": torch.ones(100_000)}
        write_tensors(path, state) if suffix == ".safetensors" else torch.save(state, path)
        before = path.read_bytes()
        read_tensors(path)["a"].mul_(2)
        assert path.read_bytes() == before
        assert read_tensors(path)["a"].sum() == 100_000

    def test_settings_scores_and_paths_next_to_the_tensors_are_passed_over(self, tmp_path):
        content = {
            "model": {"a": torch.ones(2)},
            "args": argparse.Namespace(lr=5e-4, name="nyu", nested=argparse.Namespace(x=[1]), out=Path("runs")),
            "best": np.float64(0.223),
            "epoch": np.int64(24),
            "palette": np.zeros((3, 3), np.uint8),
            "order": OrderedDict(a=1),
        }
        torch.save(content, tmp_path / "x.pth")
        assert list(read_tensors(tmp_path / "x.pth")) == ["a"]

    def test_what_is_passed_over_is_never_made(self, tmp_path, monkeypatch):
        monkeypatch.setattr(argparse.Namespace, "__init__", lambda *args, **kw: pytest.fail("made"))
        torch.save(
            {"model": {"a": torch.ones(2)}, "args": argparse.Namespace.__new__(argparse.Namespace)}, tmp_path / "x.pth"
        )
        read_tensors(tmp_path / "x.pth")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_refused_and_not_run(self, tmp_path, zipped):
        trace = tmp_path / "trace"
        content = {"model": {"a": torch.ones(2)}, "meta": Executed(trace)}
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match=r"x\.pth was refused: .*(posix|os|nt)\.system") as caught:
            read_tensors(tmp_path / "x.pth")
        one_line(caught)
        assert not trace.exists()

    def test_a_bare_pickle_with_code_is_refused_and_not_run(self, tmp_path):
        trace = tmp_path / "trace"
        (tmp_path / "x.pth").write_bytes(pickle.dumps(Executed(trace), protocol=2))
        with pytest.raises(InputError) as caught:
            read_tensors(tmp_path / "x.pth")
        one_line(caught)
        assert not trace.exists()

    def test_objects_of_other_packages_are_passed_over(self, tmp_path):
        """Stable Diffusion's own .ckpt files hold Lightning's callbacks and OmegaConf's settings; they were refused."""
        content = {
            "state_dict": OrderedDict(a=torch.ones(2), b=nn.Parameter(torch.zeros(1, 2))),
            "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "dirpath": Path("logs")}},
            "hyper_parameters": AttributeDict(lr=1e-4, more=AttributeList([Settings(), AttributeDict()])),
            "settings": Settings(),
            "seen": {("a", 1): {3, 4}, "b": frozenset([1]), "c": defaultdict(list, d=[1])},
            "precision": torch.float16,
            "time": datetime(2022, 8, 1, tzinfo=UTC),
        }
        torch.save(content, tmp_path / "x.ckpt")
        read = read_tensors(tmp_path / "x.ckpt")
        assert {name: tensor.tolist() for name, tensor in read.items()} == {"a": [1, 1], "b": [[0, 0]]}

    def test_an_object_between_the_tensors_is_named(self, tmp_path):
        torch.save({"state_dict": {"a": torch.ones(2), "odd": Settings()}}, tmp_path / "x.ckpt")
        with pytest.raises(InputError, match=r"values that are not tensors: odd \(PassedOver\)"):
            read_tensors(tmp_path / "x.ckpt")

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_all_that_torch_saves_is_read_as_torch_reads_it(self, tmp_path, protocol):
        base = torch.arange(24.0).reshape(4, 6)
        state = {f"{kind}": (torch.randn(3, 5) * 9).to(kind) for kind in TYPES}
        state |= {"scalar": torch.tensor(3.0), "transposed": base.T, "part": base[1:3, ::2], "tied": base}
        state["expanded"], state["none"] = torch.ones(1, 3).expand(4, 3), torch.ones(0, 4)
        torch.save(state, tmp_path / "x.pth", pickle_protocol=protocol)
        read, expected = read_tensors(tmp_path / "x.pth"), torch.load(tmp_path / "x.pth", weights_only=False)
        assert read.keys() == expected.keys()
        for name, tensor in expected.items():
            assert read[name].dtype == tensor.dtype
            assert read[name].stride() == tensor.stride()
            assert torch.equal(raw(read[name]), raw(tensor)), name

    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_view_that_says_it_is_huge(self, tmp_path, zipped):
        """A tensor of stride 0 in a file of a kilobyte hung the importer, or took all memory."""
        state = {"a": torch.ones(1).expand(10**5, 10**5), "b": torch.ones(2)}
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match=r"fewer than its declared tensors need, in a: copy") as caught:
            read_tensors(tmp_path / "x.pth")
        one_line(caught)

    def test_many_views_of_one_tensor(self, tmp_path):
        base = torch.ones(10_000)
        torch.save({f"{index}": base.view(100, 100) for index in range(200)}, tmp_path / "x.pth")
        with pytest.raises(InputError, match=r"fewer than its declared tensors need: copy"):
            read_tensors(tmp_path / "x.pth")

    def test_an_axis_of_a_tensor_without_numbers(self, tmp_path):
        for path in (tmp_path / "x.pth", tmp_path / "x.safetensors"):
            state = {"a": torch.empty(0, 10**12)}
            torch.save(state, path) if path.suffix == ".pth" else write_tensors(path, state)
            with pytest.raises(InputError, match="fewer than its declared tensors need, in a"):
                read_tensors(path)

    @pytest.mark.parametrize("odd", [torch.eye(3).to_sparse(), torch.empty(3, device="meta")])
    def test_tensors_that_are_not_dense(self, tmp_path, odd):
        torch.save({"a": torch.ones(2), "odd": odd}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
        with pytest.raises(InputError, match=r"sparse, quantized or empty tensors: odd; save them"):
            read_tensors(tmp_path / "x.pth")

    def test_a_zip_bomb(self, tmp_path):
        """Compressed, a gigabyte of zeros is a file of a megabyte."""
        torch.save({"a": torch.zeros(10**6)}, tmp_path / "x.pth")
        with (
            zipfile.ZipFile(tmp_path / "x.pth") as plain,
            zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for name in plain.namelist():
                bomb.writestr(name, plain.read(name))
        with pytest.raises(
            InputError, match=r"bomb.pth is damaged or not a PyTorch checkpoint \(its entries are compressed"
        ):
            read_tensors(tmp_path / "bomb.pth")

    @pytest.mark.parametrize("function", ["builtins.eval", "subprocess.Popen", "runpy.run_path", "builtins.getattr"])
    def test_functions_of_the_standard_library_are_refused(self, tmp_path, function):
        module, name = function.rsplit(".", 1)
        torch.save(
            {"a": torch.ones(2), "b": Called(getattr(importlib.import_module(module), name))}, tmp_path / "x.pth"
        )
        with pytest.raises(InputError, match=rf"was refused: .*{function}"):
            read_tensors(tmp_path / "x.pth")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_truncated_anywhere(self, tmp_path, suffix, zipped):
        path = tmp_path / f"x{suffix}"
        state = {"a": torch.randn(100), "b": torch.randn(100)}
        if suffix == ".safetensors":
            write_tensors(path, state)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in [0, 1, 7, 8, 9, 20, len(whole) // 2, len(whole) - 200, len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match="copy or download it again") as caught:
                read_tensors(path)
            assert str(path) in one_line(caught)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize(
        "content",
        [
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            b"<!doctype html>",
            b"\x80\x02.",
            b"{}",
            b"\0" * 99,
        ],
    )
    def test_other_files(self, tmp_path, suffix, content):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_tensors(path)
        assert str(path) in one_line(caught)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
    def test_missing_and_folder(self, tmp_path, suffix):
        with pytest.raises(InputError, match=r"no weights at .*which is not a file: give") as caught:
            read_tensors(tmp_path / f"missing{suffix}")
        one_line(caught)
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(InputError, match="which is a folder"):
            read_tensors(tmp_path / f"folder{suffix}")

    @pytest.mark.parametrize("content", [{}, {"model": {}}, [torch.ones(1)], 3, {"epoch": 3}, {"model": {"a": 1}}])
    def test_no_tensors(self, tmp_path, content):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(InputError, match=r"x\.pth holds no tensors: expected a state dict") as caught:
            read_tensors(tmp_path / "x.pth")
        one_line(caught)

    def test_values_that_are_no_tensors_are_named(self):
        content = {"state_dict": {"a": torch.ones(1), "epoch": 3, "b": np.ones(1)}}
        with pytest.raises(InputError, match=r"that are not tensors: epoch \(int\), b \(ndarray\)") as caught:
            state_dict_in(content, "the file")
        one_line(caught)

    def test_threads(self, tmp_path):
        torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace()}, tmp_path / "x.pth")
        with ThreadPoolExecutor(8) as pool:
            for read in pool.map(read_tensors, [tmp_path / "x.pth"] * 64):
                assert list(read) == ["a"]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm2d(2)
        self.frozen = nn.Linear(1, 1, bias=False).requires_grad_(False)


def fitting() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in Small().state_dict().items()}


def meta() -> Small:
    with torch.device("meta"):
        return Small()


class TestLoadTensors:
    def test_fills_a_meta_module_without_copying(self):
        module, tensors = meta(), fitting()
        load_tensors(module, tensors, origin="x")
        assert module.linear.weight.data_ptr() == tensors["linear.weight"].data_ptr()
        assert module.norm.running_var.data_ptr() == tensors["norm.running_var"].data_ptr()
        assert not any(tensor.is_meta for tensor in module.state_dict().values())

    def test_keeps_what_is_trainable(self):
        module = meta()
        load_tensors(
            module, {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in fitting().items()}, origin="x"
        )
        assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["frozen.weight"]
        assert all(parameter.is_leaf for parameter in module.parameters())
        assert not any(buffer.requires_grad for buffer in module.buffers())

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floating_types_become_float32(self, kind):
        module, tensors = meta(), {n: t.to(kind) if t.is_floating_point() else t for n, t in fitting().items()}
        load_tensors(module, tensors, origin="x")
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        assert torch.equal(module.linear.weight.to(kind), tensors["linear.weight"])

    def test_everything_wrong_is_named_in_one_line(self):
        tensors = fitting()
        del tensors["linear.bias"], tensors["norm.weight"]
        tensors |= {"linear.weight": torch.ones(2, 4), "b": torch.ones(1), "a": torch.ones(1)}
        tensors["norm.bias"] = torch.zeros(2, dtype=torch.int8)
        tensors["frozen.weight"] = torch.tensor(3.0)
        with pytest.raises(InputError) as caught:
            load_tensors(meta(), tensors, origin="x.pth")
        assert one_line(caught) == (
            "x.pth does not fit this model: 2 missing: linear.bias, norm.weight; 2 unexpected: a, b; "
            "2 of the wrong shape: linear.weight is 2x4, expected 2x3, frozen.weight is scalar, expected 1x1; "
            "1 of the wrong type: norm.bias is int8, expected a floating type"
        )

    def test_a_refused_module_is_left_alone(self):
        module = Small()
        before = module.linear.weight.clone()
        with pytest.raises(InputError):
            load_tensors(module, fitting() | {"norm.weight": torch.tensor([1, float("nan")])}, origin="x")
        assert torch.equal(module.linear.weight, before)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    def test_what_is_not_finite_is_named(self, value, kind):
        tensors = fitting()
        tensors["linear.weight"] = tensors["linear.weight"].to(kind)
        tensors["linear.weight"][1, 2] = value
        tensors["norm.running_var"][0] = value
        with pytest.raises(
            InputError, match=r"^x holds NaN or infinity in linear\.weight, norm\.running_var: the file"
        ):
            load_tensors(meta(), tensors, origin="x")

    def test_a_1x1_convolution_fits_a_linear_layer_but_not_the_other_way(self):
        tensors = fitting()
        flat = tensors["linear.weight"].clone()
        tensors["linear.weight"] = flat[:, :, None, None]
        module = meta()
        load_tensors(module, tensors, origin="x")
        assert torch.equal(module.linear.weight, flat)
        with torch.device("meta"):
            convolution = nn.Conv2d(3, 2, 1)
        with pytest.raises(InputError, match="weight is 2x3, expected 2x3x1x1"):
            load_tensors(convolution, {"weight": flat, "bias": torch.ones(2)}, origin="x")

    def test_names_in_errors_are_the_files(self):
        tensors = {f"old.{name}": tensor for name, tensor in fitting().items()}
        del tensors["old.linear.bias"]
        with pytest.raises(InputError, match=r"1 missing: old\.linear\.bias$"):
            load_tensors(meta(), tensors, origin="x", rename_key=lambda name: f"old.{name}")

    def test_required_and_unused_names(self):
        tensors = fitting() | {"passed.over": torch.ones(1)}
        with pytest.raises(InputError, match=r"model: 1 missing: alias$"):
            load_tensors(meta(), tensors, origin="x", unused=lambda name: name == "passed.over", required=["alias"])


class TestIsFinite:
    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
    def test_extremes(self, kind):
        """A sum in float64 overflowed for float64, and took a minute for a Stable Diffusion model."""
        assert is_finite(torch.tensor([torch.finfo(kind).max, torch.finfo(kind).min] * 9, dtype=kind))
        assert is_finite(torch.zeros(0, dtype=kind))
        assert is_finite(torch.tensor(1.0).to(kind))
        assert not is_finite(torch.tensor([1.0, float("nan"), 2.0]).to(kind))

    def test_integers(self):
        assert is_finite(torch.tensor([1, 2]))

    def test_a_nan_anywhere(self):
        for place in range(0, 1000, 37):
            values = torch.randn(1000)
            values[place] = float("nan")
            assert not is_finite(values)


def test_header_is_plain_json(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    content = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length])["a"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
