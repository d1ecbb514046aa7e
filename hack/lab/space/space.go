package space

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/hack/lab/cgroup"
)

const (
	poll        = 5 * time.Millisecond
	readyWithin = 10 * time.Second
)

// Space is a set of namespaces.
type Space struct {
	// Holder is the pid that keeps it alive; Group is what processes join on entering.
	Holder int
	Group  cgroup.Group
}

// New makes a Space whose holder joins the group.
func New(ctx context.Context, group cgroup.Group) (Space, error) {
	argv := group.Entering("unshare", "--net", "--mount", "--uts", "--propagation", "private", "sleep", "infinity")
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Space{}, fmt.Errorf("start holder of namespaces: %w", err)
	}
	s := Space{Holder: cmd.Process.Pid, Group: group}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for !s.Alive() {
		select {
		case err := <-exited:
			return Space{}, fmt.Errorf("make namespaces (this needs root): unshare ended: %w", err)
		case <-ctx.Done():
			return Space{}, fmt.Errorf("make namespaces: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
	return s, nil
}

// Alive reports whether the holder is ours and holds namespaces: its pid may have become another process.
func (s Space) Alive() bool {
	if s.Holder <= 0 {
		return false
	}
	groups, err := os.ReadFile(s.proc("cgroup"))
	if err != nil || !strings.Contains(string(groups), ":"+s.Group.Path()+"\n") {
		return false
	}
	name, err := os.ReadFile(s.proc("comm"))
	return err == nil && strings.TrimSpace(string(name)) == "sleep"
}

func (s Space) proc(name string) string { return "/proc/" + strconv.Itoa(s.Holder) + "/" + name }

// Entering is a command line that joins the group and the Space and then becomes argv, with the same pid.
func (s Space) Entering(argv ...string) []string {
	enter := []string{"nsenter", "--target", strconv.Itoa(s.Holder), "--net", "--mount", "--uts", "--"}
	return s.Group.Entering(append(enter, argv...)...)
}

// Run runs a command in the Space to its end and returns what it printed on stdout. The error has its stderr.
func (s Space) Run(ctx context.Context, input []byte, argv ...string) ([]byte, error) {
	if !s.Alive() {
		return nil, errors.New("run in namespaces: they are gone; the machine is off")
	}
	line := s.Entering(argv...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Stdin = strings.NewReader(string(input))
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("run %s: %w: %s", strings.Join(argv[:min(len(argv), 4)], " "), err, said(err))
	}
	return out, nil
}

// said is what a failed program wrote to stderr.
func said(err error) string {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return ""
	}
	return strings.TrimSpace(string(exit.Stderr))
}

// Dial connects from within the Space's network. It serves as the Dial of HTTP and Kubernetes clients.
func (s Space) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if ip, _, err := net.SplitHostPort(address); err != nil || net.ParseIP(ip) == nil {
		return nil, fmt.Errorf("dial %s in namespace: want IP:PORT; there are no names in the lab", address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine instead of going back in the wrong namespace.
		runtime.LockOSThread()
		conn, err := s.dialHere(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// dialHere moves the calling thread into the network and connects; the socket stays there for ever.
func (s Space) dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	ns, err := os.Open(s.proc("ns/net"))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter network namespace: %w", err)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
