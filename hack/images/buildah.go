package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shale-storage/shale/hack/child"
)

// Images that exist only in buildah's storage: what a Dockerfile elsewhere would pull.
func (b *builder) baseRef() string { return "localhost/shale/base:" + b.base.key }

const binariesRef = "localhost/shale/binaries:now"

// bake builds a target and writes its archive.
func (b *builder) bake(ctx context.Context, r recipe, ref, archive string) error {
	if err := b.importBase(ctx); err != nil {
		return err
	}
	empty, err := b.stage(ctx, r.binary)
	if err != nil {
		return err
	}
	// Without a name of its own, the image has in the archive only the one it is pushed under.
	idFile := archive + ".id"
	defer func() { _ = os.Remove(idFile) }()
	err = b.buildah(ctx, "build", "--isolation", "chroot", "--file", filepath.Join(b.root, r.file), "--target", r.name,
		"--build-arg", "BASE="+b.baseRef(), "--build-arg", "GO="+binariesRef, "--pull-never", "--iidfile", idFile, empty)
	if err != nil {
		return err
	}
	id, err := os.ReadFile(idFile)
	if err != nil {
		return fmt.Errorf("read id of image: %w", err)
	}
	image := strings.TrimSpace(string(id))
	if err := b.buildah(ctx, "push", "--quiet", image, "docker-archive:"+archive+":"+ref); err != nil {
		return err
	}
	// The archive is what is kept; the storage would grow with every build. Stages may leave their containers.
	return errors.Join(b.buildah(ctx, "rm", "--all"), b.buildah(ctx, "rmi", "--force", image, binariesRef))
}

// importBase makes an image of the base unless the storage has it.
func (b *builder) importBase(ctx context.Context) error {
	if b.buildah(ctx, "inspect", "--type", "image", b.baseRef()) == nil {
		return nil
	}
	return b.fromFile(ctx, "FROM scratch\nADD "+filepath.Base(b.base.tar)+" /\n", b.base.tar, b.baseRef())
}

// stage makes the image with the binary at /out, and returns an empty directory as context for the targets.
func (b *builder) stage(ctx context.Context, binary string) (string, error) {
	text := "FROM " + b.baseRef() + "\nCOPY " + binary + " /out/" + binary + "\n"
	if err := b.fromFile(ctx, text, filepath.Join(b.out(), binary), binariesRef); err != nil {
		return "", err
	}
	empty := filepath.Join(b.dir, "empty")
	return empty, os.MkdirAll(empty, 0o755)
}

// fromFile builds an image of a Dockerfile's text with one file as context.
func (b *builder) fromFile(ctx context.Context, text, file, ref string) error {
	dir, err := os.MkdirTemp(b.dir, "context-")
	if err != nil {
		return fmt.Errorf("make context: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := copyFile(file, filepath.Join(dir, filepath.Base(file))); err != nil {
		return fmt.Errorf("fill context: %w", err)
	}
	dockerfile := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(dockerfile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write Dockerfile: %w", err)
	}
	return b.buildah(ctx, "build", "--isolation", "chroot", "--pull-never", "--file", dockerfile, "--tag", ref, dir)
}

// buildah runs buildah with a storage of its own.
func (b *builder) buildah(ctx context.Context, args ...string) error {
	argv := append([]string{
		"--storage-driver", "overlay", "--root", filepath.Join(b.dir, "storage"),
		"--runroot", filepath.Join(b.dir, "run"),
	}, args...)
	out, err := child.Command(ctx, "buildah", argv...).CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("run buildah: %w", err)
	}
	const told = 2000
	said := out[max(0, len(out)-told):]
	return fmt.Errorf("run buildah %s: %w\n%s", strings.Join(args[:min(2, len(args))], " "), err, said)
}
