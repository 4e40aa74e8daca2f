package command

import (
	"context"

	"github.com/urfave/cli/v2"
)

// The scripts ask the binary itself, by the flag library's completion flag, so
// that they never go stale; without an answer the shell offers files.

// Bash takes plugin:upper and notes:0 for three words, and puts what is suggested in place of the last one; so the line is
// divided at its blanks here, and what stands before the last colon is not suggested again.
const bashCompletion = `_millstream() {
  local line="${COMP_LINE:0:COMP_POINT}" cur="" words
  read -ra words <<< "$line"
  if [[ "$line" != *[[:space:]] ]]; then cur="${words[-1]}"; unset 'words[-1]'; fi
  if [[ "$cur" == -* ]]; then words+=("$cur"); fi
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
  if [[ "$cur" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}"); fi
}
complete -o bashdefault -o default -F _millstream millstream
`

const zshCompletion = `#compdef millstream
_millstream() {
  local cur="${words[CURRENT]}"
  local -a line opts
  line=("${(@)words[1,CURRENT-1]}")
  if [[ "$cur" == -* ]]; then line+=("$cur"); fi
  opts=("${(@f)$("${line[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${opts[1]}" ]]; then
    compadd -- "${opts[@]}"
  else
    _files
  fi
}
compdef _millstream millstream
`

const fishCompletion = `function __millstream_complete
  set -l line (commandline -opc)
  set -l cur (commandline -ct)
  if string match -q -- '-*' "$cur"
    set -a line $cur
  end
  $line --generate-bash-completion 2>/dev/null
end
complete -c millstream -a '(__millstream_complete)'
`

func newCompletion(env *Env) *cli.Command {
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	return New(env, Spec{
		Name:     "completion",
		Usage:    "print a completion script for a shell",
		Category: "More",
		Args:     "bash|zsh|fish",
		MinArgs:  1, MaxArgs: 1,
		Description: "Commands, flags and the names of topics and deployments complete with the Tab key.",
		Examples: `source <(millstream completion bash)                                    # this session
millstream completion bash > /etc/bash_completion.d/millstream          # all sessions
millstream completion zsh > "${fpath[1]}/_millstream"
millstream completion fish > ~/.config/fish/completions/millstream.fish`,
		Complete: func(context.Context, []string) []string { return []string{"bash", "zsh", "fish"} },
		Run: func(_ context.Context, args []string) error {
			script, ok := scripts[args[0]]
			if !ok {
				return Usagef("no completion for the shell %q", args[0]).WithFix("there is one for bash, zsh and fish")
			}
			if env.JSON {
				return env.PrintJSON(map[string]string{"shell": args[0], "script": script})
			}
			env.Printf("%s", script)
			return nil
		},
	})
}
