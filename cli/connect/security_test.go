package connect

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millstream-io/millstream/broker"
	"github.com/millstream-io/millstream/broker/brokertest"
	"github.com/millstream-io/millstream/cli/command"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs certificates for this machine's loopback address, and keeps all in files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", nil)
	return a
}

// issue makes NAME.pem and NAME.key; without a signer the certificate is an authority's.
func (a *authority) issue(name string, signer *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.ok(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: signer == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signing := template, key
	if signer != nil {
		parent, signing = signer.cert, signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signing)
	a.ok(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	a.ok(err)
	a.ok(os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.ok(os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	cert, err := x509.ParseCertificate(der)
	a.ok(err)
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) ok(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// front serves TLS before a broker that has none, and is the address it advertises.
func front(t *testing.T, a *authority, clients bool) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
	a.ok(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(a.cert)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	a.ok(err)
	_, behind := brokertest.Serve(t, broker.Options{AdvertisedAddress: l.Addr().String()})
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { relay(c, behind) })
		}
	})
	t.Cleanup(func() { l.Close(); connections.Wait() })
	return l.Addr().String()
}

// relay copies both ways until one side ends.
func relay(c net.Conn, behind string) {
	defer c.Close()
	if err := c.(*tls.Conn).Handshake(); err != nil {
		return
	}
	b, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, b); _ = c.Close() })
	_, _ = io.Copy(b, c)
	_ = b.Close()
	back.Wait()
}

// ask asks the cluster something, as every command does.
func ask(t *testing.T, b *Brokers) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := b.Admin(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.BrokerMetadata(ctx)
	return b.Explain(err, "the cluster")
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", a)
	a.issue("client", a)
	stranger := newAuthority(t)
	encrypted, mutual := front(t, a, false), front(t, a, true)
	_, plaintext := brokertest.Serve(t, broker.Options{})
	for _, c := range []struct {
		name     string
		address  string
		security Security
		fix      string // part of the way out; "": it works
	}{
		{"encrypted", encrypted, Security{CAFile: a.file("ca.pem")}, ""},
		{"without encryption", encrypted, Security{}, "--tls"},
		{"by an authority that is not known", encrypted, Security{UseTLS: true}, "--tls-ca FILE"},
		{"by another authority", encrypted, Security{CAFile: stranger.file("ca.pem")}, "--tls-ca FILE"},
		{"with a certificate of our own", mutual, Security{CAFile: a.file("ca.pem"), CertificateFile: a.file("client.pem"), KeyFile: a.file("client.key")}, ""},
		{"without a certificate of our own", mutual, Security{CAFile: a.file("ca.pem")}, "--tls-cert FILE"},
		{"to a port without encryption", plaintext, Security{UseTLS: true}, "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := ask(t, &Brokers{Addresses: c.address, Security: c.security})
			var e *command.Error
			switch {
			case c.fix == "" && err != nil:
				t.Error(err)
			case c.fix != "" && (!errors.As(err, &e) || !strings.Contains(e.Fix, c.fix)):
				t.Errorf("got %v, want a way out with %q", err, c.fix)
			}
		})
	}
}

func TestSecuritySettings(t *testing.T) {
	a := newAuthority(t)
	password := a.file("password")
	a.ok(os.WriteFile(password, []byte("from file\r\n"), 0o600))
	for _, c := range []struct {
		name     string
		security Security
		login    Login
		want     string // part of the error or its way out
	}{
		{"nothing", Security{}, Login{}, ""},
		{"password from a file", Security{Mechanism: "PLAIN", User: "u", PasswordFile: password}, Login{"plain", "u", "from file"}, ""},
		{"password from a variable", Security{Mechanism: "scram-sha-512", User: "u", passwordVariable: "v"}, Login{"scram-sha-512", "u", "v"}, ""},
		{"user without a mechanism", Security{User: "u"}, Login{}, "--sasl-mechanism is missing"},
		{"unknown mechanism", Security{Mechanism: "gssapi", User: "u"}, Login{}, "scram-sha-256"},
		{"no user", Security{Mechanism: "plain"}, Login{}, "--sasl-user"},
		{"no password", Security{Mechanism: "plain", User: "u"}, Login{}, "MILLSTREAM_SASL_PASSWORD"},
		{"no password file", Security{Mechanism: "plain", User: "u", PasswordFile: a.file("gone")}, Login{}, "--sasl-password-file"},
		{"no authority", Security{CAFile: a.file("gone")}, Login{}, "--tls-ca"},
		{"an authority that is a key", Security{CAFile: a.file("ca.key")}, Login{}, "BEGIN CERTIFICATE"},
		{"certificate without a key", Security{CertificateFile: a.file("ca.pem")}, Login{}, "--tls-key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			login, err := c.security.Login()
			if _, optionsErr := c.security.options(); err == nil {
				err = optionsErr
			}
			if c.want == "" {
				if err != nil || login != c.login {
					t.Errorf("got %+v, %v", login, err)
				}
				return
			}
			var e *command.Error
			if !errors.As(err, &e) || e.Code != command.CodeUsage || !strings.Contains(e.Error()+e.Fix, c.want) {
				t.Errorf("got %v, want a mistake in usage with %q", err, c.want)
			}
		})
	}
}
