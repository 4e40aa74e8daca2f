package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/millstream-io/millstream/cli/command"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/urfave/cli/v2"
)

// Mechanisms of SASL that can be used, as --sasl-mechanism writes them.
const (
	mechanismPlain       = "plain"
	mechanismScramSHA256 = "scram-sha-256"
	mechanismScramSHA512 = "scram-sha-512"
)

// passwordVariable has the password where no file has it. There is no flag: everybody on the machine sees flags.
const passwordVariable = "MILLSTREAM_SASL_PASSWORD"

// Security is how brokers are talked to: encrypted or not, and as whom.
type Security struct {
	UseTLS           bool
	CAFile           string
	CertificateFile  string
	KeyFile          string
	Mechanism        string
	User             string
	PasswordFile     string
	passwordVariable string // the value of that variable
}

// Login is a user of a cluster; without a mechanism there is none.
type Login struct {
	Mechanism string // plain, scram-sha-256 or scram-sha-512
	User      string
	Password  string
}

// securityFlags are the flags of security. Where they are hidden they work all the same, and --brokers says where to read about them.
func (s *Security) flags(hidden bool) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "tls", Usage: "encrypt connections to the brokers, and check who they are", EnvVars: []string{"MILLSTREAM_TLS"}, Destination: &s.UseTLS, Hidden: hidden, DisableDefaultText: true},
		&cli.StringFlag{Name: "tls-ca", Usage: "`FILE` of the certificates (PEM) that vouch for the brokers; implies --tls", DefaultText: "the system's", EnvVars: []string{"MILLSTREAM_TLS_CA"}, Destination: &s.CAFile, Hidden: hidden},
		&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` of the client's own certificate (PEM); implies --tls", EnvVars: []string{"MILLSTREAM_TLS_CERT"}, Destination: &s.CertificateFile, Hidden: hidden},
		&cli.StringFlag{Name: "tls-key", Usage: "`FILE` of its private key (PEM)", EnvVars: []string{"MILLSTREAM_TLS_KEY"}, Destination: &s.KeyFile, Hidden: hidden},
		&cli.StringFlag{Name: "sasl-mechanism", Usage: "log in by `MECHANISM`: plain, scram-sha-256 or scram-sha-512", EnvVars: []string{"MILLSTREAM_SASL_MECHANISM"}, Destination: &s.Mechanism, Hidden: hidden},
		&cli.StringFlag{Name: "sasl-user", Usage: "log in as `USER`", EnvVars: []string{"MILLSTREAM_SASL_USER"}, Destination: &s.User, Hidden: hidden},
		&cli.StringFlag{Name: "sasl-password-file", Usage: "`FILE` with the password, or set " + passwordVariable, EnvVars: []string{"MILLSTREAM_SASL_PASSWORD_FILE"}, Destination: &s.PasswordFile, Hidden: hidden},
	}
}

// fromEnvironment sets what the flags' variables say, for uses without flags.
func (s *Security) fromEnvironment(getenv func(string) string) {
	*s = Security{
		UseTLS: getenv("MILLSTREAM_TLS") != "" && getenv("MILLSTREAM_TLS") != "false",
		CAFile: getenv("MILLSTREAM_TLS_CA"), CertificateFile: getenv("MILLSTREAM_TLS_CERT"), KeyFile: getenv("MILLSTREAM_TLS_KEY"),
		Mechanism: getenv("MILLSTREAM_SASL_MECHANISM"), User: getenv("MILLSTREAM_SASL_USER"),
		PasswordFile: getenv("MILLSTREAM_SASL_PASSWORD_FILE"), passwordVariable: getenv(passwordVariable),
	}
}

// TLS is the configuration of encrypted connections, or nil when they are not to be encrypted.
func (s *Security) TLS() (*tls.Config, error) {
	if !s.encrypted() {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, command.Usagef("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, command.Usagef("--tls-ca: %s has no certificate in PEM form", s.CAFile).
				WithFix("it begins with -----BEGIN CERTIFICATE-----; out of a Java keystore: keytool -exportcert -rfc -keystore FILE -alias NAME")
		}
	}
	if (s.CertificateFile == "") != (s.KeyFile == "") {
		return nil, command.Usagef("--tls-cert and --tls-key go together")
	}
	if s.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertificateFile, s.KeyFile)
		if err != nil {
			return nil, command.Usagef("--tls-cert %s with --tls-key %s: %w", s.CertificateFile, s.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (s *Security) encrypted() bool {
	return s.UseTLS || s.CAFile != "" || s.CertificateFile != "" || s.KeyFile != ""
}

// Login is whom to log in as.
func (s *Security) Login() (Login, error) {
	mechanism := strings.ToLower(s.Mechanism)
	switch mechanism {
	case mechanismPlain, mechanismScramSHA256, mechanismScramSHA512:
	case "":
		if s.User != "" || s.PasswordFile != "" {
			return Login{}, command.Usagef("--sasl-mechanism is missing").WithFix("it is what the brokers' listener has: plain, scram-sha-256 or scram-sha-512")
		}
		return Login{}, nil
	default:
		return Login{}, command.Usagef("--sasl-mechanism %q is unknown", s.Mechanism).WithFix("it is plain, scram-sha-256 or scram-sha-512")
	}
	if s.User == "" {
		return Login{}, command.Usagef("--sasl-user is missing")
	}
	password := s.passwordVariable
	if s.PasswordFile != "" {
		b, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return Login{}, command.Usagef("--sasl-password-file: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
	}
	if password == "" {
		return Login{}, command.Usagef("there is no password for the user %q", s.User).WithFix("name a file that has it: --sasl-password-file FILE, or set %s", passwordVariable)
	}
	return Login{Mechanism: mechanism, User: s.User, Password: password}, nil
}

// options are both as options of the Kafka client.
func (s *Security) options() ([]kgo.Opt, error) {
	config, err := s.TLS()
	if err != nil {
		return nil, err
	}
	login, err := s.Login()
	if err != nil {
		return nil, err
	}
	var options []kgo.Opt
	if config != nil {
		options = append(options, kgo.DialTLSConfig(config))
	}
	var mechanism sasl.Mechanism
	switch login.Mechanism {
	case mechanismPlain:
		mechanism = plain.Auth{User: login.User, Pass: login.Password}.AsMechanism()
	case mechanismScramSHA256:
		mechanism = scram.Auth{User: login.User, Pass: login.Password}.AsSha256Mechanism()
	case mechanismScramSHA512:
		mechanism = scram.Auth{User: login.User, Pass: login.Password}.AsSha512Mechanism()
	}
	if mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	return options, nil
}

// notEncrypted is the way out for who speaks TLS to somebody who does not.
const notEncrypted = "leave the flags that begin with --tls out, or name their TLS port"

// ExplainConnection says why brokers that answer would not talk, or returns nil when that is not what err is about.
func (b *Brokers) ExplainConnection(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var expired x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var closed *kgo.ErrFirstReadEOF
	fix := ""
	switch {
	case errors.As(err, &unknown):
		fix = "name the certificate that vouches for them: --tls-ca FILE"
	case errors.As(err, &name):
		fix = "connect by a name that their certificate has"
	case errors.As(err, &expired):
		fix = "their certificate is not valid (any more): renew it"
	case errors.As(err, &record):
		fix = "they do not speak TLS on this port: " + notEncrypted
	case wantsTLS(err):
		fix = "they speak TLS on this port: --tls, with --tls-ca FILE where the authority is your own; or name their port without TLS"
	case errors.As(err, &closed) && b.encrypted() && b.Mechanism == "" && !closedAtDial(closed):
		fix = "perhaps they want a login: --sasl-mechanism, --sasl-user, --sasl-password-file"
	case errors.As(err, &closed) && b.encrypted():
		fix = "perhaps they do not speak TLS on this port: " + notEncrypted
	case errors.As(err, &closed):
		fix = "perhaps they want TLS (--tls) or a login (--sasl-mechanism, --sasl-user, --sasl-password-file)"
	case refusedByTLS(err):
		fix = "they may want a certificate of the client's: --tls-cert FILE --tls-key FILE"
	default:
		return nil
	}
	return &command.Error{Code: command.CodeFailed, Err: fmt.Errorf("the brokers at %s answer, but not like this: %w", b.Addresses, err), Fix: fix}
}

// Cut tells that brokers were there and closed the connection, or are not there any more: as one does that is being
// restarted, or that wants TLS or a login. Which of them it is, only time tells.
func Cut(err error) bool {
	var closed *kgo.ErrFirstReadEOF
	return errors.As(err, &closed) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED)
}

// wantsTLS: the client library takes the alert of a server that speaks TLS for the size of an answer, and has no type for that.
func wantsTLS(err error) bool { return strings.Contains(err.Error(), "tls alert record") }

// closedAtDial: of what the client library was doing when a connection was closed only its text tells.
func closedAtDial(err *kgo.ErrFirstReadEOF) bool {
	return strings.Contains(err.Error(), "after a dial")
}

func refusedByTLS(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:")
}
