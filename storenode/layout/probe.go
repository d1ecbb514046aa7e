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
	{0, "\xfc\x4e\x2b\xa9", "a part of an md array"},
	{4096, "\xfc\x4e\x2b\xa9", "a part of an md array"},
	{0, "LUKS\xba\xbe", "a LUKS volume"},
	{512, "LABELONE", "an LVM physical volume"},
	{4086, "SWAPSPACE2", "swap space"},
	{512, "EFI PART", "a GPT partition table"},
	{3, "NTFS", "an NTFS filesystem"},
	{510, "\x55\xaa", "a partition table or boot sector"},
}

// Probe looks at a Device of size bytes. For Ours s is filled, for Foreign and Corrupt what says why. A Device that is
// Ours may have parts that cannot be read; of any other nothing is said then but the error. One that was Ours, and that
// somebody else has taken without wiping all of it, is Corrupt: see Taken.
func Probe(r io.ReaderAt, size int64, s *Superblock) (content Content, what string, err error) {
	copied := make([]byte, Unit)
	for _, at := range SuperblockCopies() {
		if _, err := r.ReadAt(copied, at); err != nil || s.Decode(copied) != nil {
			continue
		}
		if taken := Taken(r); taken != "" {
			return Corrupt, taken + " was made on it", nil
		}
		return Ours, "", nil
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

// Taken names what somebody else has made of a Device of ours, by a signature where we have a copy of the Superblock or
// nothing: mkfs, pvcreate or mdadm write little, and leave the other copy, or both. Such a copy must not be repaired,
// nor the Journal and data behind it be written. A copy that is torn or rotten has no signature. What cannot be read
// says nothing.
func Taken(r io.ReaderAt) string {
	unit := make([]byte, Unit)
	for _, s := range signatures {
		start := s.at / Unit * Unit
		if _, err := r.ReadAt(unit, int64(start)); err != nil {
			continue
		}
		if at := s.at - start; string(unit[at:min(at+len(s.text), Unit)]) == s.text {
			return s.what
		}
	}
	return ""
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
