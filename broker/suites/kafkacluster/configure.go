package kafkacluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// listenersOfNode is how many ports a node has at most: for everybody, for the controllers, for logins, for
// certificates, behind what is advertised.
const listenersOfNode = 5

// configure finds ports and writes the configurations.
func (c *Cluster) configure() error {
	ports, err := freePorts(listenersOfNode * c.count)
	if err != nil {
		return err
	}
	if n := len(c.advertised); n > 0 && n != c.count {
		return fmt.Errorf("%d addresses are advertised by %d nodes", n, c.count)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "log4j2.properties"), log4j, 0o644); err != nil {
		return err
	}
	if c.secured {
		if c.security, err = newSecurity(c.dir); err != nil {
			return err
		}
	}
	voters := make([]string, c.count)
	for i := range voters {
		voters[i] = fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[listenersOfNode*i+1])
	}
	for i := range c.count {
		own := ports[listenersOfNode*i : listenersOfNode*(i+1)]
		n := &node{
			c: c, number: i + 1, address: loopback(own[0]),
			config: filepath.Join(c.dir, fmt.Sprintf("node%d.properties", i+1)),
			log:    filepath.Join(c.dir, fmt.Sprintf("node%d.log", i+1)),
		}
		c.nodes = append(c.nodes, n)
		if err := os.WriteFile(n.config, []byte(c.propertiesOf(n, own, voters)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// propertiesOf is a node's configuration. Of a property that is there twice, Kafka takes the last.
func (c *Cluster) propertiesOf(n *node, ports []int, voters []string) string {
	listeners := "PLAINTEXT://" + n.address
	protocols := "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
	guarded := ""
	if c.security != nil {
		login, mutual := loopback(ports[2]), loopback(ports[3])
		c.security.Brokers = append(c.security.Brokers, login)
		c.security.CertificateBrokers = append(c.security.CertificateBrokers, mutual)
		listeners += ",SASL_SSL://" + login + ",SSL://" + mutual
		protocols += ",SASL_SSL:SASL_SSL,SSL:SSL"
		guarded = c.security.properties()
	}
	advertised := listeners
	if c.advertised != nil {
		behind := loopback(ports[4])
		c.behind = append(c.behind, behind)
		listeners += ",BEHIND://" + behind
		advertised += ",BEHIND://" + c.advertised[n.number-1]
		protocols += ",BEHIND:PLAINTEXT"
	}
	text := fmt.Sprintf(properties, n.number, listeners, ports[1], protocols, strings.Join(voters, ","),
		filepath.Join(c.dir, fmt.Sprintf("data%d", n.number)), c.count, min(c.count, 2), advertised) + guarded
	for _, name := range slices.Sorted(maps.Keys(c.properties)) {
		text += name + "=" + c.properties[name] + "\n"
	}
	return text
}

// properties are those of a node: its number, its listeners and their protocols, the port of its controller, the voters, its data;
// how many replicas there are of a topic, and how many have to be there; what it tells clients of its listeners. What is not about replicas on one
// small machine is as Kafka has it, except that groups do not wait for more members to come and that a dead node
// is noticed in five seconds.
const properties = `process.roles=broker,controller
node.id=%[1]d
listeners=%[2]s,CONTROLLER://127.0.0.1:%[3]d
advertised.listeners=%[9]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=%[4]s
controller.quorum.voters=%[5]s
log.dirs=%[6]s
num.partitions=4
default.replication.factor=%[7]d
min.insync.replicas=%[8]d
offsets.topic.replication.factor=%[7]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[7]d
transaction.state.log.min.isr=%[8]d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=%[7]d
share.coordinator.state.topic.min.isr=%[8]d
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
num.io.threads=4
num.network.threads=2
log.cleaner.dedupe.buffer.size=8388608
log.index.size.max.bytes=1048576
`
