package command

// Help is laid out for reading top down: what it does, how it is written, an
// example to copy, then every flag.

const commandHelp = `{{.HelpName}}: {{.Usage}}

Usage:
  {{.HelpName}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}{{if .VisibleFlags}} [flags]{{end}}
{{if .Description}}
{{.Description}}
{{end}}
Flags:
{{range .VisibleFlags}}  {{.}}
{{end}}`

const groupHelp = `{{.HelpName}}: {{.Usage}}

Commands:
{{range .Subcommands}}{{if not .Hidden}}  {{.Name}}{{"\t"}}{{.Usage}}
{{end}}{{end}}
More about one: {{.HelpName}} COMMAND --help
`

const appHelp = `millstream: {{.Usage}}
{{range .VisibleCategories}}
{{.Name}}:
{{range .VisibleCommands}}  {{.Name}}{{"\t"}}{{.Usage}}
{{end}}{{end}}
More about one: millstream COMMAND --help
Flags may stand before or after arguments. Every command takes --json.
Addresses: MILLSTREAM_BROKERS (default 127.0.0.1:9092), MILLSTREAM_ADMIN (default http://127.0.0.1:9644).
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 no server answers.
`
