package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shale-storage/shale/hack/child"
	"github.com/shale-storage/shale/hack/debian"
	"github.com/shale-storage/shale/hack/toolbox"
	"github.com/shale-storage/shale/hack/turn"
)

// Image is one that was built.
type Image struct {
	// Name is the short one: operator, storenode, csi, pause, provisioner, attacher, app.
	Name string
	// Ref is what a pod calls it.
	Ref string
	// Archive is a docker-archive of it.
	Archive string
}

// recipe is how to make an image.
type recipe struct {
	name string
	// file is the Dockerfile, from the top of the checkout; the target is called like the image.
	file string
	// binary is the file below /out that the target copies.
	binary string
	// based is true if the target stands on BASE.
	based bool
}

const (
	ownFile = "Dockerfile"
	labFile = "hack/images/lab.Dockerfile"
)

var recipes = []recipe{
	{name: "operator", file: ownFile, binary: "operator"},
	{name: "storenode", file: ownFile, binary: "storenode"},
	{name: "csi", file: ownFile, binary: "csi", based: true},
	{name: "pause", file: labFile, binary: "pause"},
	{name: "provisioner", file: labFile, binary: "csi-provisioner"},
	{name: "attacher", file: labFile, binary: "csi-attacher"},
	{name: "app", file: labFile, binary: "verifier", based: true},
}

// packages are the main packages of the binaries that are ours; the others are the toolbox's.
var packages = map[string]string{
	"operator": "./operator", "storenode": "./storenode", "csi": "./csi",
	"pause": "./hack/images/pause", "verifier": "./test/verifier",
}

// Names are all images.
func Names() []string {
	names := make([]string, 0, len(recipes))
	for _, r := range recipes {
		names = append(names, r.name)
	}
	return names
}

// Archives are the paths of the images' archives.
func Archives(all []Image) []string {
	paths := make([]string, 0, len(all))
	for _, image := range all {
		paths = append(paths, image.Archive)
	}
	return paths
}

// builder is one call of Build.
type builder struct {
	// root is the checkout, dir the cache.
	root, dir string
	refs      map[string]string
	base      base
}

// Build makes the named images, or all.
func Build(ctx context.Context, names ...string) ([]Image, error) {
	wanted, err := choose(names)
	if err != nil {
		return nil, err
	}
	b, err := newBuilder(ctx)
	if err != nil {
		return nil, err
	}
	mine, err := turn.Take(ctx, filepath.Join(b.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer mine.Give()
	if err := b.removeHalfMade(); err != nil {
		return nil, err
	}
	if err := b.compile(ctx, wanted); err != nil {
		return nil, err
	}
	var all []Image
	for _, r := range wanted {
		image, err := b.build(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("build image %s: %w", r.name, err)
		}
		all = append(all, image)
	}
	return all, nil
}

func choose(names []string) ([]recipe, error) {
	if len(names) == 0 {
		return recipes, nil
	}
	var wanted []recipe
	for _, name := range names {
		i := slices.IndexFunc(recipes, func(r recipe) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no image %q; there are: %s", name, strings.Join(Names(), " "))
		}
		wanted = append(wanted, recipes[i])
	}
	return wanted, nil
}

func newBuilder(ctx context.Context) (*builder, error) {
	root, err := toolbox.Root(ctx)
	if err != nil {
		return nil, err
	}
	cache, err := toolbox.Cache()
	if err != nil {
		return nil, err
	}
	b := &builder{root: root, dir: filepath.Join(cache, "images")}
	if err := os.MkdirAll(b.out(), 0o755); err != nil {
		return nil, fmt.Errorf("make cache of images: %w", err)
	}
	if b.refs, err = readRefs(filepath.Join(root, "charts", "shale")); err != nil {
		return nil, err
	}
	b.base = newBase(b.dir)
	return b, nil
}

// out is the directory of binaries; it becomes /out.
func (b *builder) out() string { return filepath.Join(b.dir, "binaries", "out") }

// compile puts the binaries of the wanted images in out.
func (b *builder) compile(ctx context.Context, wanted []recipe) error {
	for _, r := range wanted {
		path, own := packages[r.binary]
		target := filepath.Join(b.out(), r.binary)
		if own {
			cmd := child.Command(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target, path)
			cmd.Dir = b.root
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("compile %s: %w\n%s", path, err, out)
			}
			continue
		}
		box, err := toolbox.Build(ctx, r.binary)
		if err != nil {
			return err
		}
		if err := copyFile(box.Path(r.binary), target); err != nil {
			return fmt.Errorf("copy %s: %w", r.binary, err)
		}
	}
	return nil
}

func copyFile(from, to string) error {
	_ = os.Remove(to)
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// build makes the archive of one image unless the cache has it.
func (b *builder) build(ctx context.Context, r recipe) (Image, error) {
	image := Image{Name: r.name, Ref: b.refs[r.name]}
	key, err := b.key(r, image.Ref)
	if err != nil {
		return image, err
	}
	image.Archive = filepath.Join(b.dir, r.name+"-"+key+".tar")
	if now := time.Now(); os.Chtimes(image.Archive, now, now) == nil {
		return image, nil // and it was used just now
	}
	began := time.Now()
	if err := debian.Need(ctx, "buildah", "mmdebstrap"); err != nil {
		return image, err
	}
	if err := b.base.ensure(ctx); err != nil {
		return image, err
	}
	part := image.Archive + ".part"
	_ = os.Remove(part)
	if err := b.bake(ctx, r, image.Ref, part); err != nil {
		return image, err
	}
	if err := os.Rename(part, image.Archive); err != nil {
		return image, fmt.Errorf("keep archive: %w", err)
	}
	if err := b.removeUnused(r.name, time.Now().Add(-keptUnused)); err != nil {
		return image, err
	}
	slog.Info("Built image", "image", image.Ref, "seconds", int(time.Since(began).Seconds()))
	return image, nil
}

// key hashes all that goes into an image.
func (b *builder) key(r recipe, ref string) (string, error) {
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, r.name, ref)
	if r.based {
		_, _ = fmt.Fprintln(hash, b.base.key)
	}
	for _, path := range []string{filepath.Join(b.root, r.file), filepath.Join(b.out(), r.binary)} {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(hash, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("hash %s: %w", path, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}
