package kafkacluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The users that a guarded cluster knows, by PLAIN and by both kinds of SCRAM. Neither may do anything before
// kadm.CreateACLs, over Brokers of the cluster, gives it the right.
const (
	User     = "mill"
	Password = "grind-0f-c0rn"
	// Certified is the user that Certificate speaks for.
	Certified = "CN=client"
)

// Security is how a cluster that was started with Secured is reached. Files are in PEM form.
type Security struct {
	Brokers            []string // with TLS and a login by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	CertificateBrokers []string // with TLS, for clients that have a certificate of the authority
	Authority          string   // file of the certificate that vouches for the brokers
	Certificate, Key   string   // files of a client
	server             string   // file of the servers' key and certificate
}

// Security tells how a guarded cluster is reached; nil if it was not started with Secured.
func (c *Cluster) Security() *Security { return c.security }

// properties are those of a node's guarded listeners. Who comes by the open listener, nodes among themselves too, is
// "ANONYMOUS" to Kafka, and may do everything.
func (s *Security) properties() string {
	login := func(mechanism, module, more string) string {
		return fmt.Sprintf("listener.name.sasl_ssl.%s.sasl.jaas.config=org.apache.kafka.common.security.%s required%s;\n", mechanism, module, more)
	}
	var b strings.Builder
	b.WriteString("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n" +
		"super.users=User:ANONYMOUS\nallow.everyone.if.no.acl.found=false\n" +
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n" +
		"listener.name.ssl.ssl.client.auth=required\n")
	b.WriteString(login("plain", "plain.PlainLoginModule", fmt.Sprintf(` user_%s="%s"`, User, Password)))
	b.WriteString(login("scram-sha-256", "scram.ScramLoginModule", ""))
	b.WriteString(login("scram-sha-512", "scram.ScramLoginModule", ""))
	for _, listener := range []string{"sasl_ssl", "ssl"} {
		fmt.Fprintf(&b, "listener.name.%[1]s.ssl.keystore.type=PEM\nlistener.name.%[1]s.ssl.keystore.location=%[2]s\n"+
			"listener.name.%[1]s.ssl.truststore.type=PEM\nlistener.name.%[1]s.ssl.truststore.location=%[3]s\n", listener, s.server, s.Authority)
	}
	return b.String()
}

// formatArgs put the users' SCRAM credentials into the storage.
func (s *Security) formatArgs() []string {
	var args []string
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password))
	}
	return args
}

// newSecurity makes an authority and what it vouches for.
func newSecurity(dir string) (*Security, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	s := &Security{Authority: file("ca.pem"), Certificate: file("client.pem"), Key: file("client.key"), server: file("server.pem")}
	ca, err := issue("ca", nil)
	if err != nil {
		return nil, err
	}
	server, err := issue("server", ca)
	if err != nil {
		return nil, err
	}
	client, err := issue("client", ca)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{
		s.Authority: ca.certificatePEM, s.server: append(server.keyPEM, server.certificatePEM...),
		s.Certificate: client.certificatePEM, s.Key: client.keyPEM,
	} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// identity is a key with its certificate.
type identity struct {
	certificate            *x509.Certificate
	key                    *ecdsa.PrivateKey
	certificatePEM, keyPEM []byte
}

// issue makes an identity for this machine's loopback address that by vouches for; nil: an authority.
func issue(name string, by *identity) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	parent, signer := template, key
	if by == nil {
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &identity{
		certificate: certificate, key: key,
		certificatePEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}
