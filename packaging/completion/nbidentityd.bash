# bash completion for nbidentityd(8) and nbidentity(1). The programs say
# themselves what they take, so this file does not age.

# _nbidentityd_flags COMMAND...: the flags that its help lists at the beginning
# of a line.
_nbidentityd_flags() {
  "$@" -h 2>&1 | sed -n -E 's/^ +(--?[a-z][a-z-]*(, --?[a-z][a-z-]*)*).*/\1/p' | tr -d ','
}

# _nbidentityd_words COMMAND...: the words that its help lists.
_nbidentityd_words() {
  "$@" -h 2>&1 | sed -n -E 's/^  ([a-z][a-z-]*)  .*/\1/p'
}

_nbidentityd_reply() {
  local word
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$2" -- "$1")
}

_nbidentityd() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
  local program=$1 command=${COMP_WORDS[1]}
  if ((COMP_CWORD == 1)); then
    _nbidentityd_reply "$cur" "$(_nbidentityd_words "$program")"
    return
  fi
  case $prev in
  -format | --format)
    if [[ $command == who ]]; then
      _nbidentityd_reply "$cur" "text json csv"
    else
      _nbidentityd_reply "$cur" "$("$program" "$command" "${COMP_WORDS[2]}" -h 2>&1 | sed -n 's/.*language to write, one of \[\(.*\)\].*/\1/p')"
    fi
    return
    ;;
  --by)
    _nbidentityd_reply "$cur" "name action resource hour"
    return
    ;;
  esac
  if [[ $command == policy || $command == fleet ]]; then
    if ((COMP_CWORD == 2)); then
      _nbidentityd_reply "$cur" "$(_nbidentityd_words "$program" "$command")"
      return
    fi
    set -- "$program" "$command" "${COMP_WORDS[2]}"
  else
    set -- "$program" "$command"
  fi
  # Where no flag is wanted, file names (the completion's default) may be.
  [[ $cur == -* ]] && _nbidentityd_reply "$cur" "$(_nbidentityd_flags "$@")"
}

_nbidentity() {
  local cur=${COMP_WORDS[COMP_CWORD]} help
  [[ ${COMP_WORDS[COMP_CWORD - 1]} == --socket ]] && return
  help=$("$1" -h 2>&1 | sed -n -E 's/^(usage:|      ) nbidentity//p' | grep -oE -- '--[a-z]+|\b[a-z]+\b' | sort -u)
  _nbidentityd_reply "$cur" "$help"
}

complete -o default -F _nbidentityd nbidentityd
complete -o default -F _nbidentity nbidentity
