package invariant_test

import (
	"strings"
	"testing"

	"github.com/shale-storage/shale/storenode/invariant"
)

func TestABrokenInvariantPanicsWithItsTerms(t *testing.T) {
	defer func() {
		text, _ := recover().(string)
		if !strings.Contains(text, "epoch 3 after 4") {
			t.Errorf("panic was %q", text)
		}
	}()
	invariant.Check(true, "never seen")
	invariant.Check(false, "epoch %d after %d", 3, 4)
	t.Error("went on")
}
