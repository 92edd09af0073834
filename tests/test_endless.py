"""Streams that are long or never end: answers as rows come, and memory that does not grow."""

import io
import os
import subprocess

import numpy as np
import pytest
from conftest import contents, face, save_model
from mesh_files import encoded
from synthetic import grid_mesh, latents

from facedis_core.data.latents import read_latents, write_latents
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.model.model_file import load_model


def ply(seed, name):
    return encoded(Mesh(face(seed), grid_mesh()[1], name, unit_mm=1.0))


def rows(model, count, first=0):
    """Encoded rows of the model with names of their own."""
    names = [f"row{first + k}" for k in range(count)]
    sizes = model.config.identity, model.config.expression
    stream = io.BytesIO()
    write_latents(stream, latents(names, model.id, *sizes, seed=first))
    return stream.getvalue()


@pytest.fixture
def start(commands, model_file, tmp_path):
    """Start a line in bash whose ends are pipes of ours; ended with the test."""
    started = []

    def begin(line):
        process = subprocess.Popen(
            ["bash", "-c", f"set -o pipefail; {line}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{commands}:{os.environ['PATH']}",
                "FACEDIS_MODEL": str(model_file),
            },
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_live_pipe_answers_mesh_by_mesh(start, call, tmp_path):
    """Nothing but a face is sent, and its transfer is there, before the next is sent."""
    (tmp_path / "ann.ply").write_bytes(ply(0, "ann"))
    assert call("fd-encode ann.ply -o ann.npy").code == 0
    stages = "fd-encode --stream | fd-transfer ann.npy - --stream | fd-decode --stream"
    expressions = call("fd-encode", stdin=ply(1, "x")).out
    rows = call("fd-transfer ann.npy -", stdin=expressions).out
    expected = call("fd-decode", stdin=rows).out
    live = start(stages)
    for _ in range(3):
        live.stdin.write(ply(1, "x"))
        live.stdin.flush()
        assert live.stdout.read(len(expected)) == expected
    live.stdin.close()
    assert live.wait(timeout=60) == 0
    assert live.stdout.read() == b""


def test_streams_and_whole_arrays_hold_the_same_rows(call, faces, tmp_path):
    assert call("fd-encode faces --stream -o stream.npy").code == 0
    assert call("fd-encode faces -o whole.npy").code == 0
    stream, whole = ((tmp_path / name).read_bytes() for name in ("stream.npy", "whole.npy"))
    first = np.load(io.BytesIO(stream))
    assert first.shape == (0,)  # an array without rows begins a stream
    assert stream != whole
    a, b = (read_latents(str(tmp_path / name)) for name in ("stream.npy", "whole.npy"))
    assert (a.names, a.models) == (b.names, b.models)
    np.testing.assert_array_equal(a.identity, b.identity)
    np.testing.assert_array_equal(a.expression, b.expression)
    for command in ("fd-decode", "fd-decode --stream", "fd-transfer whole.npy"):
        assert call(f"{command} -", stdin=stream).out == call(f"{command} -", stdin=whole).out


def test_a_stream_that_breaks_off_gives_what_came_before(call, model, tmp_path):
    data = rows(model, 0) + rows(model, 1) + rows(model, 1, 1)[:-3]
    result = call("fd-decode --stream", stdin=data)
    assert (result.code, result.kind) == (3, "truncated")
    assert result.out.count(b"end_header") == 1
    whole = call("fd-decode", stdin=data)
    assert (whole.code, whole.out) == (3, b"")


def test_arrays_of_vertices_as_a_stream(call, model):
    data = rows(model, 0) + rows(model, 2) + rows(model, 1, 2)
    stream = io.BytesIO(call("fd-decode --npy --stream", stdin=data).out)
    shapes = [np.load(stream).shape for _ in range(2)]
    assert shapes == [(2, 36, 3), (1, 36, 3)]
    assert not stream.read()


def peak_mb(shell, line):
    """Peak resident memory of a command, MB."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
    )
    result = shell(f'python3 -c "{program}" {line}')
    assert result.code == 0, result.err
    return int(result.err.split()[-1]) / 1024


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory):
    """A model whose latents are as wide as those of real ones."""
    path = save_model(tmp_path_factory.mktemp("model") / "wide.safetensors", 3, latent=64)
    return load_model(path)


@pytest.fixture(scope="module")
def many_rows(wide_model, tmp_path_factory):
    """100,000 rows: `whole.npy`, and as a stream `stream.npy`; `one.npy` has one."""
    folder = tmp_path_factory.mktemp("many")
    every = latents([f"row{k}" for k in range(100_000)], wide_model.id, 64, 64)
    with (folder / "whole.npy").open("wb") as whole, (folder / "one.npy").open("wb") as one:
        write_latents(whole, every)
        write_latents(one, every.take(slice(1)))
    with (folder / "stream.npy").open("wb") as stream:
        for start in (0, *range(0, 100_000, 100)):
            write_latents(stream, every.take(slice(start, start + (100 if stream.tell() else 0))))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["whole.npy", "stream.npy"])
@pytest.mark.parametrize("option", ["", "--stream"])
def test_100000_rows_take_less_than_300_mb(shell, many_rows, wide_model, rows, option):
    source = many_rows / rows
    base = peak_mb(shell, f"fd-transfer {many_rows}/one.npy {many_rows}/one.npy -o /dev/null")
    transfer = f"fd-transfer {many_rows}/one.npy {source} {option} -o /dev/null"
    decode = f"fd-decode -m {wide_model.source} {source} {option} -o /dev/null"
    for line in (transfer, decode):
        peak = peak_mb(shell, line)
        assert peak < 300
        if option:  # constant: a few blocks above a single row
            assert peak < base + 40


@pytest.mark.slow
def test_meshes_after_meshes_in_constant_memory(shell, wide_model, tmp_path):
    data = ply(0, "x")
    for name, count in (("few", 50), ("many", 20_000)):
        (tmp_path / f"{name}.ply").write_bytes(data * count)
    few, many = (
        peak_mb(shell, f"sh -c 'fd-encode --stream < {name}.ply > /dev/null'")
        for name in ("few", "many")
    )
    assert many < few + 20


def test_a_mesh_stream_and_files_decode_to_the_same(call, faces, tmp_path):
    streamed, whole = (call(f"fd-encode faces {option}").out for option in ("--stream", ""))
    assert call("fd-decode --stream -o streamed/", stdin=streamed).code == 0
    assert call("fd-decode -o whole/", stdin=whole).code == 0
    assert contents(tmp_path / "streamed") == contents(tmp_path / "whole")
    assert read_mesh(tmp_path / "streamed" / "deep" / "dan.ply").name == "dan"
