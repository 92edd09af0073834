"""docs/scripts/paper.py: the paper's table on small trees in the layouts of the licensed sets."""

import json
import sys
from pathlib import Path

import pytest
import trees
from runner import run_command

SCRIPT = Path(__file__).parent.parent / "docs" / "scripts" / "paper.py"
sys.path.insert(0, str(SCRIPT.parent))

import paper  # noqa: E402 - its folder had to be on the path
import resumable  # noqa: E402 - likewise

TREES = {
    "coma": lambda root: trees.coma(root, expressions=("bareteeth", "mouth_side"), frames=14),
    "bu3dfe": lambda root: trees.bu3dfe(root, expressions=("AN", "HA"), levels=(1, 4)),
    "facescape": lambda root: trees.facescape(root, expressions=trees.FACESCAPE_EXPRESSIONS[:3]),
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def in_this_process(target: Path, *command: str, resume: bool = False) -> None:
    """As `make`, without a process of its own."""
    words = [*command, "-o", str(target)]
    result = run_command(words, stdin=b"", folder=target.parent, env={})
    assert result.code == 0, result.err
    target.with_name(f"{target.name}.made").write_text(f"1\n{' '.join(words)}\n")


def without_a_page(target: Path, *command: str, resume: bool = False) -> None:
    """All of it in this process, without the page, which is the same for all sets."""
    if command[0] != "fd-report":
        in_this_process(target, *command)


def with_a_page(target: Path, *command: str, resume: bool = False) -> None:
    """As a user has it, but for what is trained with neutrals, and the discriminator."""
    here = command[0] == "fd-pretrain-disc" or "--neutrals" in command
    (in_this_process if here else resumable.make)(target, *command, resume=resume)


@pytest.mark.slow
@pytest.mark.parametrize("data_set", paper.PAPER)
def test_one_command_ends_with_our_numbers_beside_the_papers(
    data_set: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tree = TREES[data_set](tmp_path / "root")
    out = tmp_path / "out"
    line = [str(SCRIPT), data_set, str(tree.root), "-o", str(out), "--points", "32"]
    line += ["--set", "steps=3", "--set", "pretrain_steps=2", "--set", "batch=4"]
    monkeypatch.setattr(sys, "argv", line)
    with monkeypatch.context() as patched:
        patched.setattr(paper, "make", with_a_page if data_set == "bu3dfe" else without_a_page)
        paper.main()
    lines = (out / "table.md").read_text().splitlines()
    # every cell of the ablation, its numbers those of the report and those of the paper
    rows = [cells(each) for each in lines if each.startswith(("| yes", "| no"))]
    assert [row[:2] for row in rows] == [["no", "no"], ["no", "yes"], ["yes", "no"], ["yes", "yes"]]
    for cell, row, theirs in zip(paper.CELLS, rows, paper.PAPER[data_set].numbers, strict=True):
        report = json.loads((out / f"{cell.name}.json").read_text())
        assert report["provenance"]["aligned"] == (data_set == "bu3dfe")
        ours = report["model"]
        assert row[2:8:2] == [f"{ours[key]['mean']:.3f}" for key in paper.METRICS.values()]
        assert row[3:8:2] == [f"{number:.3f}" for number in theirs]
    assert any(each.startswith("| ridge to the neutral | labelled |") for each in lines)
    assert "- Changed: steps=3, pretrain_steps=2, batch=4." in lines
    assert (out / "report.html").exists() == (data_set == "bu3dfe")
    # with neutrals CoMA's discriminator has batch norm, so there are two
    pretrained = sorted(path.name for path in out.glob("discriminator_*.safetensors"))
    kinds = ["batch-norm", "plain"] if data_set == "coma" else ["plain"]
    assert pretrained == [f"discriminator_{kind}.safetensors" for kind in kinds]
    if data_set == "bu3dfe":
        assert "$ fd-train" in capfd.readouterr().out
        paper.main()
        assert "$ fd-" not in capfd.readouterr().out  # nothing was left to do


def test_settings_are_published_ones() -> None:
    for data_set in paper.PAPER:
        for neutrals in (False, True):
            recipe = paper.load_recipe(data_set, neutrals=neutrals, changes=paper.PUBLISHED)
            assert recipe.network == "pointnet"
            assert (recipe.decoder_init, recipe.gradient_clip) == ("default", 0)
            assert (recipe.learning_rate, recipe.learning_rate_factor) == (1e-4, 0.7)
            assert not (recipe.encoder_offsets or recipe.decoder_components)
