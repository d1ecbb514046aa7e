package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// stateFile marks a directory as a lab's; Down removes no directory without it.
const stateFile = "lab.json"

// state is what another command needs to find the lab again.
type state struct {
	// Nodes is how many; SSDSize is of each.
	Nodes   int
	SSDSize int64
	// Holders are the pids which hold the namespaces, by machine; an entry may be out of date.
	Holders map[string]int
	// Loops are the loop devices that were there before the lab.
	Loops []string
	// Bin and CNI are where the programs are.
	Bin, CNI, Helm string
}

// store keeps the state on disk.
type store struct {
	path string

	mu    sync.Mutex
	state state
}

func (s *store) change(edit func(*state)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.state)
	text, err := json.MarshalIndent(s.state, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of lab: %w", err)
	}
	part := s.path + ".part"
	if err := os.WriteFile(part, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state of lab: %w", err)
	}
	if err := os.Rename(part, s.path); err != nil {
		return fmt.Errorf("write state of lab: %w", err)
	}
	return nil
}

func (s *store) read() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// loadState reads the state of the lab in dir; os.ErrNotExist if there is none.
func loadState(dir string) (*store, error) {
	s := &store{path: filepath.Join(dir, stateFile)}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("read state of lab (is one up? `lab up` makes it): %w", err)
	}
	if err := json.Unmarshal(text, &s.state); err != nil {
		return nil, fmt.Errorf("read state of lab %s: %w", s.path, err)
	}
	return s, nil
}

// claim makes the lab's directory, or finds one that was made by an Up that got no further.
func claim(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
			return fmt.Errorf("use %s for the lab: it is not empty and not a lab's; choose another directory", dir)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look into lab directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make lab directory: %w", err)
	}
	return nil
}
