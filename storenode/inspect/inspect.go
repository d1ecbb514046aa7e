package inspect

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// state is a Device as it would be opened.
type state struct {
	file  *os.File
	size  int64
	super layout.Superblock
	// bad is the number of a damaged superblock copy, -1 if none is.
	bad int
	*store.Recovered
}

// read recovers the state of a Device that nobody uses. boot names this run of the machine.
func read(path string, boot uint64) (*state, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open device (is it in use?): %w", err)
	}
	s := &state{file: f}
	if err := s.recover(boot); err != nil {
		return nil, errors.Join(fmt.Errorf("read device %s: %w", path, err), f.Close())
	}
	return s, nil
}

func (s *state) recover(boot uint64) (err error) {
	if err := unix.Flock(int(s.file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return fmt.Errorf("it is in use, stop its storenode first: %w", err)
	}
	if s.size, err = s.file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	content, what, err := layout.Probe(s.file, s.size, &s.super)
	switch {
	case err != nil:
		return err
	case content == layout.Empty:
		return fmt.Errorf("it is empty: %w", layout.ErrNotOurs)
	case content == layout.Foreign:
		return fmt.Errorf("it holds %s: %w", what, layout.ErrNotOurs)
	}
	if s.super, s.bad, err = store.ReadSuperblock(s.file, s.size); err != nil {
		return err
	}
	s.Recovered, err = store.Recover(s.file, &s.super, boot)
	return err
}

// Show prints what a Device holds.
func Show(w io.Writer, path string, boot uint64) error {
	s, err := read(path, boot)
	if err != nil {
		return err
	}
	defer s.file.Close() //nolint:errcheck // it was only read
	p := &printer{w: w}
	s.show(p, path)
	return p.err
}

func (s *state) show(p *printer, path string) {
	p.line("device      %s", path)
	p.line("uuid        %s", s.super.UUID)
	p.line("pool        %s", s.super.Pool)
	p.line("size        %s", bytes(s.super.Size))
	if s.bad >= 0 {
		p.line("superblock  copy %d is damaged", s.bad)
	} else {
		p.line("superblock  both copies are right")
	}
	p.line("space       %s, %s used, %s promised", bytes(s.super.Capacity()),
		bytes(int64(s.Table.Used())*layout.ExtentSize), bytes(s.Table.Reserved))
	p.line("checkpoint  %d in area %d%s", s.Checkpoint.Generation, s.Area,
		when(s.Fallback, ", the other one is damaged, and may be newer"))
	p.line("shutdown    %s", s.shutdown())
	p.line("journal     %s, frames from %d to %d, %d records", bytes(s.super.JournalSize), s.Checkpoint.Frame,
		s.NextFrame, s.Replayed)
	if s.Verified > 0 {
		p.line("            %d blocks looked at, %d are still in the journal, %d hold what they held before, %d are damaged",
			s.Verified, len(s.Carried), s.Reverted, len(s.Damaged))
	}
	count := 0
	s.Table.Handles(func(_ uint32, _ *extent.Replica) { count++ })
	p.line("replicas    %d", count)
	s.Table.Handles(func(_ uint32, r *extent.Replica) { showReplica(p, r) })
}

func (s *state) shutdown() string {
	switch {
	case s.PowerLost:
		return "power was lost; writes that were not flushed may be missing"
	case s.Checkpoint.Clean && s.Replayed == 0:
		return "in order"
	}
	return "the process ended without closing it"
}

func showReplica(p *printer, r *extent.Replica) {
	p.line("")
	p.line("replica     %s", r.Key)
	p.line("  size      %s, %s used", bytes(r.Size), bytes(int64(r.Used)*layout.ExtentSize))
	p.line("  writes    last is %d, attachment generation %d", r.LastSeq, r.Generation)
	if r.Record.Epoch == 0 {
		p.line("  record    none yet")
		return
	}
	p.line("  record    epoch %d, primary %d, in sync %s", r.Record.Epoch, r.Record.Primary, list(r.Record.InSync))
	for _, c := range r.Record.Replicas {
		p.line("            replica %d on device %s at %s", c.ID, c.Device, c.Address)
	}
}

func list(ids []ident.ReplicaID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = fmt.Sprint(id)
	}
	return strings.Join(texts, " ")
}

func when(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

// bytes is a size for people.
func bytes(n int64) string {
	const unit = 1024
	value, names := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; value >= unit && i < len(names)-1; i++ {
		value /= unit
	}
	return strings.Replace(fmt.Sprintf("%.1f %s", value, names[i]), ".0 ", " ", 1)
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
