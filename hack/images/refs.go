package images

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

const (
	// AppRef is the image of pods in the demo and in tests: a shell and the verifier.
	AppRef = "shale/app:lab"
	// PauseRef is the image that holds a pod's namespaces.
	PauseRef = "localhost/shale-lab/pause:1"
)

// readRefs finds out what the chart calls its images when nothing is set.
func readRefs(chart string) (map[string]string, error) {
	var meta struct {
		AppVersion string `json:"appVersion"`
	}
	var values struct {
		Image    struct{ Prefix, Tag string }
		Sidecars struct{ Provisioner, Attacher string }
	}
	for file, into := range map[string]any{"Chart.yaml": &meta, "values.yaml": &values} {
		text, err := os.ReadFile(filepath.Join(chart, file))
		if err != nil {
			return nil, fmt.Errorf("read names of images: %w", err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			return nil, fmt.Errorf("read names of images from %s: %w", file, err)
		}
	}
	tag := values.Image.Tag
	if tag == "" {
		tag = meta.AppVersion
	}
	own := func(name string) string { return values.Image.Prefix + "/" + name + ":" + tag }
	return map[string]string{
		"operator": own("operator"), "storenode": own("storenode"), "csi": own("csi"),
		"provisioner": values.Sidecars.Provisioner, "attacher": values.Sidecars.Attacher,
		"pause": PauseRef, "app": AppRef,
	}, nil
}
