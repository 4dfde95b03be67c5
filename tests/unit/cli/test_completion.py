"""Shell completion: as bash asks, and as zsh and fish do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AYAFLOW = Path(sys.executable).with_name("ayaflow")


def complete(shell: str, *words: str) -> set[str]:
    """What a shell is told for the last word."""
    line = " ".join(f"'{word}'" if " " in word else word for word in words)
    number = str(len(words) - 1) if shell != "fish" else words[-1]
    asked = {"_AYAFLOW_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": number}
    done = subprocess.run([AYAFLOW], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    if shell == "zsh":  # type, value, help: a line each
        return set(lines[1::3])
    return {line.split(",", 1)[1].split("\t")[0] for line in lines}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ayaflow", "fl"), {"flows"}),
        (("ayaflow", "flows", "--sor"), {"--sort"}),
        (("ayaflow", "flows", "--sort", ""), {"time", "bytes", "packets"}),
        (("ayaflow", "console", "--set", "console.li"), {"console.listen="}),
        (("ayaflow", "top", "src_"), {"src_addr", "src_port"}),
        (("ayaflow", "completion", "f"), {"fish"}),
    ],
)
def test_words_are_completed(words: tuple[str, ...], expected: set[str]) -> None:
    assert complete("bash", *words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_the_same(shell: str) -> None:
    assert complete(shell, "ayaflow", "que") == {"query"}


def test_the_end_of_a_quoted_filter_is_completed() -> None:
    assert complete("bash", "ayaflow", "flows", "dst_port = 443 and src_a") == {"dst_port = 443 and src_addr"}


def test_bash_completes_with_what_is_printed() -> None:
    script = (
        'eval "$(ayaflow completion bash)"; COMP_WORDS=(ayaflow fl); COMP_CWORD=1; _ayaflow_completion ayaflow;'
        ' complete -p ayaflow; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{AYAFLOW.parent}:{os.environ['PATH']}"},
    )
    declared, *reply = done.stdout.splitlines()
    assert "_ayaflow_completion" in declared
    assert reply == ["flows"]
    assert done.stderr == ""


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef ayaflow"), ("fish", "complete --no-files --command")])
def test_the_script_is_for_the_shell_that_was_named(shell: str, sign: str) -> None:
    done = subprocess.run([AYAFLOW, "completion", shell], capture_output=True, text=True, check=True)
    assert sign in done.stdout
