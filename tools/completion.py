"""What completes the words of memfs in bash, zsh and fish.

Each shell gets a text of its own below, with the tables of memfs put in as `case` rows or `complete` lines. What a
path inside an image goes on with is asked of memfs itself, by `memfs ls SOURCE DIR`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from commands import Argument, Command, commands, directories, option_words

from memfs.tree.options import OPTIONS

HEAD = "# Printed by `make pages` from the tables of memfs: do not edit."
TOP = (("--help", "show this help message and exit"), ("--version", "show program's version number and exit"))


def bash() -> str:
    """For bash: words alone, it has no place for their help."""
    every = commands()
    return _fill(
        _BASH,
        COMMANDS=" ".join([*(command.name for command in every), *(name for name, _ in TOP)]),
        WORDS=" ".join(word for word, _ in option_words()),
        OPTIONS=_rows((command.name, f"REPLY='{' '.join(_names(command))}'") for command in every),
        VALUES=_rows(
            (" | ".join(f"'{command.name} {name}'" for name in option.names), f"REPLY={option.kind or 'none'}")
            for command in every
            for option in command.options
            if option.value
        ),
        ARGUMENTS=_rows(
            (_place(command, number, argument), f"REPLY={argument.kind or 'none'}")
            for command in every
            for number, argument in enumerate(command.arguments)
        ),
        FILES=" | ".join(f"{option.name}=*" for option in OPTIONS if Argument((), option.value, "").kind),
        DIRECTORIES=_directories(),
    )


def zsh() -> str:
    """For zsh: _arguments does what is hard, out of a specification for each subcommand."""
    every = commands()
    return _fill(
        _ZSH,
        TOP="\n".join(f"        {_quote(f'(- *){name}[{_plain(text)}]')} \\" for name, text in TOP),
        COMMANDS="\n".join(f"        {_quote(_colon(command.name) + ':' + command.help)}" for command in every),
        OPTIONS="\n".join(f"        {_quote(_zsh_word(name, text, values))}" for name, text, values in _valued()),
        ARGUMENTS="\n".join(_zsh_case(command) for command in every),
        DIRECTORIES=_directories(),
    )


def fish() -> str:
    """For fish: a `complete` line for each word."""
    every = commands()
    lines = [f"complete -c memfs -n __memfs_first -l {name[2:]} -d {_fish(text)}" for name, text in TOP]
    for command in every:
        lines.append(f"complete -c memfs -n __memfs_first -a {_fish(command.name)} -d {_fish(command.help)}")
    for command in every:
        lines += ["", *(_fish_option(command, option) for option in command.options)]
        places = enumerate(command.arguments)
        lines += [_fish_argument(command, n, argument) for n, argument in places if argument.kind]
    return _fill(
        _FISH,
        LINES="\n".join(lines),
        VALUES=" ".join(
            _fish(f"{command.name} {name}")
            for command in every
            for option in command.options
            if option.value
            for name in option.names
        ),
        OPTIONS=" ".join(_fish(f"{word}\t{text}") for word, text in option_words()),
        DIRECTORIES=_directories(),
    )


# -- what they share -----------------------------------------------------------------------------------------------


def _fill(template: str, **parts: str) -> str:
    """A template with its parts: @NAME@."""
    return re.sub(r"@([A-Z]+)@", lambda found: {"HEAD": HEAD, **parts}[found[1]], template)


def _names(command: Command) -> list[str]:
    return [name for option in command.options for name in option.names]


def _directories() -> str:
    """An extended regular expression of the tree's directories: {tid} is any name."""
    return "^(" + "|".join(re.sub(r"\{[^}]*\}", "[^/]+", path) for path in directories()) + ")$"


def _valued() -> Iterable[tuple[str, str, Argument | None]]:
    """The words of -o: name, help, and what follows its `=`."""
    for option in OPTIONS:
        yield option.name, option.help, Argument((), option.value, "", option.choices) if option.value else None


# -- bash ----------------------------------------------------------------------------------------------------------


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"    {pattern}) {action} ;;" for pattern, action in rows)


def _place(command: Command, number: int, argument: Argument) -> str:
    """A pattern of the subcommand and the number of arguments before this one."""
    return f"'{command.name} '*" if argument.many else f"'{command.name} {number}'"


_BASH = r"""@HEAD@

# In all functions here: what is found is left in REPLY.

# The options of a subcommand.
_memfs_options() {
    case $1 in
@OPTIONS@
    *) REPLY= ;;
    esac
}

# What stands behind an option: "COMMAND OPTION".
_memfs_value() {
    case $1 in
@VALUES@
    *) REPLY= ;;
    esac
}

# What an argument is: "COMMAND NUMBER", the number of arguments before it.
_memfs_argument() {
    case $1 in
@ARGUMENTS@
    *) REPLY=none ;;
    esac
}

# A word as the shell would pass it on, without quotes and backslashes; nothing in it is run.
_memfs_plain() {
    REPLY=$(xargs printf %s <<<"$1" 2>/dev/null)
    [[ $REPLY != "~/"* ]] || REPLY=$HOME/${REPLY:2}
}

# Paths below a directory of the image that begin with $1: the image is $3, as the command $2 sees it.
_memfs_image() {
    local path=$1 directory= name program source
    _memfs_plain "$2" && program=$REPLY
    _memfs_plain "$3" && source=$REPLY
    [[ $path != */* ]] || directory=${path%/*}/
    while IFS= read -r name; do
        name=$directory$name
        [[ $name == "$path"* ]] || continue
        [[ ! ${name#/} =~ @DIRECTORIES@ ]] || name+=/
        COMPREPLY+=("$name")
    done < <("$program" ls -- "$source" "$directory" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -ne 1 || $COMPREPLY != */ ]] || compopt -o nospace 2>/dev/null
}

# Words of -o, after the last comma of $1.
_memfs_mount_options() {
    local head= word=$1
    [[ $word != *,* ]] || head=${word%,*}, word=${word##*,}
    compopt -o nospace 2>/dev/null
    case $word in
    @FILES@)
        _memfs_files -f "${word#*=}"
        COMPREPLY=("${COMPREPLY[@]/#/$head${word%%=*}=}")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -P "$head" -W '@WORDS@' -- "$word") ;;
    esac
}

# Files (-f) or directories (-d) that begin with $2. An open quote before it is the shell's.
_memfs_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "${2#[\"\']}")
}

_memfs() {
    local words=() word joined= index
    for ((index = 0; index <= COMP_CWORD; index++)); do # bash cuts words at = and :
        word=${COMP_WORDS[index]}
        if [[ $index -gt 0 && $word && ($joined || $word == [=:]*) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        joined=
        [[ ! $word =~ ^[=:]+$ ]] || joined=yes
    done

    local current=${words[-1]} last=$((${#words[@]} - 1)) command=${words[1]} arguments=() ended= kind= REPLY
    COMPREPLY=()
    if [[ $last -eq 1 ]]; then
        mapfile -t COMPREPLY < <(compgen -W '@COMMANDS@' -- "$current")
        return
    fi
    for word in "${words[@]:2:last-2}"; do
        if [[ $kind ]]; then
            kind=
        elif [[ ! $ended && $word == -- ]]; then
            ended=yes
        elif [[ ! $ended && $word == -?* ]]; then
            _memfs_value "$command $word"
            kind=$REPLY
        else
            arguments+=("$word")
        fi
    done
    if [[ ! $kind && ! $ended && $current == --*=* ]]; then
        _memfs_value "$command ${current%%=*}"
        kind=${REPLY:-none} current=${current#*=}
    elif [[ ! $kind && ! $ended && $current == -* ]]; then
        _memfs_options "$command"
        mapfile -t COMPREPLY < <(compgen -W "$REPLY" -- "$current")
        return
    fi
    if [[ ! $kind ]]; then
        _memfs_argument "$command ${#arguments[@]}"
        kind=$REPLY
    fi
    case $kind in
    file) _memfs_files -f "$current" ;;
    directory) _memfs_files -d "$current" ;;
    options) _memfs_mount_options "$current" ;;
    image) _memfs_image "$current" "${words[0]}" "${arguments[0]}" ;;
    esac

    local cuts=${COMP_WORDBREAKS//[^=:]/}
    [[ $cuts && $current == *[$cuts]* ]] || return 0
    local kept=${current%"${current##*[$cuts]}"} # what bash has cut off, it puts back itself
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

complete -F _memfs memfs
"""

# -- zsh -----------------------------------------------------------------------------------------------------------

_ZSH_KINDS = {
    "file": "_files",
    "directory": "_directories",
    "options": "_memfs_mount_options",
    "image": "_memfs_image",
    "": " ",
}


def _quote(text: str) -> str:
    return shlex.quote(text)


def _colon(text: str) -> str:
    """A text in a specification, where a colon ends it."""
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _plain(text: str) -> str:
    """A help between square brackets."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")


def _zsh_action(argument: Argument) -> str:
    return f"({' '.join(argument.choices)})" if argument.choices else _ZSH_KINDS[argument.kind]


def _zsh_word(name: str, text: str, value: Argument | None) -> str:
    tail = f":{_colon(value.value)}:{_zsh_action(value)}" if value else ""
    return f"{name}[{_plain(text)}]{tail}"


def _zsh_case(command: Command) -> str:
    """What _arguments needs to know of a subcommand."""
    specs = []
    for option in command.options:
        many = "*" if option.many else ""
        others = f"({' '.join(option.names)})" if len(option.names) > 1 and not many else ""
        for name in option.names:
            equals = "=" if option.value and name.startswith("--") else ""
            value = option if option.value else None
            specs.append(others + many + _zsh_word(name + equals, option.help, value))
    for number, argument in enumerate(command.arguments, 1):
        place = "*" if argument.many else str(number) + (":" if argument.optional else "")
        specs.append(f"{place}:{_colon(argument.help)}:{_zsh_action(argument)}")
    lines = " \\\n".join(f"            {_quote(spec)}" for spec in specs)
    return f"    {command.name})\n        _arguments -s -S : \\\n{lines}\n        ;;"


_ZSH = r"""#compdef memfs
@HEAD@

# Paths inside the image that the first argument names.
_memfs_image() {
    local source=${(Q)line[1]} directory= name
    source=${source/#\~\//$HOME/}
    [[ $PREFIX != */* ]] || directory=${PREFIX%/*}/
    local -a found folders files
    found=("${(@f)$(_call_program paths ${(q)${(Q)program}} ls -- ${(q)source} ${(q)${(Q)directory}} 2>/dev/null)}")
    for name in ${found:#}; do
        if [[ ${${(Q)directory}#/}$name =~ '@DIRECTORIES@' ]]; then
            folders+=($name)
        else
            files+=($name)
        fi
    done
    compadd -p "$directory" -S / -a folders
    compadd -p "$directory" -a files
}

# Words of -o between commas.
_memfs_mount_options() {
    _values -s , 'mount option' \
@OPTIONS@
}

_memfs_commands() {
    local -a commands=(
@COMMANDS@
    )
    _describe -t commands command commands
}

_memfs() {
    local curcontext=$curcontext program=$words[1] state line ret=1
    local -A opt_args
    _arguments -C \
@TOP@
        '1: :_memfs_commands' '*:: :->rest' && ret=0
    [[ $state == rest ]] || return ret
    curcontext=${curcontext%:*:*}:memfs-$words[1]:
    case $words[1] in
@ARGUMENTS@
    esac
}

_memfs "$@"
"""

# -- fish ----------------------------------------------------------------------------------------------------------

_FISH_KINDS = {
    "file": "-F",
    "directory": "-xa '(__fish_complete_directories (commandline -ct))'",
    "options": "-xa '(__memfs_mount_options)'",
    "image": "-a '(__memfs_image)'",
    "": "-x",
}


def _fish(text: str) -> str:
    """A word between single quotes: fish knows two escapes there."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(command: Command, option: Argument) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    takes = _fish_takes(option) if option.value else ""
    words = f"complete -c memfs -n '__memfs_is {command.name}' {' '.join(names)} {takes}".rstrip()
    return f"{words} -d {_fish(option.help)}"


def _fish_takes(option: Argument) -> str:
    if option.choices:
        return f"-xa {_fish(' '.join(option.choices))}"
    action = _FISH_KINDS[option.kind]
    return f"-r {action}" if action == "-F" else action


def _fish_argument(command: Command, number: int, argument: Argument) -> str:
    test = f"__memfs_at {command.name} {number}{' more' if argument.many else ''}"
    return f"complete -c memfs -n {_fish(test)} {_FISH_KINDS[argument.kind]}"


_FISH = r"""@HEAD@

# The word for a subcommand stands here.
function __memfs_first
    test (count (commandline -opc)) -eq 1
end

# The subcommand is this one.
function __memfs_is
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end

# The arguments so far: what is no option, and no value of one.
function __memfs_arguments
    set -l valued @VALUES@
    set -l words (commandline -opc)
    set -l command $words[2]
    set -l skip no
    set -l ended no
    for word in $words[3..-1]
        if test $skip = yes
            set skip no
        else if test $ended = no; and test "$word" = --
            set ended yes
        else if test $ended = no; and string match -q -- '-?*' $word
            contains -- "$command $word" $valued; and set skip yes
        else
            echo -- $word
        end
    end
end

# The subcommand is this one, and there are so many arguments before the cursor (or more).
function __memfs_at
    __memfs_is $argv[1]; or return 1
    set -l have (count (__memfs_arguments))
    test $have -eq $argv[2]; or test "$argv[3]" = more -a $have -gt $argv[2]
end

# Paths inside the image that the first argument names.
function __memfs_image
    set -l program (string replace -r '^~/' "$HOME/" -- (commandline -opc)[1])
    set -l source (string replace -r '^~/' "$HOME/" -- (__memfs_arguments)[1])
    set -l directory (string replace -r '[^/]*$' '' -- (commandline -ct))
    for name in ($program ls -- $source $directory 2>/dev/null)
        if string match -qr '@DIRECTORIES@' -- (string replace -r '^/' '' -- $directory$name)
            echo -- $directory$name/
        else
            echo -- $directory$name
        end
    end
end

# Words of -o, after the last comma.
function __memfs_mount_options
    set -l head (string replace -r '[^,]*$' '' -- (commandline -ct))
    printf '%s\n' $head@OPTIONS@
end

complete -c memfs -f
@LINES@
"""
