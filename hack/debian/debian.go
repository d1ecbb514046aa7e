// Package debian installs the Debian packages that a chore needs and a machine lacks.
//
// It asks dpkg first, so on a machine that has everything it costs milliseconds and touches nothing. Only programs
// under hack/ and test/ use it; Shale itself installs nothing.
//
// A fresh machine often upgrades itself at that moment: an installation waits for another. One that is interrupted ends
// after the step of dpkg that runs.
package debian

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"github.com/shale-storage/shale/hack/child"
)

// lockTimeout is for how many seconds apt-get waits for another.
const lockTimeout = "300"

// Need makes sure that the packages are installed. It wants root only if one is missing.
func Need(ctx context.Context, packages ...string) error {
	missing := lacking(ctx, packages)
	if len(missing) == 0 {
		return nil
	}
	slog.Info("Installing Debian packages", "packages", strings.Join(missing, " "))
	install := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)
	if err := aptGet(ctx, install...); err == nil || ctx.Err() != nil {
		return err
	}
	// A fresh machine has no package lists yet, or old ones.
	if err := aptGet(ctx, "update", "-qq"); err != nil {
		return err
	}
	return aptGet(ctx, install...)
}

// lacking are the packages that dpkg does not call installed.
func lacking(ctx context.Context, packages []string) []string {
	var missing []string
	for _, name := range packages {
		query := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name)
		if out, err := query.Output(); err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	return missing
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := child.Shielded(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=" + lockTimeout}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run apt-get %s: %w\n%s", args[0], err, tail(out))
	}
	return nil
}

// tail is the end of a long output: there the reason stands.
func tail(out []byte) []byte {
	const limit = 2000
	return out[max(0, len(out)-limit):]
}
