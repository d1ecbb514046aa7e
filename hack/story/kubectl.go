package story

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/template"
	"time"
)

//go:embed manifests
var manifests embed.FS

// poll is how often a wait looks.
const poll = 200 * time.Millisecond

// ApplyFrom renders a manifest and applies it.
func (p *Place) ApplyFrom(ctx context.Context, files fs.FS, name string, values any) error {
	t, err := template.ParseFS(files, "manifests/"+name)
	if err != nil {
		return fmt.Errorf("parse manifest %s: %w", name, err)
	}
	var text strings.Builder
	if err := t.Execute(&text, values); err != nil {
		return fmt.Errorf("render manifest %s: %w", name, err)
	}
	_, err = p.Kubectl(ctx, []byte(text.String()), "apply", "-f", "-")
	return err
}

// Get reads objects by kubectl's arguments into one of their Go types.
func (p *Place) Get(ctx context.Context, into any, args ...string) error {
	out, err := p.Kubectl(ctx, nil, append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("read answer of kubectl get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (s *Story) apply(ctx context.Context, name string, values any) error {
	return s.ApplyFrom(ctx, manifests, name, values)
}

// until asks condition again and again; the error names what was waited for and what it said last. A condition that
// returns errGiveUp ends the wait at once.
func (s *Story) until(
	ctx context.Context, limit time.Duration, what string, condition func(context.Context) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	said := began
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errGiveUp) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ctx.Err() == nil {
			last = err
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			s.Say("  … waiting for %s, %s so far: %v", what, time.Since(began).Round(time.Second), last)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: not within %s: %w", what, time.Since(began).Round(time.Second), last)
		case <-time.After(poll):
		}
	}
}

// errGiveUp says that waiting on is useless.
var errGiveUp = errors.New("it cannot become so any more")
