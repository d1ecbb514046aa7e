package lab

import (
	"context"
	"fmt"
	"strings"
)

// setUpBridge makes the bridge in the control plane's network. No port forwards to the host: the lab is closed.
func (c *Cluster) setUpBridge(ctx context.Context) error {
	return c.ip(ctx, controlPlane,
		"link set lo up",
		"address add "+serviceIP+"/32 dev lo",
		// Of its own it would take the lowest address of its ports, and change it when that node loses its power.
		"link add "+bridgeName+" address "+hardwareAddress(0)+" type bridge",
		"link set "+bridgeName+" up",
		"address add "+controlIP+prefixLength+" dev "+bridgeName,
	)
}

// port is the end of a node's cable at the bridge.
func (n *Node) port() string { return "port-" + n.Name }

// hardwareAddress of the bridge (0) and of the nodes: locally administered, always the same.
func hardwareAddress(index int) string { return fmt.Sprintf("02:5a:1e:00:00:%02x", index) }

// plug lays the cable from the bridge to a node and sets the routes on both ends.
func (c *Cluster) plug(ctx context.Context, n *Node) error {
	peer := fmt.Sprint(c.space(n.Name).Holder)
	err := c.ip(ctx, controlPlane,
		"link add "+n.port()+" type veth peer name eth0 netns "+peer,
		"link set "+n.port()+" master "+bridgeName+" up",
		"route replace "+podCIDR(n.Index)+" via "+nodeIP(n.Index),
	)
	if err != nil {
		return err
	}
	lines := []string{
		"link set lo up",
		"link set eth0 address " + hardwareAddress(n.Index), // a machine keeps its network card
		"address add " + nodeIP(n.Index) + prefixLength + " dev eth0",
		"link set eth0 up",
		"route add default via " + controlIP,
	}
	for _, other := range c.nodes {
		if other != n {
			lines = append(lines, "route add "+podCIDR(other.Index)+" via "+nodeIP(other.Index))
		}
	}
	return c.ip(ctx, n.Name, lines...)
}

// forward makes a machine route packets of its pods.
func (c *Cluster) forward(ctx context.Context, machine string) error {
	_, err := c.space(machine).Run(ctx, nil, "/bin/sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return fmt.Errorf("switch on forwarding in %s: %w", machine, err)
	}
	return nil
}

// ip runs lines of the ip program in a machine's network.
func (c *Cluster) ip(ctx context.Context, machine string, lines ...string) error {
	if _, err := c.space(machine).Run(ctx, []byte(strings.Join(lines, "\n")+"\n"), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("set up network of %s: %w", machine, err)
	}
	return nil
}

// Cut pulls the node's network cable.
func (n *Node) Cut(ctx context.Context) error {
	n.cluster.log.Info("Cutting network", "node", n.Name)
	return n.cluster.ip(ctx, controlPlane, "link set "+n.port()+" down")
}

// CutIncoming drops what is sent to the node; it can still send.
func (n *Node) CutIncoming(ctx context.Context) error { return n.drop(ctx, controlPlane, n.port()) }

// CutOutgoing drops what the node and its pods send; it still receives.
func (n *Node) CutOutgoing(ctx context.Context) error { return n.drop(ctx, n.Name, "eth0") }

// drop gives one end of the cable a queue without room, so that it sends nothing. Every kernel has that queue.
func (n *Node) drop(ctx context.Context, machine, device string) error {
	n.cluster.log.Info("Dropping all packets in one direction", "node", n.Name, "from", machine)
	argv := []string{"tc", "qdisc", "replace", "dev", device, "root", "pfifo", "limit", "0"}
	if _, err := n.cluster.space(machine).Run(ctx, nil, argv...); err != nil {
		return fmt.Errorf("drop packets of %s: %w", n.Name, err)
	}
	return nil
}

// nobody is a hardware address that no machine has: what is sent there is sent in vain.
const nobody = "02:5a:1e:ff:ff:ff"

// CutTo drops what the node and its pods send to another node, without a word to the sender; all else goes on.
func (n *Node) CutTo(ctx context.Context, other *Node) error {
	n.cluster.log.Info("Dropping packets", "from", n.Name, "to", other.Name)
	return n.misdirect(ctx, other.IP())
}

// CutToControlPlane drops what the node and its pods send to the control plane.
func (n *Node) CutToControlPlane(ctx context.Context) error {
	n.cluster.log.Info("Dropping packets", "from", n.Name, "to", controlPlane)
	return n.misdirect(ctx, controlIP)
}

// misdirect gives the node a wrong hardware address of a neighbour. No kernel lacks that, packet filters it may.
func (n *Node) misdirect(ctx context.Context, address string) error {
	return n.cluster.ip(ctx, n.Name, "neighbour replace "+address+" lladdr "+nobody+" nud permanent dev eth0")
}

// Heal takes back Cut, CutIncoming, CutOutgoing, CutTo and CutToControlPlane of this node.
func (n *Node) Heal(ctx context.Context) error {
	n.cluster.log.Info("Healing network", "node", n.Name)
	for machine, device := range map[string]string{controlPlane: n.port(), n.Name: "eth0"} {
		// Where nothing was replaced there is nothing to delete, which is no error.
		_, _ = n.cluster.space(machine).Run(ctx, nil, "tc", "qdisc", "del", "dev", device, "root")
	}
	if err := n.cluster.ip(ctx, n.Name, "neighbour flush dev eth0 nud permanent"); err != nil {
		return err
	}
	return n.cluster.ip(ctx, controlPlane, "link set "+n.port()+" up")
}
