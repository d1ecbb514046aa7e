package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// keptUnused is how long after its last use an archive stays when there is a newer one of its image.
const keptUnused = 24 * time.Hour

// removeHalfMade removes what a build that was killed has left. Only who has the turn to build may call it.
func (b *builder) removeHalfMade() error {
	var failed []error
	for _, pattern := range []string{"*.part", "*.id", "context-*"} {
		failed = append(failed, remove(filepath.Join(b.dir, pattern), nil))
	}
	return errors.Join(failed...)
}

// removeUnused removes the archives of an image that were used last before then.
func (b *builder) removeUnused(image string, then time.Time) error {
	return remove(filepath.Join(b.dir, image+"-*.tar"), func(file os.FileInfo) bool {
		return file.ModTime().Before(then)
	})
}

// remove removes what matches a pattern and, if there is one, a condition.
func remove(pattern string, condition func(os.FileInfo) bool) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		file, err := os.Stat(path)
		if err != nil || condition != nil && !condition(file) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("tidy cache of images: %w", err)
		}
	}
	return nil
}
