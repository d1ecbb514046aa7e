package toolbox

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// recipes runs make at the top of the checkout.
func recipes(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	// Go runs a test again only if a file has changed that the test itself has read.
	if _, err := os.ReadFile("../../Makefile"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "make", append([]string{"-C", "../.."}, args...)...)
	for _, variable := range os.Environ() {
		// What a make that runs this test would tell a make below it.
		if !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestARecipeFailsIfItsToolCannotBeBuilt(t *testing.T) {
	for _, target := range []string{"verify", "lint", "unit", "race", "fmt"} {
		if out, err := recipes(t, target, "GO=echo", "TOOL=false"); err == nil {
			t.Errorf("make %s passed without its tool:\n%s", target, out)
		}
	}
}

func TestPartsOfTheTestRunOneAfterTheOther(t *testing.T) {
	out, err := recipes(t, "-j", "8", "test", "GO=go nonsense", "TOOL=false")
	if failed := strings.Count(out, "] Error "); err == nil || failed != 1 {
		t.Errorf("%d parts were begun, want the first alone (%v):\n%s", failed, err, out)
	}
}
