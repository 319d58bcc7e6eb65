"""The pages in docs: Python runs as it stands, commands parse, links lead somewhere."""

from __future__ import annotations

import functools
import importlib.util
import re
import socket
from pathlib import Path

import pytest
import torch
from documents import PAGES, README, ROOT, command_lines, examples, headings, name, run
from documents import run_examples as run_examples_of

from rlsv_fast import training
from rlsv_fast.cli import _parser
from rlsv_fast.training.checkpoint import save_checkpoint
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig

WITH_EXAMPLES = [page for page in PAGES if any(not package for package, _ in examples(page))]
OPTIONAL = [(page, package) for page in PAGES for package, _ in examples(page) if package]
QUICK_START = ROOT / "docs" / "quick_start.md"


def settings_table() -> object:
    """The script beside settings.md, as a module."""
    path = ROOT / "docs" / "settings_table.py"
    spec = importlib.util.spec_from_file_location("settings_table", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples expect: the quick start's run, and the variables that torchrun sets.

    Compiling stops before inductor, which test_contract.py has for every operator.
    """
    config = training.resolve("demo", overrides=["model.components=8"])
    model = training.build_model(config)
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(training.to_toml(config))
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(folder, model, optimizer, torch.Generator(), {"step": 0})
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for key, value in torchrun.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name)
@pytest.mark.usefixtures("surroundings")
def test_the_examples_run(page: Path) -> None:
    assert run_examples_of(page)


@pytest.mark.parametrize(("page", "package"), OPTIONAL, ids=lambda value: Path(value).name)
def test_the_examples_with_another_package_run(page: Path, package: str) -> None:
    if importlib.util.find_spec(package) is None:  # one that is there and broken fails below
        pytest.skip(f"{package} is not installed")
    first, *_ = (code for needed, code in examples(page) if not needed)  # the imports
    run(page, [first, *(code for needed, code in examples(page) if needed == package)])


def test_the_sinkhorn_page_shows_what_diagnose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "sinkhorn.md"
    run_examples_of(page)
    assert f"```text\n{capsys.readouterr().out}```" in page.read_text()


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^):]+)\)", text):
        path, _, place = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not place or place in headings(found), target


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_command_lines_are_understood(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for words in command_lines(page):
        if "-m" in words and words[words.index("-m") + 1 :][:1] == ["rlsv_fast"]:
            words = ["rlsv-fast", *words[words.index("-m") + 2 :]]
        if words[0] == "rlsv-fast":
            options = _parser().parse_args(words[1:])
            if options.verb == "train" and not options.resume:
                training.resolve(options.preset, options.config, options.set)
            if options.verb == "umss train" and not options.resume:
                SCHEMA.resolve(options.preset, options.config, options.set)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE), words
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), words


def test_the_quick_start_is_one_whole() -> None:
    lines = [words for words in command_lines(QUICK_START) if words[0] == "rlsv-fast"]
    verbs = ["info", "synthesize", "train", "train", "evaluate", "separate", "report"]
    assert [words[1] for words in lines] == verbs
    made = lines[1][2]  # the folder of the synthetic set
    assert all(f"--root {made}" in " ".join(words) for words in lines[2:5])


@pytest.mark.parametrize(
    ("page", "config"),
    [("settings", training.Config()), ("settings_ensembles", EnsembleConfig())],
)
def test_the_settings_pages_are_what_the_settings_are(page: str, config: object) -> None:
    table = settings_table()
    path = ROOT / "docs" / f"{page}.md"
    text = path.read_text()
    assert text == table.page(path), "run: python docs/settings_table.py"
    for key in training.flatten(config):
        assert text.count(f"| `{key}` |") == 1, key


def test_every_operator_has_a_page() -> None:
    from rlsv_fast import ops

    index = (ROOT / "docs" / "README.md").read_text()
    pages = [path.stem for path in (ROOT / "docs" / "operators").glob("*.md")]
    for operator in ops.__all__:
        page = {"frames": "overlap_add"}.get(operator, operator)
        if operator.lower().startswith("sinkhorn"):
            assert "](sinkhorn.md)" in index
        else:
            assert page in pages and f"](operators/{page}.md)" in index, operator


def test_pictures_are_few_and_all_used() -> None:
    pictures = list((ROOT / "docs" / "figures").iterdir())
    assert sum(path.stat().st_size for path in pictures) < 600_000
    text = "".join(page.read_text() for page in PAGES)
    for path in pictures:
        assert f"figures/{path.name}" in text, path.name
