package v1alpha1

import (
	"math"
	"testing"
)

func TestBytesAreShortForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "0", 0: "0", 1023: "1023", 1024: "1Ki", 4096: "4Ki", 1536 << 20: "1.5Gi", 10 << 30: "10Gi",
		1<<30 - 1: "1023.9Mi", 1 << 40: "1Ti", math.MaxInt64: "7.9Ei",
	} {
		if got := BytesText(n); got != want {
			t.Errorf("BytesText(%d) is %s, want %s", n, got, want)
		}
	}
}
