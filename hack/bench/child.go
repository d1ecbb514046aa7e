package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// child is a storenode's process, seen from here.
type child struct {
	hello
	path    string
	command *exec.Cmd
	input   io.WriteCloser
	answers chan answer
	// over is closed when the process has nothing to say any more.
	over chan struct{}

	// mu guards orders.
	mu     sync.Mutex
	orders *gob.Encoder
}

// startChild starts a storenode on the file at path; what it asks goes to the keeper.
func startChild(ctx context.Context, o *options, k *keeper, path string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	c := &child{
		path: path, command: exec.CommandContext(ctx, self, "-storenode", path, "-profile", o.profile),
		answers: make(chan answer, 1), over: make(chan struct{}),
	}
	c.command.Stderr = os.Stderr
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.input, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	c.orders = gob.NewEncoder(c.input)
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start storenode: %w", err)
	}
	said := gob.NewDecoder(out)
	if err := c.greeted(said); err != nil {
		return nil, errors.Join(fmt.Errorf("start storenode on %s: %w", path, err), c.command.Wait())
	}
	go c.listen(k, said)
	return c, nil
}

// greeted waits for the hello; a process that says none is ended.
func (c *child) greeted(from *gob.Decoder) error {
	late := time.AfterFunc(patience, func() { _ = c.command.Process.Kill() }) // it may have ended meanwhile
	defer late.Stop()
	return from.Decode(&c.hello)
}

// listen hands on what the storenode says, to its end.
func (c *child) listen(k *keeper, from *gob.Decoder) {
	defer k.ended(c)
	defer close(c.over)
	for {
		var s said
		if err := from.Decode(&s); err != nil {
			return // it has ended; why, it says on stderr
		}
		switch {
		case s.Proposal != nil:
			k.proposed(c, *s.Proposal)
		case s.Answer != nil:
			c.answers <- *s.Answer
		case len(s.Silent) > 0:
			k.silent(c, s.Silent)
		}
	}
}

// tell gives an order and does not wait.
func (c *child) tell(o order) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.orders.Encode(o); err != nil {
		return fmt.Errorf("tell storenode on %s: %w", c.path, err)
	}
	return nil
}

// ask gives an order and waits until it and all before are done.
func (c *child) ask(o order) (answer, error) {
	o.Ask = true
	if err := c.tell(o); err != nil {
		return answer{}, err
	}
	select {
	case a := <-c.answers:
		return a, nil
	case <-c.over:
		return answer{}, fmt.Errorf("ask storenode on %s: it has ended", c.path)
	case <-time.After(patience):
		return answer{}, fmt.Errorf("ask storenode on %s: no answer within %s", c.path, patience)
	}
}

// stop ends the process in order.
func (c *child) stop() error {
	err := c.input.Close()
	late := time.AfterFunc(patience, func() { _ = c.command.Process.Kill() }) // Wait tells of it
	defer late.Stop()
	<-c.over
	if waited := c.command.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("stop storenode on %s: %w", c.path, waited))
	}
	return err
}

// cpu is the time that a process has used.
func (c *child) cpu() time.Duration { return cpuOf(c.command.Process.Pid) }
