"""Shell completion: the scripts that `fd-info --completion` prints, and the answers to them.

Nothing here imports NumPy, torch or rich: a shell asks at every press of the tab key.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from typer.completion import completion_init, get_completion_script, shell_complete

from facedis_core.model.bundled import SUFFIX, bundled_models
from facedis_core.train.recipe import recipe_names
from fd_parse import COMPLETION, click_command, command_name

# For all commands at once; unlike typer's own script it completes --option=value, names with
# blanks, and paths through folders.
_BASH: Final = """\
_facedis() {
    local words=("${COMP_WORDS[@]:0:COMP_CWORD+1}") last=$COMP_CWORD IFS=$'\\n'
    if [[ ${words[last-1]} == = ]]; then
        words[last-1]=${words[last]}
        unset "words[last]"
        last=$((last - 1))
    fi
    read -r -d '' -a COMPREPLY < <(
        COMP_WORDS="${words[*]}" COMP_CWORD=$last %s=complete_bash "$1" 2> /dev/null
    )
    COMPREPLY=("${COMPREPLY[@]%%/}")
}
complete -o default -o filenames -F _facedis %s
"""

# The table of facedis_core.datasets.source, whose import needs NumPy.
SOURCE_NAMES: Final = ("coma", "bu3dfe", "facescape", "facewarehouse", "ict", "folder", "scans")


def completion_script(shell: str) -> str:
    """The completion script of all commands for bash, zsh or fish."""
    from importlib.metadata import distribution

    commands = sorted(entry.name for entry in distribution("facedis").entry_points)
    if shell == "bash":
        return _BASH % (COMPLETION, " ".join(commands))
    return "\n".join(
        get_completion_script(prog_name=name, complete_var=COMPLETION, shell=shell)
        for name in commands
    )


def complete(function: Callable[..., Any]) -> int:
    """Print the completions that a shell asks for; returns the exit code."""
    completion_init()
    command = click_command(function, SUGGESTIONS)
    return shell_complete(command, {}, command_name(function), COMPLETION, os.environ[COMPLETION])


def models(incomplete: str) -> list[str]:
    """Bundled models, safetensors files and folders."""
    return _starting(incomplete, bundled_models()) + paths(incomplete, SUFFIX)


def recipes(incomplete: str) -> list[str]:
    """Bundled recipes, TOML files and folders."""
    return _starting(incomplete, recipe_names()) + paths(incomplete, ".toml")


def sources(incomplete: str) -> list[str]:
    """Data sets that fd-prep reads."""
    return _starting(incomplete, SOURCE_NAMES)


def discriminators(incomplete: str) -> list[str]:
    """`none`, safetensors files and folders."""
    return _starting(incomplete, ["none"]) + paths(incomplete, SUFFIX)


# By the metavar of an argument or option; for all others the shell itself completes file names.
SUGGESTIONS: Final[Mapping[str, Callable[[str], list[str]]]] = {
    "MODEL": models,
    "MODEL|SET": models,
    "NAME|FILE": recipes,
    "DISC|none": discriminators,
    "SOURCE": sources,
}


def paths(incomplete: str, suffix: str) -> list[str]:
    """Files with this suffix and folders (ending in /) that start with `incomplete`."""
    prefix = incomplete[: incomplete.rfind("/") + 1]
    start = incomplete.removeprefix(prefix)
    found = []
    try:
        entries = sorted(Path(os.path.expanduser(prefix)).iterdir())  # noqa: PTH111 - "" stays ""
    except (OSError, RuntimeError, ValueError):
        return []
    for entry in entries:
        hidden = entry.name.startswith(".") and not start
        if entry.name.startswith(start) and not hidden:
            if entry.is_dir():
                found.append(f"{prefix}{entry.name}/")
            elif entry.suffix == suffix:
                found.append(f"{prefix}{entry.name}")
    return found


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
