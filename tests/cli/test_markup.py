"""Data is printed as it is: brackets and emoji codes in it are not markup."""

import io
import json
import sys
import unicodedata
from contextlib import redirect_stdout

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from graphdiff import EASE
from graphdiff.cli.main import app
from graphdiff.console import print_status, print_table, print_text, visible
from graphdiff.models.storage import save_model
from tests.cli.conftest import TRAIN
from tests.command import run
from tests.conftest import random_data

NAMES = [
    "shirt 2 [red]", "[/sale] 3", "[bold]x[/]", "[/]", "[", "]", "[[a]]", "\\[x]", ":smile:",
    "[link=https://example.org]y[/link]", "$5 & $10", "100%", "{x}", "<b>", "日本 [ja]",
]  # fmt: skip
# Text in which markup is likely: brackets, slashes, styles, emoji codes, and anything else.
MARKUP = st.lists(
    st.one_of(
        st.sampled_from(["[", "]", "[/", "[red]", "[/red]", ":smile:", "\\", "=", "@", "#", " "]),
        st.text(max_size=4),
    ),
    max_size=6,
).map("".join)


def printed(print_it, *arguments):
    out = io.StringIO()
    with redirect_stdout(out):
        print_it(*arguments)
    return out.getvalue()


def is_plain(text):
    """Whether a text has nothing that a terminal would interpret."""
    return visible(text) == text


@settings(deadline=None, max_examples=300)
@given(MARKUP)
def test_kind_g_printed_text_is_the_data(text):
    assert printed(print_text, f"item {text} end") == f"item {visible(text)} end\n"
    assert is_plain(visible(text))
    if is_plain(text):
        assert visible(text) == text


@settings(deadline=None, max_examples=300)
@given(st.lists(MARKUP, min_size=2, max_size=2), st.lists(MARKUP, min_size=2, max_size=2))
def test_kind_g_cells_of_tables_are_the_data(header, row):
    out = printed(print_table, header, [row])
    for cell in (*header, *row):
        assert visible(cell) in out


@given(st.text())
def test_kind_g_no_control_character_reaches_the_terminal(text):
    kinds = {unicodedata.category(c) for c in visible(text)}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}


def test_kind_g_status_lines(capsys):
    print_status("reading [old]/x [/]")
    assert capsys.readouterr().err == "reading [old]/x [/]\n"


def test_kind_g_a_narrow_terminal_folds_without_losing_characters(monkeypatch):
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    print_table(["item", "score"], [["shirt 2 [red] " * 4, "1"]])
    cells = [line.split("│")[1].strip() for line in out.getvalue().splitlines() if "│" in line]
    assert "".join(cells).replace(" ", "").endswith("shirt2[red]" * 4)


@pytest.fixture
def shop(tmp_path):
    """A RUN folder whose items and users have names with brackets."""
    data = random_data(num_users=12, num_items=len(NAMES))
    data["item"].raw_id = list(NAMES)
    data["user"].raw_id = [f"[user] {n}" for n in range(12)]
    model = EASE.from_data(data)
    model.solve()
    folder = tmp_path / "runs" / "[old]z"
    save_model(model, folder)
    return folder


def test_kind_g_recommend_prints_items_as_they_are(shop):
    for arguments in (["--user", "[user] 3"], ["--history", "[/sale] 3", "--history", "["]):
        found = json.loads(run("recommend", shop, *arguments, "-k", "9", "--json").stdout)
        out = run("recommend", shop, *arguments, "-k", "9").stdout
        assert len(found["items"]) > 4
        for row in found["items"]:
            assert f" {row['item']} " in out
    error = run("recommend", shop, "--user", "[red]x[/y]", expect=2).stderr
    assert "no user '[red]x[/y]'" in error


def test_kind_g_paths_are_printed_as_they_are(tmp_path):
    for name in ("[old]z", "x[/y]", "[/]", ":smile:"):
        out = tmp_path / "runs" / name
        done = run(*TRAIN, "--model", "popularity", "--out", out)
        assert done.stdout.endswith(f"written to {out}\n")
        assert (out / "results.json").is_file()
        assert f"{out} already holds a training" in run(*TRAIN, "--out", out, expect=2).stderr


def test_kind_g_exports_and_conversions_name_their_files(trained, tmp_path):
    program = tmp_path / "[red]model.pt2"
    done = run("export", trained, "--format", "torch", "-k", "5", "--out", program)
    assert done.stdout.startswith(f"written to {program}, ")


def test_kind_g_notes_of_describe(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "[bold]data[/"
    root.mkdir(parents=True)
    lines = [f"[u]{user},[/i]{(user * 7 + n * 3) % 30},{n}" for user in range(30) for n in range(8)]
    (root / "log.csv").write_text("\n".join(["user,item,timestamp", *lines, lines[0]]))
    arguments = ["describe", "--dataset", "csv", "--root", root]
    found = json.loads(run(*arguments, "--json").stdout)
    out = run(*arguments).stdout
    for note in found["notes"]:
        assert note in out


def test_kind_g_error_messages_are_printed_as_they_are(tmp_path):
    for name in ("[red]", "[/sale]", "[/]"):
        assert repr(name) in run("train", "--dataset", name, "--out", tmp_path, expect=2).stderr
        assert repr(name) in run("train", "--model", name, "--out", tmp_path, expect=2).stderr
        error = run("train", "--set", f"{name}=[1", "--out", tmp_path, expect=2).stderr
        assert f"--set {name} is not readable YAML" in error


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MARKUP)
def test_kind_g_errors_are_one_line_without_control_characters(tmp_path, text):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"name": text}, "x": {}}))
    error = run("evaluate", tmp_path, expect=2).stderr
    assert error.count("\n") == 1
    assert is_plain(error[:-1])


@pytest.mark.parametrize(
    "command", [c.name or c.callback.__name__ for c in app.registered_commands]
)
def test_kind_g_help_is_printed_as_it_is_written(command):
    callback = next(
        c.callback for c in app.registered_commands if command in (c.name, c.callback.__name__)
    )
    shown = CliRunner().invoke(app, [command.replace("_", "-"), "--help"]).output
    first = callback.__doc__.partition("\n")[0]
    assert " ".join(first.split()) in " ".join(shown.split())
    for part in ("[serve]", "`graphdiff train`"):
        if part in callback.__doc__:
            assert part in shown


def test_kind_g_rich_markup_is_off_everywhere():
    # What the property tests above rely on: the same text would be changed by rich's own printing.
    out = io.StringIO()
    Console(file=out).print("shirt 2 [red]")
    assert out.getvalue() != "shirt 2 [red]\n"
    assert printed(print_text, "shirt 2 [red]") == "shirt 2 [red]\n"
