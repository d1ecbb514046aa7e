package layout

import (
	"errors"
	"fmt"
	"io"
)

// Content is what a Device holds.
type Content uint8

// The contents. Only Empty may be formatted, only Ours may be opened.
const (
	Empty Content = iota + 1
	Ours
	Foreign
	Corrupt
)

// probed is how much is looked at, at the start and at the end of a Device, in bytes.
const probed = 1 << 20

// signatures are what people would rather read than "unknown data".
var signatures = []struct {
	at   int
	text string
	what string
}{
	{1080, "\x53\xef", "an ext2/3/4 filesystem"},
	{0, "XFSB", "an XFS filesystem"},
	{65536 + 64, "_BHRfS_M", "a btrfs filesystem"},
	{0, "LUKS\xba\xbe", "a LUKS volume"},
	{512, "LABELONE", "an LVM physical volume"},
	{4086, "SWAPSPACE2", "swap space"},
	{512, "EFI PART", "a GPT partition table"},
	{3, "NTFS", "an NTFS filesystem"},
	{510, "\x55\xaa", "a partition table or boot sector"},
}

// Probe looks at a Device of size bytes. For Ours s is filled, for Foreign and Corrupt what says why. A Device that is
// Ours may have parts that cannot be read; of any other nothing is said then but the error.
func Probe(r io.ReaderAt, size int64, s *Superblock) (content Content, what string, err error) {
	copied := make([]byte, Unit)
	for _, at := range SuperblockCopies() {
		if _, err := r.ReadAt(copied, at); err == nil && s.Decode(copied) == nil {
			return Ours, "", nil
		}
	}
	head, tail := make([]byte, min(probed, size)), make([]byte, min(probed, size))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, "", fmt.Errorf("read start of device: %w", err)
	}
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return 0, "", fmt.Errorf("read end of device: %w", err)
	}
	damage := ""
	for _, at := range SuperblockCopies() {
		if int64(len(head)) < at+Unit {
			continue
		}
		if problem := s.Decode(head[at : at+Unit]); problem != nil && !errors.Is(problem, ErrNotOurs) {
			damage = problem.Error()
		}
	}
	switch {
	case damage != "":
		return Corrupt, damage, nil
	case isZero(head) && isZero(tail):
		return Empty, "", nil
	}
	return Foreign, nameOf(head), nil
}

func nameOf(head []byte) string {
	for _, s := range signatures {
		if end := s.at + len(s.text); end <= len(head) && string(head[s.at:end]) == s.text {
			return s.what
		}
	}
	return "unknown data"
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
