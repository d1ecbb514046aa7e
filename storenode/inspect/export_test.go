package inspect

import (
	"io"

	"github.com/shale-storage/shale/storenode/store"
)

// CheckChanged is Check of what was recovered and then changed.
func CheckChanged(w io.Writer, path string, boot uint64, change func(*store.Recovered)) error {
	s, err := read(path, boot)
	if err != nil {
		return err
	}
	defer s.file.Close()
	change(s.Recovered)
	return s.check(w, path)
}
