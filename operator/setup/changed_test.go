package setup

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func TestAnotherObjectOfTheSameNameIsSeen(t *testing.T) {
	object := func(uid types.UID, generation int64) *v1alpha1.Volume {
		v := &v1alpha1.Volume{}
		v.Name, v.UID, v.Generation = "v", uid, generation
		return v
	}
	before := object("a", 3)
	for name, c := range map[string]struct {
		after *v1alpha1.Volume
		seen  bool
	}{
		"only the status changed":         {object("a", 3), false},
		"the spec changed":                {object("a", 4), true},
		"another, of the same generation": {object("b", 3), true},
	} {
		if got := changed().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: c.after}); got != c.seen {
			t.Errorf("%s: seen %v", name, got)
		}
	}
}
