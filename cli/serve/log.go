package serve

import (
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/urfave/cli/v2"
)

// Log is --log-level and --log-format.
type Log struct {
	level, format string
}

// Flags are its flags.
func (l *Log) Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Usage: "`LEVEL`: debug, info, warn or error", Value: "info", Destination: &l.level},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log on standard error: text or json", Value: "text", Destination: &l.format},
	}
}

// Logger makes the logger that the flags ask for.
func (l *Log) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, command.Usagef("--log-level %q is unknown", l.level).WithFix("it is debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, command.Usagef("--log-format %q is unknown", l.format).WithFix("it is text or json")
}

// loopback reports whether a host is certainly this machine only.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
