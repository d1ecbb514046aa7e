package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// goneWithin bounds the wait for a component that was ended.
const goneWithin = 20 * time.Second

// keeping starts a program again whenever it ends, as a kubelet does with a static pod, and says so in its log. It is a
// shell because the lab's commands end and the component does not. $0 is the component's name. Nothing is left without
// its keeper: the program dies with it, also if somebody kills the keeper alone.
const keeping = `while :; do
	setpriv --pdeathsig KILL -- "$@"
	status=$?
	echo "$(date --iso-8601=seconds) lab: $0 ended with status $status and is started again"
	sleep 1
done`

// kept is a command line that runs argv and runs it again. Its process leads the group of all that it starts.
func kept(name string, argv []string) []string {
	return append([]string{"/bin/sh", "-c", keeping, name}, argv...)
}

func (w where) pidFile(name string) string { return filepath.Join(w.dir, name+".pid") }

// running is the process group of a component that runs, or is about to be started again; 0 if there is none.
func (w where) running(name string) (int, error) {
	text, err := os.ReadFile(w.pidFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read pid file of %s: %w", name, err)
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read pid file of %s: %w", name, err)
	}
	pids, err := w.space.Group.Pids()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if group, err := unix.Getpgid(pid); err == nil && group == leader {
			return leader, nil
		}
	}
	return 0, nil
}

// end ends a component by SIGKILL, with the keeper that would start it again, and waits until it is gone.
func (w where) end(name string) error {
	leader, err := w.running(name)
	if err != nil {
		return err
	}
	if leader == 0 {
		return fmt.Errorf("end %s: it does not run", name)
	}
	for began := time.Now(); leader != 0; {
		if err := unix.Kill(-leader, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end %s, process group %d: %w", name, leader, err)
		}
		if time.Since(began) > goneWithin {
			return fmt.Errorf("end %s, process group %d: it does not end", name, leader)
		}
		time.Sleep(poll)
		if leader, err = w.running(name); err != nil {
			return err
		}
	}
	return nil
}
