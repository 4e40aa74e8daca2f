package kafkacluster

// Advertise gives each node one more listener, which tells clients an address that is not its own: that of a proxy,
// say, which carries their connections on to Behind. One address for each node.
func Advertise(addresses ...string) Option {
	return func(s *settings) { s.advertised = addresses }
}

// Behind are the addresses of the listeners that Advertise has made, in the order of the nodes.
func (c *Cluster) Behind() []string { return c.behind }
