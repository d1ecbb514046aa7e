package pool

import (
	"strings"
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func TestPatternsThatCannotBeReadAreTold(t *testing.T) {
	told := unreadable(&v1alpha1.DeviceSelector{
		Paths: []string{"/dev/nvme[0-3]n1", "/dev/nvme[0n1"}, Models: []string{"X*", "Y["},
	})
	text := strings.Join(told, "; ")
	if len(told) != 2 || !strings.Contains(text, `"/dev/nvme[0n1"`) || !strings.Contains(text, `"Y["`) {
		t.Errorf("told %q", text)
	}
}
