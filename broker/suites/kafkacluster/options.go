package kafkacluster

import "fmt"

// DefaultVersion is the release of Apache Kafka that a cluster has, unless it is told another.
const DefaultVersion = "4.1.1"

// Option is something about a cluster that is not as usual.
type Option func(*settings)

type settings struct {
	count      int
	version    string
	secured    bool
	features   []string          // name=level
	properties map[string]string // of all nodes
	advertised []string          // by node
}

// OneNode makes a cluster of one node, which is there in five seconds. Nothing is replicated.
func OneNode() Option { return func(s *settings) { s.count = 1 } }

// Version takes another release of Apache Kafka: one that Maven has, with KRaft and without ZooKeeper.
func Version(version string) Option { return func(s *settings) { s.version = version } }

// Feature formats the storage with another level of a feature, such as transaction.version 0: transactions as they
// were before KIP-890.
func Feature(name string, level int) Option {
	return func(s *settings) { s.features = append(s.features, fmt.Sprintf("%s=%d", name, level)) }
}

// Property sets a property of all nodes, as in server.properties.
func Property(name, value string) Option {
	return func(s *settings) {
		if s.properties == nil {
			s.properties = map[string]string{}
		}
		s.properties[name] = value
	}
}

// Secured adds listeners with TLS, for logins and for certificates, and an authorizer: see Security.
func Secured() Option { return func(s *settings) { s.secured = true } }

// formatArgs are what storage is formatted with.
func (c *Cluster) formatArgs() []string {
	var args []string
	for _, f := range c.features {
		args = append(args, "--feature", f)
	}
	if c.security != nil {
		args = append(args, c.security.formatArgs()...)
	}
	return args
}
