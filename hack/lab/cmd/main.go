// Command lab makes and ends a Kubernetes of several nodes on this machine, and plays with their power and cables.
//
//	go run ./hack/lab/cmd up [-nodes 3] [-images]   make it; -images builds and loads Shale's images
//	go run ./hack/lab/cmd status                    what runs
//	go run ./hack/lab/cmd kubectl|helm ARG…         as the administrator
//	go run ./hack/lab/cmd exec NODE ARG…            a command on a node
//	go run ./hack/lab/cmd poweroff|poweron NODE     the plug
//	go run ./hack/lab/cmd cut|heal NODE             the cable (cut-in, cut-out: one direction)
//	go run ./hack/lab/cmd load-images [FILE…]       import image archives; without a file, build and load all of ours
//	go run ./hack/lab/cmd down                      end it, without a trace
//
// A flag -dir before the subcommand chooses another lab.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/shale-storage/shale/hack/images"
	"github.com/shale-storage/shale/hack/lab"
)

func main() {
	dir := flag.String("dir", lab.DefaultDir, "where the lab lives")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: lab [-dir DIR] up|down|status|kubectl|helm|exec|poweroff|poweron|"+
			"cut|cut-in|cut-out|heal|load-images …")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *dir, flag.Arg(0), flag.Args()[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, command string, args []string) error {
	switch command {
	case "up":
		return up(ctx, dir, args)
	case "down":
		return lab.Down(ctx, dir, slog.Default())
	}
	c, err := lab.Open(dir, slog.Default())
	if err != nil {
		return err
	}
	switch command {
	case "status":
		return status(ctx, c)
	case "kubectl":
		return become(c.KubectlLine(args...))
	case "helm":
		return become(c.HelmLine(args...))
	case "load-images":
		return loadImages(ctx, c, args)
	}
	if len(args) == 0 {
		return fmt.Errorf("%s which node? The lab has %v", command, c.NodeNames())
	}
	n, err := c.Node(args[0])
	if err != nil {
		return err
	}
	return onNode(ctx, n, command, args[1:])
}

func up(ctx context.Context, dir string, args []string) error {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	nodes := flags.Int("nodes", 0, "how many nodes (default 3)")
	size := flags.Int64("ssd", lab.DefaultSSDSize, "size of each node's SSD in bytes")
	load := flags.Bool("images", false, "build Shale's images and load them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o := lab.Options{Dir: dir, Nodes: *nodes, SSDSize: *size}
	if *load {
		built, err := images.Build(ctx)
		if err != nil {
			return err
		}
		o.Images = images.Archives(built)
	}
	_, err := lab.Up(ctx, o)
	return err
}

func onNode(ctx context.Context, n *lab.Node, command string, args []string) error {
	switch command {
	case "exec":
		return become(n.Line(args...))
	case "poweroff":
		return n.PowerOff(ctx)
	case "poweron":
		return n.PowerOn(ctx)
	case "cut":
		return n.Cut(ctx)
	case "cut-in":
		return n.CutIncoming(ctx)
	case "cut-out":
		return n.CutOutgoing(ctx)
	case "heal":
		return n.Heal(ctx)
	}
	return fmt.Errorf("there is no subcommand %q; call without arguments for a list", command)
}

func status(ctx context.Context, c *lab.Cluster) error {
	fmt.Println("directory ", c.Dir, "(logs in log/MACHINE)")
	fmt.Println("kubeconfig", c.Kubeconfig(), "(answers within the lab: lab kubectl …)")
	for _, n := range c.Nodes() {
		power := "off"
		if n.IsOn() {
			power = "on"
		}
		fmt.Println(n.Name, n.IP(), n.Zone(), power)
	}
	out, err := c.Kubectl(ctx, nil, "get", "nodes", "--show-labels=false", "--output=wide")
	fmt.Print(string(out))
	return err
}

func loadImages(ctx context.Context, c *lab.Cluster, archives []string) error {
	if len(archives) == 0 {
		built, err := images.Build(ctx)
		if err != nil {
			return err
		}
		archives = images.Archives(built)
	}
	return c.LoadImages(ctx, archives...)
}

// become replaces this process, so that terminal and exit status are the program's.
func become(argv []string) error {
	if err := syscall.Exec(argv[0], argv, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", argv[0], err)
	}
	return nil
}
