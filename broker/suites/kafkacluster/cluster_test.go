package kafkacluster

import (
	"net"
	"os"
	"testing"
)

// TestNodesComeBack: a node that is killed closes its port, and takes part again once it is restarted.
func TestNodesComeBack(t *testing.T) {
	if os.Getenv("MILLSTREAM_KAFKA_CLUSTER") == "" {
		t.Skip("NOT RUN: it takes half a minute; MILLSTREAM_KAFKA_CLUSTER=start runs it")
	}
	c := Start(t)
	if len(c.Brokers()) != Nodes {
		t.Fatalf("brokers are %v", c.Brokers())
	}
	c.Kill(2)
	if conn, err := net.Dial("tcp", c.Brokers()[1]); err == nil {
		conn.Close()
		t.Error("a killed node is still there")
	}
	if err := c.Restart(2); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", c.Brokers()[1])
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := c.Restart(2); err == nil {
		t.Error("a node that runs was started again")
	}
}
