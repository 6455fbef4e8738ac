"""Files of TorchScript and of `torch.export` that are damaged or hostile: one ValueError each, and nothing is run."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import pickle
import random
import re
import struct
import threading
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from leakyrelu.cli import main
from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis import export_file, exported_program, script_file, torchscript

pytestmark = [pytest.mark.filterwarnings("ignore:.*torch.jit")]
X = torch.randn(4, 1, 7, 7, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(100, 5), nn.PReLU(5), nn.LayerNorm(5), nn.ReLU6()]
    return nn.Sequential(*layers).eval()


class Writing(nn.Module):
    """A program that writes a file when it runs."""

    def forward(self, x):
        torch.save(x, "proof")
        return torch.relu(x)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with files that nothing is wrong with."""
    folder = tmp_path_factory.mktemp("files")
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network(), (X,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "m.pt2")
    torch.jit.save(torch.jit.script(network()), folder / "m.pt")
    torch.jit.save(torch.jit.script(Writing()), folder / "writing.pt")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, in which a program would leave the file "proof"."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X.numpy())
    return tmp_path


def changed(source, target, change):
    """A copy of an archive: each record is what `change` makes of its name, without the folder, and its bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def added(path, name, content):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)
    return path


class Malice:
    """Unpickling this makes a file."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("proof"),)


PAYLOAD = pickle.dumps(Malice(), protocol=2)
EVIL = "__import__('pathlib').Path('proof').touch()"


def in_model(change):
    """A change of the document that describes the program."""

    def changes(name, content):
        if name != "models/model.json":
            return content
        document = json.loads(content)
        change(document)
        return json.dumps(document)

    return changes


def all_expressions(name, content):
    text = content.decode(errors="replace")
    return re.sub(r'"expr_str": "[^"]*"', f'"expr_str": "{EVIL}"', text) if name == "models/model.json" else content


def call(target, **argument):
    def change(document):
        node = document["graph_module"]["graph"]["nodes"][1]
        node["target"], node["inputs"] = target, [{"name": "a", "arg": argument or {"as_string": "proof"}, "kind": 1}]

    return in_model(change)


def spec(text):
    def change(document):
        document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text

    return in_model(change)


def constants(entry):
    config = json.dumps({"config": {"k": {"is_param": False, "tensor_meta": None, **entry}}})
    return lambda name, content: config if name == "data/constants/model_constants_config.json" else content


def renamed(document):
    text = json.dumps(document["graph_module"]).replace('"input"', f'"input={EVIL}"')
    document["graph_module"] = json.loads(text)


EXPORTED = {
    "example inputs that are a pickle": (
        lambda name, content: PAYLOAD if name.startswith("data/sample_inputs") else content,
        "Weights only load failed",
    ),
    "expressions of sizes": (all_expressions, "where an expression of sizes is wanted"),
    "guards": (
        in_model(lambda document: document.update(guards_code=[f"{EVIL} is None"])),
        "expression of sizes is wanted",
    ),
    "a power of powers": (
        in_model(lambda document: document.update(guards_code=["9**9**9**9**9**9 > 0"])),
        "where an expression of sizes is wanted",
    ),
    "an operator that is none": (
        call("torch.os.system"),
        "a call of 'torch.os.system', which is no operator of a network",
    ),
    "an operator that saves": (
        call("torch.ops.aten.save.default"),
        "'torch.ops.aten.save.default', which is no operator",
    ),
    "an operator that reads a file": (call("torch.ops.aten.from_file.default"), "which is no operator of a network"),
    "an operator that loads a library": (call("torch.ops.load_library.__call__"), "which is no operator of a network"),
    "names of inputs": (in_model(renamed), "where a name is wanted"),
    "a container that imports": (
        spec(json.dumps([1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}])),
        "a container 'collections.defaultdict', which imports modules",
    ),
    "constants that are pickles": (constants({"path_name": "opaque_obj_0", "use_pickle": True}), "holds "),
    "constants that are objects": (
        constants({"path_name": "opaque_obj_0", "use_pickle": False}),
        "an object of Python",
    ),
    "no document": (lambda name, content: None if name == "models/model.json" else content, ""),
    "a document that is no JSON": (
        lambda name, content: b"{" if name == "models/model.json" else content,
        "model.json' holds",
    ),
    "another version": (lambda name, content: b"9" if name == "archive_version" else content, "archive version"),
    "deep nesting": (
        lambda name, content: b"[" * 10**5 if name == "models/model.json" else content,
        "model.json' holds",
    ),
}


def check_refused(path, message, capsys):
    load = export_file.load if path.suffix == ".pt2" else script_file.load
    with pytest.raises(ValueError, match=message or "is not a file of torch") as error:
        load(path)
    assert str(path) in str(error.value)
    assert main(["diagnose", str(path), "--data", "x.npy"]) == 2
    lines = capsys.readouterr().err
    assert lines.count("\n") == 1
    assert not pathlib.Path("proof").exists()


def test_the_payload_would_run(here):
    pickle.loads(PAYLOAD)
    assert pathlib.Path("proof").exists()


@pytest.mark.parametrize("case", EXPORTED)
def test_exported_programs_that_would_run_python_are_refused(made, here, case, capsys):
    change, message = EXPORTED[case]
    path = changed(made / "m.pt2", here / "bad.pt2", change)
    if case.startswith("constants"):
        added(path, "m/data/constants/opaque_obj_0", PAYLOAD)
    check_refused(path, message, capsys)


@pytest.mark.parametrize(
    "record", ["data/aotinductor/model/x.so", "data/constants/OPAQUE_OBJ_0", "data/weights/object"]
)
def test_records_that_are_code_or_objects_are_refused(made, here, record, capsys):
    path = changed(made / "m.pt2", here / "bad.pt2", lambda name, content: content)
    check_refused(added(path, f"m/{record}", PAYLOAD), "compiled code|is an object of Python", capsys)


def test_an_older_format_is_looked_at_too(made, here, capsys):
    with zipfile.ZipFile(made / "m.pt2") as archive:
        document = all_expressions("models/model.json", archive.read("m/models/model.json"))
    with zipfile.ZipFile(here / "old.pt2", "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", document)
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", PAYLOAD)
    check_refused(here / "old.pt2", "is not a file of torch.export.save", capsys)


def code(body):
    """A change of the code of `Writing`."""

    def change(name, content):
        if not name.startswith("code/"):
            return content
        head, _, _ = content.decode(errors="replace").partition("-> Tensor:\n")
        return f"{head}-> Tensor:\n{body}" if name.endswith(".py") else None

    return change


N = 20_000
CODE = {
    "save": ('    torch.save(x, "proof")\n    return x\n', "its code calls 'save', which reaches beyond the program"),
    "save, spelled apart": ('    torch . \\\n  save(x, "proof")\n    return x\n', "its code calls 'save'"),
    "save in brackets": ('    (torch.  # a comment\n  save)(x, "proof")\n    return x\n', "its code calls 'save'"),
    "save by name": ('    getattr(torch, "save")(x, "proof")\n    return x\n', "its code calls "),
    "save by a name with escapes": ('    getattr(torch, "\\x73ave")(x, "proof")\n    return x\n', "its code calls "),
    "from_file": ('    return torch.from_file("proof", True, 9)\n', "its code calls 'from_file'"),
    "brackets": (f"    return {'(' * N}x{')' * N}\n", "nested too deeply"),
    "sums": (f"    return x{' + x' * N}\n", "nested too deeply"),
    "signs": (f"    return {'-' * N}x\n", "nested too deeply"),
    "calls": (f"    return {'torch.relu(' * N}x{')' * N}\n", "nested too deeply"),
    "attributes": (f"    return x{'.relu()' * N}\n", "nested too deeply"),
    "choices": (f"    return {'x if True else ' * N}x\n", "nested too deeply"),
    "statements": ("    y = x\n" + "    y = torch.relu(y)\n" * 100_000 + "    return y\n", "functions too long"),
    "no code": ("    return )\n", "is not a file of torch.jit.save"),
}


@pytest.mark.parametrize("case", CODE)
def test_code_that_would_crash_or_reach_other_files_is_refused(made, here, case, capsys):
    body, message = CODE[case]
    check_refused(changed(made / "writing.pt", here / "bad.pt", code(body)), message, capsys)


def test_code_may_have_many_numbers_and_many_lines(made, here):
    body = (
        "    y = x\n" + "    y = torch.relu(y)\n" * 5000 + f"    z = [{', '.join(['-1.5'] * 20_000)}]\n    return y\n"
    )
    program = script_file.load(changed(made / "writing.pt", here / "long.pt", code(body)))
    assert program(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


def test_a_tensor_larger_than_its_record_is_refused(made, here, capsys):
    """PyTorch would read beyond its memory: an interpreter that crashes, or numbers of other programs."""

    def larger(name, content):
        if name != "data.pkl":
            return content
        count, size = b"K\x24t", b"(K\x04K\x01K\x03K\x03t"  # 36 elements, of shape (4, 1, 3, 3)
        assert count in content
        assert size in content
        content = content.replace(count, b"J" + struct.pack("<i", 2**30) + b"t", 1)
        return content.replace(size, b"(J" + struct.pack("<i", 2**26) + size[3:], 1)

    path = changed(made / "m.pt", here / "bad.pt", larger)
    check_refused(path, "a tensor in data.pkl has 1073741824 elements, and its record 'data/0' 144 bytes", capsys)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_what_is_no_program_is_refused(here, suffix, capsys):
    path = here / f"bad{suffix}"
    load = export_file.load if suffix == ".pt2" else script_file.load
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(here / f"gone{suffix}")
    torch.save(network().state_dict(), here / "weights")
    contents = [b"", b"text", PAYLOAD, b"PK\x03\x04" + bytes(99), (here / "weights").read_bytes()]
    for content in contents:
        path.write_bytes(content)
        check_refused(path, "", capsys)


def test_an_archive_that_grows_beyond_bounds_is_not_read(here, capsys):
    with zipfile.ZipFile(here / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", bytes(2**28 + 2**20))
    check_refused(here / "bomb.pt2", "its records would have 269,484,032 bytes", capsys)


def test_threads_load_one_after_another(made, monkeypatch):
    """What forbids pickles is a variable of the environment, which the first one to end would take from the other."""
    name, inside, found = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", threading.Event(), []
    monkeypatch.delenv(name, raising=False)

    def pause(path):
        if threading.current_thread() is first:
            second.start()
            inside.wait(0.5)  # for the second one, if it may come in
        else:
            inside.set()
            first.join()
        found.append(os.environ.get(name))

    monkeypatch.setattr(torch.export, "load", pause)
    first, second = (threading.Thread(target=export_file.load, args=[made / "m.pt2"]) for _ in range(2))
    first.start()
    first.join()
    second.join()
    assert found == ["1", "1"]
    assert name not in os.environ
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("kind", ["m.pt", "m.pt2"])
def test_files_are_loaded_as_they_were(made, kind):
    load, adapter = (script_file, torchscript) if kind == "m.pt" else (export_file, exported_program)
    module, unit_axis = adapter.rectifiers_as_modules(load.load(made / kind))
    torch.testing.assert_close(module(X), network()(X))
    assert [layer.kind for layer in diagnose(module, X, unit_axis=unit_axis).layers] == ["ReLU", "PReLU", "ReLU6"]


def mutated(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not content:
            break
        start, kind = rng.randrange(len(content)), rng.randrange(4)
        if kind == 0:
            content[start] = rng.randrange(256)
        elif kind == 1:
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del content[start : start + rng.randrange(1, 9)]
        else:
            content[start:start] = rng.randbytes(rng.randrange(1, 9))
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "times"), [("m.pt", 200), ("m.pt2", 100)])
def test_mutated_files_are_loaded_or_refused(made, here, kind, times, capsys):
    load, adapter = (script_file, torchscript) if kind == "m.pt" else (export_file, exported_program)
    rng, refused, path = random.Random(0), 0, here / kind
    with zipfile.ZipFile(made / kind) as archive:
        small = [name.partition("/")[2] for name in archive.namelist() if not re.search(r"data/(weights/)?\d", name)]
    for number in range(times):
        if number % 4 == 0:
            path.write_bytes(mutated((made / kind).read_bytes(), rng))
        else:
            chosen = rng.choice(small)
            changed(
                made / kind,
                path,
                lambda name, content, chosen=chosen: mutated(content, rng) if name == chosen else content,
            )
        try:
            adapter.rectifiers_as_modules(load.load(path))
        except ValueError:
            refused += 1
        if number % 10 == 0:
            assert main(["diagnose", str(path), "--data", "x.npy"]) in (0, 2)
            assert "Traceback" not in capsys.readouterr().err
    assert times / 10 < refused < times
