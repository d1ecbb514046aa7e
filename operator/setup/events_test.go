package setup

import (
	"fmt"
	"testing"

	eventsv1 "k8s.io/api/events/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// That there is no room is told of each Device, and an API server takes no event whose note is longer than 1024 bytes.
func TestFullPoolOfManyDevicesIsToldByAnEvent(t *testing.T) {
	var nodes []string
	for i := range 14 {
		nodes = append(nodes, fmt.Sprintf("n10000000%02d", i))
	}
	w := newWorld(t, nil, nodes...)
	v := w.volume("v", 11*14*gib, 1)
	w.until("an event that tells it", func() (bool, string) {
		var list eventsv1.EventList
		w.must(w.api.List(t.Context(), &list))
		for i := range list.Items {
			if e := &list.Items[i]; e.Regarding.UID == v.UID && e.Reason == v1alpha1.ReasonNoRoom {
				return true, ""
			}
		}
		return false, fmt.Sprint(len(list.Items), " events")
	})
}
