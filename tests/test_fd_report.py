"""fd-report, and its page in a browser."""

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import save_mesh, save_model
from images import png
from PIL import Image

from facedis_core.data.face_set import load_face_set

EXAMPLES = Path(__file__).parent.parent / "weights" / "examples"
PART_FIGURES = ["full", "identity", "expression"]
CHARTS = ["histogram", "expressions"]
MIXED = ["transfer", "interpolation"]
HOSTILE = "</script><script>alert('1')</script>&\"<b>"


class Page(HTMLParser):
    """Every element of a page with its attributes, and its words."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.scripts = [], [], []
        self._inside = []
        self.feed(text)
        self.close()
        assert not self._inside

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br", "wbr"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        assert self._inside.pop() == tag

    def handle_data(self, data):
        inside = self._inside[-1] if self._inside else ""
        (self.scripts if inside == "script" else self.words).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def face_set(tmp_path):
    """`set.safetensors`: 10 people x 4 expressions, the last 3 people are test."""
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


@pytest.fixture
def other(tmp_path, model_file):
    """`other.safetensors`, a second model beside `small.safetensors`, the default one."""
    (tmp_path / "small.safetensors").write_bytes(model_file.read_bytes())
    return save_model(tmp_path / "other.safetensors", seed=2)


LINE = "fd-report set.safetensors --size 32"
BOTH = f"{LINE} -m small.safetensors -m other.safetensors"


def page(result):
    assert result.code == 0, result.err
    assert not result.err
    return Page(result.out.decode())


def test_a_page_that_needs_nothing_else(call, face_set, other):
    result = call(BOTH)
    found = page(result)
    text = result.out.decode()
    assert text.startswith("<!doctype html>")
    assert "http:" not in text.replace("http://www.w3.org", "")
    assert "https:" not in text
    for attributes in (attributes for _, attributes in found.elements):
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert "url(" not in text
    (policy,) = (a["content"] for a in found.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert all("style" not in attributes for _, attributes in found.elements)


def test_the_table_has_the_numbers_of_fd_metrics(call, face_set, other):
    text = page(call(f"{BOTH} --baselines")).text
    for model in ("small.safetensors", "other.safetensors"):
        line = f"fd-metrics set.safetensors -m {model} --baselines --json"
        found = json.loads(call(line).out)
        for part in (found["model"], *found["baselines"].values()):
            for value in part.values():
                if isinstance(value, dict):
                    numbers = (f"{value['mean']:.4f}", f"± {value['std']:.3f} ")
                    assert all(number in text for number in numbers)
        for low, high in (ends.values() for ends in found["intervals"]["model"].values()):
            assert f"{low:.4f} to {high:.4f}" in text
        assert found["provenance"]["model"] in text
        assert all(key.replace("_", "_ ") in text for key in ("mean_face", "ridge_neutral_2x"))
    assert load_face_set(face_set).id in text


def test_training_curves_where_a_log_lies_beside_a_model(call, face_set, other, tmp_path):
    log = [{"step": 10 * n, "reconstruction": 1 / n} for n in (1, 2, 3)]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, log)))
    found = page(call(f"{BOTH} --no-baselines --figures charts"))
    assert "Reconstruction loss in training" in found.text
    assert [a for a in found.all("path") if a.get("class") == "curve s1"]
    assert (tmp_path / "charts" / "chart-training-reconstruction.svg").exists()
    (tmp_path / "other.jsonl").unlink()
    assert "Reconstruction loss" not in page(call(f"{BOTH} --no-baselines")).text


def test_verdicts_are_those_of_fd_metrics(call, face_set, other):
    line = "fd-metrics set.safetensors -m small.safetensors -m other.safetensors --json"
    found = json.loads(call(line).out)["differences"]["models"]["other"]
    text = call(f"{BOTH} --no-baselines").out.decode()
    (table,) = re.findall(r"<table class=.scores.*?</table>", text, re.DOTALL)
    cells = Page(table).text.split()
    assert "best" not in cells
    verdicts = [difference["verdict"] for difference in found.values()]
    for word in ("better", "worse", "higher", "lower"):
        assert verdicts.count(word) == cells.count(word)
    assert verdicts.count("none") == cells.count("difference")


def test_baselines_are_left_out_where_there_is_nothing_to_fit_them_to(call, face_set, tmp_path):
    assert "ridge_" in page(call(LINE)).text
    assert "ridge_" not in page(call(f"{LINE} --no-baselines")).text
    faces = synthetic.face_set(subjects=3, test=3)
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    assert "ridge_" not in page(call(LINE)).text
    result = call(f"{LINE} --baselines")
    assert (result.code, result.kind) == (3, "too-few-faces")
    assert "0 training faces" in result.line
    alike = np.repeat(faces.vertices[:1], 40, axis=0)
    faces = dataclasses.replace(synthetic.face_set(), vertices=alike)
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    assert "ridge_" not in page(call(LINE)).text
    assert call(f"{LINE} --baselines").kind == "faces-alike"
    assert call("fd-report ''").line.startswith("fd-report: '' does not exist")


def test_baselines_of_a_small_set_say_how_small_they_are(call, face_set, tmp_path):
    text = page(call(f"{LINE} --baselines")).text
    assert "with 5 components, as many as small has latent dimensions" in text
    assert "ridge_ neutral_ 2x" in text
    faces = synthetic.face_set(subjects=4, expressions=2, test=2)  # four training faces
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    text = page(call(f"{LINE} --baselines")).text
    assert "with 3 components, all that these faces have; small has 5 latents" in text
    assert "2x" not in text.replace("(_2x", "")


def test_same_input_same_bytes(call, face_set):
    first = call(f"{LINE} -o a.html --figures a")
    line = LINE.replace("set.safetensors", "")
    second = call(f"{line} --figures b", stdin=face_set.read_bytes())
    assert (first.code, first.out, first.err) == (0, b"", "")
    assert second.out == (face_set.parent / "a.html").read_bytes()
    for path in (face_set.parent / "a").iterdir():
        assert path.read_bytes() == (face_set.parent / "b" / path.name).read_bytes()


def test_figures_are_files_and_in_the_page(call, face_set, other, tmp_path):
    found = page(call(f"{BOTH} --no-baselines --figures out/figures --faces 2"))
    names = sorted(path.name for path in (tmp_path / "out" / "figures").glob("*.png"))
    charts = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert charts >= {f"chart-{kind}-{part}" for kind in CHARTS for part in PART_FIGURES}
    assert "chart-histogram-e_dis" in charts
    model = "small"
    expected = ["mean-errors"]
    expected += [f"errors-{part}-{m}" for part in PART_FIGURES for m in (model, "other")]
    expected += [f"{kind}-{m}" for kind in MIXED for m in (model, "other")] + ["identities"]
    assert names == [f"{number:02}-{name}.png" for number, name in enumerate(expected, 1)]
    images = found.all("img")
    for image, name in zip(images, names, strict=True):
        assert len(image["alt"]) > 20
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/webp;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.size == (int(image["width"]), int(image["height"]))
        exact = np.asarray(Image.open(tmp_path / "out" / "figures" / name), float)
        assert np.abs(exact - np.asarray(picture, float)).mean() < 4


def test_what_exists_is_replaced_only_if_asked_to(call, face_set, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "01-mean-errors.png").write_bytes(b"old")
    (tmp_path / "page.html").write_bytes(b"old")
    line = f"{LINE} --no-baselines"
    result = call(f"{line} -o page.html")
    assert (result.code, result.kind) == (2, "output-exists")
    assert "page.html" in result.line
    result = call(f"{line} -o new.html --figures figures")
    assert (result.code, result.kind) == (2, "output-exists")
    assert "01-mean-errors.png" in result.line
    assert not (tmp_path / "new.html").exists()
    earlier = tmp_path / "figures" / "09-identities.png"
    mine = tmp_path / "figures" / "02-mine.png"
    for path in (earlier, mine):
        path.write_bytes(b"old")
    assert call(f"{line} -o page.html --figures figures --force").code == 0
    assert (tmp_path / "figures" / "01-mean-errors.png").read_bytes().startswith(b"\x89PNG")
    assert not earlier.exists()
    assert mine.read_bytes() == b"old"
    for words, code, kind in (
        ("-o other.html --figures page.html", 2, "output-pattern"),
        ("-o there --figures there", 2, "same-file"),
        ("-o page.html --force --figures page.html/figures", 4, "output-unwritable"),
    ):
        result = call(f"{line} {words}")
        assert (result.code, result.kind) == (code, kind)


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("--split validation", 3, "split-empty", "validation"),
        ("-m small -m small", 2, "model-missing", "'small'"),
        ("-m other.safetensors -m other.safetensors", 2, "same-file", "twice"),
        ("-m ict-linear", 3, "topology", "set.safetensors"),
        ("--range 3,1", 2, "option-value", "'3,1'"),
        ("--faces 0", 2, "arguments", "--faces"),
        ("-o missing/page.html", 4, "output-unwritable", "missing"),
        ("-o page.pdf", 2, "output-suffix", "page.pdf"),
        ("-o set.safetensors --force", 2, "output-suffix", "set.safetensors"),
        ("-m model -o model --force", 2, "same-file", "--model model and --output"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    call, face_set, other, tmp_path, words, code, kind, named
):
    (tmp_path / "model").touch()
    result = call(f"{LINE} {words}")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert not result.out


def test_a_page_of_registered_scans_has_tables_that_sort(browser, call, tmp_path):
    numbers = {"residual_mm": 0.2, "coverage": 0.9, "prior_distance": 0.8, "seconds": 4.0}
    lines = [
        {"name": name, "unit": "mm", "start": start, "problem": "", "scan_residual_mm": far}
        | {**numbers, "margin_mm": margin}
        for name, start, far, margin in (("a", "smile", 0.2, 0.1), ("b", "grin", 0.3, None))
    ]
    (tmp_path / "faces.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    done = call("fd-report faces/ --registrations faces.jsonl -o scans.html")
    assert (done.code, done.err) == (0, "")
    browser.open((tmp_path / "scans.html").as_uri())
    names = "return [...document.querySelectorAll('#scans tbody th')].map((one) => one.textContent)"
    assert browser.run(names) == ["b", "a"]  # the worst first
    for column, first, second in ((1, "b", "a"), (3, "b", "a"), (7, "a", "a"), (9, "a", "b")):
        head = browser.find(f"#scans th:nth-child({column}) button")
        for expected in (first, second):
            head.click()
            assert browser.run(names)[0] == expected, column
    assert browser.find("#scans th[aria-sort=ascending]").text.startswith("start")
    assert not browser.complaints()


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("faces/ --registrations faces.jsonl -m small.safetensors", 2, "option-conflict"),
        ("faces/ --registrations faces.jsonl --textures a.obj", 2, "option-conflict"),
        ("--registrations faces.jsonl", 2, "option-conflict"),
        ("faces/ --failures failed.jsonl", 2, "option-conflict"),
        ("faces/ --registrations missing.jsonl", 3, "file-missing"),
        ("faces/ --registrations missing.jsonl -o page.pdf", 2, "output-suffix"),
        ("faces/ --registrations a.html -o a.html --force", 2, "same-file"),
    ],
)
def test_options_of_registrations(call, tmp_path, words, code, kind):
    (tmp_path / "a.html").touch()
    result = call(f"fd-report {words}")
    assert (result.code, result.kind) == (code, kind)


def test_without_pillow_the_package_is_named(shell, face_set, without_torch):
    result = shell(LINE, env=without_torch)
    assert result.code == 2
    assert "pip install" in result.line


def test_names_are_words_whatever_they_are(call, tmp_path):
    faces = synthetic.face_set()
    labels = faces.labels
    object.__setattr__(labels, "names", [f"{HOSTILE}{name}" for name in labels.names])
    object.__setattr__(labels, "subjects", [f"{HOSTILE}{name}" for name in labels.subjects])
    object.__setattr__(labels, "expressions", [f"{HOSTILE}{n}\0" for n in labels.expressions])
    object.__setattr__(faces, "source", f"{HOSTILE}source")
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    found = page(call(f"{LINE} --title '$1 {HOSTILE.replace(chr(39), '')}'"))
    assert len(found.all("script")) == 2
    assert len(found.all("b")) == len(found.all("img"))  # those of captions
    data = json.loads(found.scripts[0])
    assert HOSTILE in data["groups"][0]["items"][0]["label"]
    assert f"{HOSTILE}source" in found.text
    assert "$1 </script>" in found.text


def test_a_set_without_neutrals_and_one_of_a_single_face(call, tmp_path):
    path = tmp_path / "set.safetensors"
    synthetic.write_face_set(path, synthetic.face_set(neutrals=False))
    found = page(call(LINE))
    assert "AVD_neu" not in found.text
    synthetic.write_face_set(path, synthetic.face_set(subjects=1, expressions=1, test=1))
    found = page(call(LINE))
    assert "Transfer and interpolation" not in found.text
    assert len(found.all("img")) == 4  # the parts of the face, and where they err


def test_each_expression_says_how_many_faces_its_means_stand_on(call, tmp_path):
    """Identity and expression are result where the person's neutral is known, here of one of 3."""
    faces = synthetic.face_set()
    faces.neutrals_eval[-2:] = np.nan
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    text = page(call(f"{LINE} --no-baselines")).text
    table = text[text.index("All numbers") :]
    assert table[: table.index("Where on the face")].count("1–3") == len(faces.labels.expressions)


@pytest.mark.slow
def test_a_default_report_is_below_five_megabytes(call, tmp_path):
    """Of the default model, on whole heads."""
    prep = f"fd-prep folder {EXAMPLES} --pattern '{{subject}}_{{expression}}.ply' --like ict-linear"
    assert call(f"{prep} -o set.safetensors").code == 0
    done = call("fd-report set.safetensors --split all", env={"FACEDIS_MODEL": ""})
    assert done.code == 0
    assert len(done.out) < 5_000_000
    assert len(Page(done.out.decode()).all("img")) == 6


def test_words_and_aligned_numbers(call, face_set):
    found = page(call(f"{LINE} --align --title 'Ours & theirs' --no-baselines"))
    assert "Ours & theirs" in found.text
    assert "rigidly to the truth" in found.text
    aligned = json.loads(call("fd-metrics set.safetensors --align --json").out)["model"]
    assert f"{aligned['e_rec']['mean']:.4f}" in found.text


def test_tables_and_figures_can_be_read_aloud(call, face_set, other):
    found = page(call(BOTH))
    heads = found.all("th")
    assert heads
    assert all(head.get("scope") in ("col", "row", "colgroup") for head in heads)
    charts = [svg for svg in found.all("svg") if svg.get("role") == "img"]
    assert charts
    assert all(len(svg["aria-label"]) > 10 for svg in charts)
    assert found.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {link["href"][1:] for link in found.all("a")}
    assert targets <= set(ids)
    for attributes in (attributes for _, attributes in found.elements):
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def shown(browser):
    """What the right canvas shows, and which of its pixels are a face."""
    picture = browser.pixels("#predicted").astype(int)
    return picture, picture[..., 3] > 0


def differs(browser, before):
    return float((shown(browser)[0] != before).any(-1).mean()) > 0.005


@pytest.mark.slow
def test_the_page_in_a_browser(browser, call, face_set, other, tmp_path):
    assert call(f"{BOTH} --no-baselines -o page.html").code == 0
    browser.open((tmp_path / "page.html").as_uri())
    assert browser.find("h1").text
    start, face = shown(browser)
    assert 0.1 < face.mean() < 0.9
    truth = browser.pixels("#truth")
    assert (truth[..., 3] > 0).mean() > 0.1

    assert "mean" in browser.find("#numbers").text
    browser.find("#show-error").click()
    assert differs(browser, start)
    assert browser.find("#scale").is_displayed()
    heat = shown(browser)[0]
    browser.set("#part", 0)
    assert differs(browser, heat)
    identity = shown(browser)[0]
    browser.find("#show-error").click()
    assert not browser.find("#scale").is_displayed()
    assert differs(browser, identity)

    plain, numbers = shown(browser)[0], browser.find("#numbers").text
    browser.run("document.querySelector('#model').selectedIndex = 1")
    browser.run("document.querySelector('#model').dispatchEvent(new Event('input', {bubbles: 1}))")
    assert differs(browser, plain)
    assert browser.find("#numbers").text != numbers

    wheel = "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -100, cancelable: true}))"
    before = browser.pixels("#predicted")
    assert browser.run(f"return {wheel}", browser.find("#predicted")), (
        "a page under the wheel scrolls"
    )
    assert np.array_equal(browser.pixels("#predicted"), before)
    browser.find("#predicted").click()
    assert not browser.run(f"return {wheel}", browser.find("#predicted"))
    assert (browser.pixels("#predicted") != before).any()

    browser.find("#predicted").send_keys("\ue012")  # the left arrow
    turned = browser.pixels("#truth")
    assert (turned != truth).any()
    browser.find("#front").click()
    plain = shown(browser)[0]
    browser.find("#wireframe").click()
    assert differs(browser, plain)
    browser.find("#wireframe").click()
    assert not differs(browser, plain)

    browser.find("input[value=interpolation]").click()
    assert not browser.find("#truth-view").is_displayed()
    for slider in ("#interpolation-identity", "#interpolation-expression"):
        before = shown(browser)[0]
        browser.set(slider, 1)
        assert differs(browser, before)
    assert browser.complaints() == []


def test_errors_told_by_the_page_are_those_of_the_figures(browser, call, face_set, tmp_path):
    assert call(f"{LINE} --no-baselines -o page.html").code == 0
    browser.open((tmp_path / "page.html").as_uri())
    options = "[...document.querySelectorAll('#face option')].map((o) => o.textContent)"
    for number, words in enumerate(browser.run(f"return {options}")):
        browser.run(
            "const face = document.querySelector('#face'); face.selectedIndex = arguments[0];"
            "face.dispatchEvent(new Event('input', {bubbles: true}))",
            number,
        )
        error = re.search(r"\(([\d.]+) mm\)", words)[1]
        assert f"mean {error} mm" in browser.find("#numbers").text


@pytest.mark.slow
def test_textures_of_originals_are_drawn(browser, call, face_set, model_file, tmp_path):
    faces = load_face_set(face_set)
    path = save_mesh(tmp_path / "a.obj", faces.vertices[0], faces.triangles)
    corners = ["f " + " ".join(f"{k}/1" for k in t) for t in (faces.triangles + 1).tolist()]
    vertices = [line for line in path.read_text().splitlines() if line.startswith("v ")]
    path.write_text("\n".join(["mtllib m.mtl", *vertices, "vt 0 0", "usemtl m", *corners, ""]))
    (tmp_path / "m.mtl").write_text("newmtl m\nmap_Kd green.png\n")
    (tmp_path / "green.png").write_bytes(png(0, 255, 0))
    assert call(f"{LINE} --no-baselines --textures a.obj -o page.html").code == 0
    browser.open((tmp_path / "page.html").as_uri())

    def green(view):
        pixels = browser.pixels(view).astype(int)
        on_face = pixels[pixels[..., 3] == 255]
        return (on_face[:, 1] > 2 * on_face[:, [0, 2]].max(axis=1)).mean()

    browser.pixels("#truth")  # the image is decoded
    assert green("#truth") > 0.9 and green("#predicted") > 0.9
    browser.find("#show-error").click()
    assert green("#truth") > 0.9 and green("#predicted") == 0
    browser.find("#show-error").click()
    browser.find("#texture").click()
    assert green("#truth") == 0 and green("#predicted") == 0
    broken = (
        "const data = JSON.parse(document.getElementById('viewer-data').textContent);"
        "const texture = {...data.textures[0], images: [{type: 'image/png', content: 'AAAA'}]};"
        "const surface = FaceViewer.surface(data.surface);"
        "return FaceViewer.textured(surface, 36, texture).then((made) => made.texture.images);"
    )
    assert browser.run(broken) == [None]  # and its material has its color
    assert not browser.complaints()
