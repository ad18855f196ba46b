from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from edgeq import cli
from edgeq.errors import ConfigError, NoNumericsError, NotAnSvgError, UnknownNameError
from edgeq.files import write_text
from edgeq.records import (
    LayerNumerics,
    Limits,
    Manifest,
    Movement,
    NodeFacts,
    Nodes,
    NumericFinding,
    Numerics,
    Partition,
    Undelegated,
)
from edgeq.schema import from_json, to_json
from edgeq.stages.bench.rows import append
from edgeq.stages.explain import nodes_file, write_nodes, write_numerics
from edgeq.testing.samples import sample_measurement, tiny_build

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def _layer(name: str, share: float, **changed: object) -> LayerNumerics:
    layer = LayerNumerics(
        node=f"conv_{name}",
        module=f"features.{name}",
        op="conv2d",
        source=f"features.{name} (net.py:7: x = self.features(x))",
        kind="layer",
        mac_share=0.1,
        weight_sqnr_db=41.5,
        own_sqnr_db=35.2,
        output_sqnr_db=28.1,
        final_sqnr_db=30.3,
        noise_share=share,
        answers_changed=0,
    )
    return replace(layer, **changed)


def _numerics(*layers: LayerNumerics, recipe: str = "int8-static") -> Numerics:
    finding = NumericFinding(
        code="dead-channels",
        layer="features.1",
        source="features.1 (net.py:7: x = self.features(x))",
        sentence="4 of 32 channels of features.1 were 0",
        remedy="leave them out",
        numbers={"silent": 4.0},
    )
    return Numerics(
        recipe=recipe, samples=16, final_sqnr_db=23.4, answers_changed=1, layers=layers, findings=(finding,)
    )


@pytest.fixture
def build(tmp_path: Path) -> Path:
    manifest = tiny_build(tmp_path / "build")
    fp32, int8 = manifest.artifacts
    rows = (
        Undelegated(node="softmax", op="softmax", reason="no-kernel", mac_share=0.0, source="net.py:9: softmax(x)"),
        Undelegated(node="bmm", op="bmm", reason="constraint: only \x1b[31mtwo\x1b[0m dimensions", mac_share=0.25),
    )
    manifest = replace(manifest, artifacts=(fp32, replace(int8, undelegated=rows, int8_mac_share=0.75)))
    write_text(tmp_path / "build" / "manifest.json", to_json(manifest))
    return tmp_path / "build"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.group, ["explain", *map(str, arguments)], standalone_mode=False)


def _shown(*arguments: object, capfd: pytest.CaptureFixture[str]) -> str:
    result = _run(*arguments)
    assert result.exception is None, result.exception
    return capfd.readouterr().out.replace("\u00a0", " ").replace("\u2013", "-")


def test_what_is_not_int8_or_not_delegated_is_told_with_reason_share_and_line(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = _shown(build, capfd=capfd)
    assert "tiny.int8-static.pte" in shown
    assert "fp32" not in shown
    assert "75.0 % of 1,000,000 MACs in int8" in shown
    assert re.search(r"softmax .* 0\.0 % .*no-kernel: the accelerated kernels do not know.*net\.py:9", shown)
    assert re.search(r"bmm .* 25\.0 % .*constraint: only .*two.*dimensions", shown)
    assert "\x1b" not in shown


def test_a_build_without_a_record_of_nodes_is_explained_from_its_manifest_and_says_so(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "keeps no record of its nodes: build it again" in _shown(build, capfd=capfd)
    assert "keeps no record of its nodes: build it again" in _shown(build, "--nodes", capfd=capfd)
    assert json.loads(_shown(build, "--json", capfd=capfd))["nodes"] == {}


def test_what_was_counted_on_an_emulated_board_is_held_against_the_limit_of_its_core(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = from_json(Manifest, (build / "manifest.json").read_bytes(), where="manifest")
    for artifact in manifest.artifacts:
        append(build, sample_measurement(artifact, emulated=True))

    shown = _shown(build, "int8-static", capfd=capfd)
    assert "0.400 M instructions on board, a cost and no time; its MACs alone take 0.156 M (39.1 %)" in shown
    (cost,) = json.loads(_shown(build, "int8-static", "--json", capfd=capfd))["costs"]
    assert (cost["instructions"], cost["least_instructions"]) == (400_000, 156_250)


def test_a_drop_that_nobody_can_tell_is_explained_with_the_samples_that_would(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = from_json(Manifest, (build / "manifest.json").read_bytes(), where="manifest")
    write_text(build / "manifest.json", to_json(replace(manifest, limits=Limits(max_drop_pp=0.5))))
    for artifact in manifest.artifacts:
        append(build, replace(sample_measurement(artifact), predictions=(0, 1, 2, 3, 0, 1)))

    shown = " ".join(_shown(build, capfd=capfd).split())
    assert "cannot tell: max_drop_pp on fake: the drop is 0.0 pp on 5 samples" in shown
    assert "44,849 labelled samples would find a drop of 0.5 pp four times of five" in shown
    assert "1,200 could at best" in shown


def _node(name: str, op: str, **changed: object) -> NodeFacts:
    node = NodeFacts(node=name, op=op, runs="int8", kernel=op, delegated=True, partition=0)
    return replace(node, **changed)


LEFT = {"runs": "float", "delegated": False, "partition": None}
NODES = Nodes(
    nodes=(
        _node("conv", "aten.convolution.default", macs=750_000, mac_share=0.75, source="a (net.py:7: self.a(x))"),
        _node(
            "roll", "aten.roll.default", **LEFT, code="no-kernel", reason="XNNPACK has no kernel for \x1b[31mroll",
            rewrite="cut it in two", source="net.py:8: roll(x)",
        ),
        *(
            _node(
                f"head{index}", "aten.convolution.default", macs=50_000, mac_share=0.05, runs="float",
                code="excluded-by-recipe", reason="careful keeps 'head*' in float", source=f"net.py:{index}: head(x)",
            )
            for index in range(5)
        ),
        _node("view", "aten.view_copy.default", runs="moves"),
    ),
    partitions=(
        Partition(index=0, operators={"convolution": 6, "view_copy": 1}, mac_share=1.0, bytes_in=3000, bytes_out=16),
        Partition(index=1, operators={}, mac_share=0.0, bytes_in=8, bytes_out=8),
    ),
    movements=(
        *(
            Movement(kind="transpose", node="", at="in front of conv (net.py:7)", bytes=bytes_, partition=0)
            for bytes_ in (1500, 500)
        ),
        *(Movement(kind="copy", node="", at=f"net.py:{index}", bytes=100 - index) for index in range(14)),
    ),
    notes=("it was read off another processor",),
)  # fmt: skip


def test_nodes_are_counted_by_operator_and_those_left_out_told_with_what_mends_them(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_nodes(build, "tiny.int8-static.pte", NODES)
    shown = _shown(build, capfd=capfd)
    assert "keeps no record" not in shown
    assert "8 nodes: 1 in int8, 6 in float and 1 that only move values; 1 not accelerated" in shown
    assert re.search(r"^convolution +1 +5 +- +- +- +100\.0 %", shown, re.MULTILINE)
    assert re.search(r"^roll +- +1 +- +- +1 +-", shown, re.MULTILINE)
    assert re.search(r"roll +1 +- +no-kernel: XNNPACK has no kernel for .*net\.py:8", shown)
    assert "try: cut it in two" in shown
    assert re.search(r"convolution +5 +25\.0 % +excluded-by-recipe: .*net\.py:0", shown)
    assert "and 3 lines more" in shown
    assert "note: it was read off another processor" in shown
    assert "\x1b" not in shown


def test_partitions_and_what_is_moved_about_stand_with_their_bytes_largest_first(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_nodes(build, "tiny.int8-static.pte", NODES)
    shown = _shown(build, capfd=capfd)
    assert re.search(r"0 +100\.0 % +3\.00 kB +0\.0160 kB +6 convolution and 1 view", shown)
    assert re.search(r"1 +0\.0 % .*conversions alone", shown)
    assert "moved without computing: 3.31 kB an inference" in shown
    assert re.search(r"transpose +2 +2\.00 kB +0 +in front of conv \(net\.py:7\)", shown)
    assert shown.index("transpose ") < shown.index("copy ")
    assert "3 places more; --json lists them" in shown


def test_every_node_can_be_listed_and_the_json_has_all(build: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_nodes(build, "tiny.int8-static.pte", NODES)
    shown = _shown(build, "tiny.int8-static.pte", "--nodes", capfd=capfd)
    for node in NODES.nodes:
        assert re.search(rf"^{node.node} ", shown, re.MULTILINE)
    assert re.search(r"^roll +roll .*float +outside +- +no-kernel", shown, re.MULTILINE)
    told = json.loads(_shown(build, "--json", capfd=capfd))["nodes"]["tiny.int8-static.pte"]
    assert told["schema"] == 1
    assert len(told["nodes"]) == len(NODES.nodes)
    assert told["nodes"][1]["rewrite"] == "cut it in two"
    assert len(told["movements"]) == 16


def test_an_onnx_file_says_how_many_pairs_of_q_and_dq_were_fused(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["artifacts"][1] |= {"name": "tiny.int8-static.onnx", "format": "onnx"}
    write_text(build / "manifest.json", json.dumps(manifest))
    unfused = _node("act", "HardSwish", runs="float", delegated=False, code="unfused", reason="no int8 kernel")
    nodes = (_node("conv", "Conv", partition=None), replace(unfused, partition=None))
    write_nodes(build, "tiny.int8-static.onnx", Nodes(nodes=nodes))
    assert "fused Q and DQ into int8 kernels at 1 of 2 nodes" in _shown(build, capfd=capfd)


def test_a_damaged_record_of_nodes_is_an_error(build: Path) -> None:
    write_text(nodes_file(build, "tiny.int8-static.pte"), '{"nodes": 3}')
    assert isinstance(_run(build).exception, ConfigError)


def test_an_artifact_with_nothing_to_tell_says_so(build: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "nothing else runs beside them" in _shown(build, "tiny.fp32.pte", capfd=capfd)


def test_layers_stand_in_the_order_of_their_noise_with_bars_findings_and_remedies(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = (_layer("0", 0.2), _layer("1", 0.7, answers_changed=3), _layer("2", 0.1, kind="other", op="add"))
    write_numerics(build, _numerics(*layers))
    shown = _shown(build, "--numerics", capfd=capfd)
    assert shown.startswith("int8-static: 23.4 dB at the model's output, 1 of 16 answers changed")
    assert "measured, tiny.int8-static.pte: 100.0 % right (fp32 100.0 %), 6 of 6 answers as fp32" in shown
    lines = [line for line in shown.splitlines() if line.startswith("features.") and "%" in line]
    assert [line.split()[0] for line in lines] == ["features.1", "features.0", "features.2"]
    assert lines[2].startswith("features.2 add")
    bars = [line.count("█") for line in lines]
    assert bars[0] > bars[1] >= bars[2]
    assert "3 of 16" in lines[0]
    assert "dead-channels: 4 of 32 channels of features.1 were 0" in shown
    assert "remedy: leave them out" in shown


def test_a_long_table_stops_where_nearly_all_noise_is_told_and_json_goes_on(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_numerics(build, _numerics(*(_layer(str(index), 0.02) for index in range(50))))
    shown = _shown(build, "--numerics", capfd=capfd)
    assert "30 operations more: 60.0 % of the noise together" in shown
    data = json.loads(_shown(build, "--numerics", "--json", capfd=capfd))
    assert len(data["numerics"][0]["layers"]) == 50
    assert data["numerics"][0]["schema"] == 1
    assert data["artifacts"][0]["name"] == "tiny.int8-static.pte"


def test_a_ratio_without_noise_and_a_model_without_layers_can_be_shown(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nothing = {"weight_sqnr_db": None, "own_sqnr_db": None, "output_sqnr_db": None, "final_sqnr_db": None}
    write_numerics(build, replace(_numerics(_layer("0", 0.0, **nothing)), final_sqnr_db=None, findings=()))
    shown = _shown(build, "--numerics", "--plot", build / "layers.svg", capfd=capfd)
    assert "identical" in shown
    assert "no known pattern of lost accuracy was found" in shown
    write_numerics(build, _numerics())
    assert _shown(build, "--numerics", "--plot", build / "layers.svg", capfd=capfd)


def test_the_plot_is_an_svg_with_a_bar_and_dots_for_each_layer_and_asks_nothing_of_a_network(
    build: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = (_layer("0", 0.25, module="<script>&"), _layer("1", 0.75), _layer("2", 0.0, weight_sqnr_db=None))
    write_numerics(build, _numerics(*layers))
    file = build / "layers.svg"
    assert f"written to {file}" in _shown(build, "int8-static", "--plot", file, capfd=capfd)
    picture = ET.fromstring(file.read_text())  # noqa: S314  # edgeq wrote it just now
    bars = picture.findall(f".//{SVG}rect[@class='bar']")
    assert [float(bar.get("width")) for bar in bars] == [80.0, 240.0, 0.0]
    counts = {name: len(picture.findall(f".//{SVG}g/{SVG}circle[@class='{name}']")) for name in ("weight", "own")}
    assert counts == {"weight": 2, "own": 3}
    names = [text.text for text in picture.findall(f".//{SVG}g/{SVG}text[@text-anchor='end']")]
    assert names == ["<script>&", "features.1", "features.2"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|href", file.read_text())


def test_each_recipe_of_a_build_gets_a_plot_of_its_own(build: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_numerics(build, _numerics(_layer("0", 1.0)))
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["artifacts"][0]["recipe"], manifest["artifacts"][1]["recipe"] = "int8-static", "auto"
    write_text(build / "manifest.json", json.dumps(manifest))
    write_numerics(build, _numerics(_layer("0", 1.0), recipe="auto"))
    files = json.loads(_shown(build, "--plot", build / "layers.svg", "--json", capfd=capfd))["files"]
    assert files == [str(build / "layers.int8-static.svg"), str(build / "layers.auto.svg")]


def test_a_build_without_numerics_says_what_to_do(build: Path) -> None:
    error = _run(build, "--numerics").exception
    assert isinstance(error, NoNumericsError)
    assert "int8-static" in error.message
    assert "edgeq build" in error.hint


def test_a_damaged_record_an_unknown_artifact_and_another_picture_format_are_told(build: Path) -> None:
    write_text(build / "numerics" / "int8-static.json", '{"recipe": 3')
    assert isinstance(_run(build, "--numerics").exception, ConfigError)
    error = _run(build, "tiny.int8-statc.pte").exception
    assert isinstance(error, UnknownNameError)
    assert "did you mean 'tiny.int8-static.pte'" in error.hint
    assert isinstance(_run(build, "--plot", build / "layers.png").exception, NotAnSvgError)
    assert not (build / "layers.png").exists()


def test_the_shell_completes_artifacts_and_recipes_of_the_build(build: Path, tmp_path: Path) -> None:
    def offered(*words: str, incomplete: str) -> list[str]:
        complete = ShellComplete(cli.group, {}, "edgeq", "_EDGEQ_COMPLETE")
        return [item.value for item in complete.get_completions(["explain", *words], incomplete)]

    assert offered(str(build), incomplete="tiny.") == ["tiny.fp32.pte", "tiny.int8-static.pte"]
    assert offered(str(build), incomplete="int") == ["int8-static"]
    assert offered(str(tmp_path / "nothing"), incomplete="") == []


def test_explaining_brings_no_torch(build: Path) -> None:
    import subprocess
    import sys

    write_numerics(build, _numerics(_layer("0", 1.0)))
    script = (
        "import sys\nfrom edgeq.cli import group\n"
        f"group.main(['explain', {str(build)!r}, '--numerics', '--plot', {str(build / 'a.svg')!r}],"
        " standalone_mode=False)\n"
        "assert not {'torch', 'onnx', 'executorch', 'onnxruntime'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert isinstance(cli.group.get_command(click.Context(cli.group), "explain"), click.Command)
